"""Pyro's echo server, to try programs with."""

from __future__ import annotations

import argparse
from typing import Any

import broker
from broker.compat import configuration, naming
from broker.compat.daemon import Daemon
from broker.compat.exposure import expose, oneway
from broker.compat.proxy import Proxy

expose(broker.EchoServer)  # what is inherited needs the marks of Pyro too


@expose
class EchoServer(broker.EchoServer):
    """Ours, and what Pyro's has besides."""

    oneway_echo, oneway_slow = oneway(broker.EchoServer.oneway_echo), oneway(broker.EchoServer.oneway_slow)
    _must_shutdown = False

    def error(self, text: str = "this is the generated error from echoserver echo() method") -> None:
        super().error(text)

    def error_with_text(self) -> None:
        self.error("the message of the error")

    def __dunder__(self) -> str:
        return "should be allowed (dunder)"

    def shutdown(self) -> None:
        super().shutdown()
        self._must_shutdown = True


def main(args: Any = None, returnWithoutLooping: bool = False) -> Any:
    """The echo server as a command; or gives (daemon, echo server, URI)."""
    parser = argparse.ArgumentParser(description="Pyro test echo/nameserver command line launcher.")
    parser.add_argument("-H", "--host", default="localhost", help="hostname to bind server on (default=%(default)s)")
    parser.add_argument("-p", "--port", type=int, default=0, help="port to bind server on")
    parser.add_argument("-u", "--unixsocket", help="Unix domain socket name to bind server on")
    parser.add_argument("-n", "--naming", action="store_true", help="register with nameserver")
    parser.add_argument("-N", "--nameserver", action="store_true", help="also start a nameserver")
    parser.add_argument("-v", "--verbose", action="store_true", help="verbose output")
    parser.add_argument("-q", "--quiet", action="store_true", help="don't output anything")
    given = parser.parse_args(args)

    def say(text: str, wanted: bool = not given.quiet) -> None:
        if wanted or given.verbose:
            print(text, flush=True)

    say("Starting Pyro's built-in test echo server.")
    configuration.config.SERVERTYPE = "multiplex"
    server = naming.start_ns(given.host) if given.nameserver else ()
    echo, daemon = EchoServer(given.verbose), Daemon(given.host, given.port, given.unixsocket)
    uri = daemon.register(echo, "test.echoserver")
    if given.naming or server:
        with Proxy(server[0]) if server else naming.locate_ns() as names:
            names.register("test.echoserver", uri)
            say(f"using name server at {names._pyroUri}", wanted=False)
    else:
        say("not using a name server.", wanted=False)
    say(f"object name: test.echoserver\necho uri: {uri}\nechoserver running.")
    if returnWithoutLooping:
        return daemon, echo, uri
    with daemon:
        daemon.requestLoop(loopCondition=lambda: not echo._must_shutdown)
    return None

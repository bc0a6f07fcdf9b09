"""Pyro's echo server, to try programs with."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

from broker.compat.configuration import config
from broker.compat.daemon import Daemon
from broker.compat.exposure import expose, oneway
from broker.compat.naming import locate_ns, start_ns
from broker.compat.proxy import Proxy


@expose
class EchoServer:
    """Answers with what it is given, and fails and waits on demand."""

    verbose = property(lambda self: self._verbose, lambda self, onoff: setattr(self, "_verbose", bool(onoff)))
    _verbose = _must_shutdown = False

    def _tell(self, text: str) -> None:
        if self._verbose:
            print(f"{time.asctime()} - {text}", flush=True)

    def echo(self, message: Any) -> Any:
        self._tell(f"echo: {message!r}")
        return message

    def error(self) -> None:
        self._tell("error: generating exception")
        raise ValueError("this is the generated error from echoserver echo() method")

    def error_with_text(self) -> None:
        self._tell("error: generating exception")
        raise ValueError("the message of the error")

    @oneway
    def oneway_echo(self, message: Any) -> None:
        self._tell(f"oneway_echo: {message!r}")

    def slow(self) -> str:
        self._tell("slow: waiting a bit...")
        time.sleep(5)
        self._tell("slow: returning result")
        return "Finally, an answer!"

    @oneway
    def oneway_slow(self) -> None:
        self.slow()

    def generator(self) -> Iterator[str]:
        yield from ("one", "two", "three")

    def nan(self) -> float:
        return float("nan")

    def inf(self) -> float:
        return float("inf")

    def __dunder__(self) -> str:
        return "should be allowed (dunder)"

    def shutdown(self) -> None:
        self._tell("shutting down")
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
    config.SERVERTYPE = "multiplex"
    server = start_ns(given.host) if given.nameserver else ()
    echo, daemon = EchoServer(), Daemon(given.host, given.port, given.unixsocket)
    echo._verbose = given.verbose
    uri = daemon.register(echo, "test.echoserver")
    if given.naming or server:
        with Proxy(server[0]) if server else locate_ns() as names:
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

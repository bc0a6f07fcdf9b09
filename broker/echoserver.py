"""`python -m broker.echoserver`: a server to try clients, tools and networks with."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from broker.command_line import add_credentials, add_serving, log_to_stderr, take
from broker.config import config
from broker.daemon import Daemon
from broker.errors import BrokerError
from broker.exposure import behavior, oneway

NAME = "test.echoserver"


@behavior(instance_mode="single")
class EchoServer:
    """Answers with what it is given, and fails, waits and counts on demand."""

    def __init__(self, verbose: bool = False) -> None:
        self._verbose = verbose
        self._daemon: Daemon | None = None

    def _runs_in(self, daemon: Daemon) -> None:
        """What `shutdown` ends."""
        self._daemon = daemon

    @property
    def verbose(self) -> bool:
        """Whether each call is printed."""
        return self._verbose

    @verbose.setter
    def verbose(self, value: bool) -> None:
        self._verbose = value

    def echo(self, message: Any) -> Any:
        """Returns the message as it arrived."""
        self._tell("echo", message)
        return message

    def error(self) -> None:
        """Raises a ValueError."""
        self._tell("error")
        raise ValueError("this is the generated error from echoserver")

    @oneway
    def oneway_echo(self, message: Any) -> None:
        """Takes the message and answers nothing."""
        self._tell("oneway_echo", message)

    def slow(self, seconds: float = 5.0) -> str:
        """Answers after that many seconds."""
        self._tell("slow", seconds)
        time.sleep(seconds)
        return "ok, this took a while!"

    async def slow_async(self, seconds: float = 5.0) -> str:
        """Answers after that many seconds, and holds no thread meanwhile."""
        self._tell("slow_async", seconds)
        await asyncio.sleep(seconds)
        return "ok, this took a while!"

    def now(self) -> datetime:
        """The time at the server, in UTC."""
        self._tell("now")
        return datetime.now(UTC)

    def shutdown(self) -> None:
        """Ends the server."""
        self._tell("shutdown")
        if self._daemon is not None:
            self._daemon.shutdown()

    def _tell(self, what: str, *values: object) -> None:
        if self._verbose:
            shown = ", ".join(map(repr, values))
            print(f"{datetime.now().astimezone():%H:%M:%S} {what}({shown})", flush=True)


_EPILOG = """\
examples:
  broker-echoserver                     on a free port, with the object id test.echoserver
  broker-echoserver -N -v               entered in the name server, and printing each call
  grpcurl -plaintext -d '{"object":"test.echoserver","method":"echo","args":["hello"]}' \\
          HOST:PORT broker.v1.ObjectBroker/Invoke

Ctrl-C and SIGTERM end it. Exit status: 0 done, 1 refused (one line on stderr says why), 2 wrong usage.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="broker-echoserver",
        description="Serves an object that echoes, fails and waits on demand: to try clients, tools and networks with.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-n", "--host", help="where to listen (default: localhost)")
    parser.add_argument("-p", "--port", type=int, default=0, help="the port (default: any free one)")
    parser.add_argument("-u", "--unix-socket", metavar="PATH", help="listen on a Unix socket instead")
    parser.add_argument("-N", "--naming", action="store_true", help=f"enter the name {NAME} in the name server")
    parser.add_argument("-v", "--verbose", action="store_true", help="print each call")
    parser.add_argument(
        "--insecure", action="store_true", help="allow a host that other machines can reach, without TLS"
    )
    add_credentials(parser)
    add_serving(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until Ctrl-C, SIGTERM or a call of shutdown(); returns the exit status."""
    arguments = _parser().parse_args(argv)
    echo = EchoServer(arguments.verbose)
    try:
        log_to_stderr()
        take(arguments)
        insecure = arguments.insecure or config.insecure
        daemon = Daemon(arguments.host, arguments.port, unix_socket=arguments.unix_socket, insecure=insecure)
        echo._runs_in(daemon)
        uri = daemon.register(echo, NAME)
        if arguments.naming:
            daemon.publish(echo, NAME)
    except BrokerError as error:
        print(f"broker-echoserver: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"echo uri: {uri}" + (f"\nname: {NAME}" if arguments.naming else ""))
    daemon._serve_until_told(lambda: print("Echo server running. Ctrl-C ends it.", flush=True))
    print("Echo server shut down.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

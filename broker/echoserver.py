"""`python -m broker.echoserver`: a server to try clients, tools and networks with."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from broker.command_line import add_credentials, add_serving, log_to_stderr, take
from broker.config import config
from broker.daemon import Daemon
from broker.echo import EchoServer
from broker.errors import BrokerError

NAME = "test.echoserver"


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
    try:
        log_to_stderr()
        take(arguments)
        insecure = arguments.insecure or config.insecure
        daemon = Daemon(arguments.host, arguments.port, unix_socket=arguments.unix_socket, insecure=insecure)
        echo = EchoServer(arguments.verbose, on_shutdown=daemon.shutdown)
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

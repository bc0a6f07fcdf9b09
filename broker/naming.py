"""`python -m broker.naming`: runs a name server in the foreground."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from broker.command_line import add_credentials, add_serving, log_to_stderr, port, take
from broker.config import Config
from broker.errors import BrokerError, NamingError
from broker.registry.server import start_ns_loop
from broker.registry.store import check_storage

__all__ = ["main"]

_EPILOG = """\
examples:
  broker-ns                                on localhost:9090, for programs of this machine
  broker-ns -s sqlite:names.db             registrations survive a restart, and a crash
  broker-ns -n 192.0.2.7 --cert ns.pem --key ns.key --ca ca.pem       for other machines, with mutual TLS
  broker-ns -n 192.0.2.7 --insecure        for other machines, without encryption: only in a network that you trust

Programs find it at localhost:9090 by themselves; elsewhere they need BROKER_NS_HOST and BROKER_NS_PORT, or, where it
runs with --broadcast, BROKER_NS_BROADCAST=1.
`broker-nsc list` shows what is registered. Ctrl-C and SIGTERM end it.
Exit status: 0 ended, 1 refused (one line on stderr says why), 2 wrong usage.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a name server until it is told to end, and returns the exit status."""
    arguments = _parser().parse_args(argv)
    insecure = True if arguments.insecure else Config.insecure.unset
    try:
        log_to_stderr()
        take(arguments)
        start_ns_loop(
            arguments.host,
            arguments.port,
            storage=arguments.storage,
            insecure=insecure,
            broadcast=True if arguments.broadcast else Config.ns_broadcast.unset,
        )
    except BrokerError as error:
        print(f"broker-ns: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="broker-ns",
        description="Runs a name server: the phone book in which programs find each other's objects.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-n", "--host", help="the host or address to listen on (default BROKER_NS_HOST, or localhost)")
    parser.add_argument(
        "-p", "--port", type=port, help="the port; 0 takes any free one (default BROKER_NS_PORT, or 9090)"
    )
    parser.add_argument("-s", "--storage", type=_storage, default="memory", help="memory (the default), or sqlite:FILE")
    parser.add_argument("--insecure", action="store_true", help="let other machines connect without TLS")
    parser.add_argument(
        "--broadcast", action="store_true", help="answer who asks the network where it is (BROKER_NS_BROADCAST)"
    )
    add_credentials(parser)
    add_serving(parser)
    return parser


def _storage(text: str) -> str:
    try:
        return check_storage(text)
    except NamingError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())

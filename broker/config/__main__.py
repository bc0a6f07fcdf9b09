"""Shows the configuration: `python -m broker.config`."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence

from broker._version import __version__
from broker.config import Config, InvalidSetting, config

_EPILOG = """\
An item is set by assigning broker.config.<item>, or by BROKER_<ITEM> in the environment; an argument of a constructor
is stronger than both. Exit code: 0, or 1 if an item in the environment has a value that it cannot have.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints versions, every item with its value and where it came from, and variables that are not ours."""
    parser = argparse.ArgumentParser(
        prog="python -m broker.config", description="Shows what broker is configured to.", epilog=_EPILOG
    )
    parser.add_argument("--version", action="version", version=f"objectbroker {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say also what each item is for")
    options = parser.parse_args(arguments)
    _print_versions()
    wrong = [error for name in sorted(Config.items) if (error := _print_item(name, verbose=options.verbose))]
    if foreign := config.foreign():
        print(f"\nnot an item of ours, left alone: {', '.join(foreign)}")
    for error in wrong:
        print(error, file=sys.stderr)
    return 1 if wrong else 0


def _print_versions() -> None:
    import google.protobuf
    import grpc

    print(f"objectbroker {__version__}")
    print(f"Python {platform.python_version()}, grpcio {grpc.__version__}, protobuf {google.protobuf.__version__}")
    print()


def _print_item(name: str, *, verbose: bool) -> InvalidSetting | None:
    item = Config.items[name]
    error = None
    try:
        value = repr(getattr(config, name))
    except InvalidSetting as wrong:
        value, error = "(wrong)", wrong
    print(f"{name:16} = {value:20} {item.source(config)}")
    if verbose:
        print(f"    {item.doc} Accepts {item.accepts}.")
    return error


if __name__ == "__main__":
    sys.exit(main())

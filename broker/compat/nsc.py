"""The name server control tool."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from broker.compat.errors import PyroError
from broker.compat.naming import locate_ns

_PATTERN, _NAME = (1, 1, "requires one argument: pattern"), (1, 1, "requires one argument: name")
_TAGS = (1, 99, "requires at least one metadata tag argument")
_NEEDS = {
    "list": (0, 1, "takes a prefix at most"), "lookup": _NAME, "register": (2, 2, "requires two arguments: name uri"),
    "remove": _NAME, "removematching": _PATTERN, "listmatching": _PATTERN, "yplookup_all": _TAGS,
    "yplookup_any": _TAGS, "setmeta": (1, 99, "requires arguments: uri and zero or more meta tags"),
    "ping": (0, 0, "takes no arguments"), "listmeta_all": _TAGS, "listmeta_any": _TAGS,
}  # fmt: skip


def handle_command(names: Any, command: str, args: list[str]) -> None:
    """Carries a command out. Prints the error, and raises it, if it fails; SystemExit for wrong arguments."""
    try:
        fewest, most, usage = _NEEDS[command]
        if not fewest <= len(args) <= most:
            raise SystemExit(usage)
        _carry_out(names, command, args)
    except Exception as error:
        print(f"Error: {type(error).__name__} - {error}")
        raise


def handleCommand(nameserver: Any, options: object, args: list[str]) -> None:
    """As Pyro4 calls it."""
    handle_command(nameserver, args[0], list(args[1:]))


def _carry_out(names: Any, command: str, args: list[str]) -> None:
    if command == "ping":
        names.ping()
        print("Name server ping ok.")
    elif command in ("list", "listmatching") and args:
        key = "prefix" if command == "list" else "regex"
        _print_list(names.list(**{key: args[0]}, return_metadata=True), f"- {key} '{args[0]}'")
    elif command == "list":
        _print_list(names.list(return_metadata=True), "")
    elif command.endswith(("_all", "_any")):
        _print_list(names.yplookup(**{f"meta_{command[-3:]}": args}), " - searched by metadata")
    elif command == "lookup":
        uri, metadata = names.lookup(args[0], return_metadata=True)
        print(uri, *([f"metadata: {metadata}"] if metadata else []), sep="\n")
    elif command == "register":
        names.register(*args, safe=True)
        print(f"Registered {args[0]}")
    elif command == "remove":
        print(f"Removed {args[0]}" if names.remove(args[0]) else "Nothing removed")
    elif command == "removematching":
        sure = input("Potentially removing lots of items from the Name server. Are you sure (y/n)?").strip()
        if sure in ("y", "Y"):
            print(f"{names.remove(regex=args[0])} items removed.")
    else:
        names.set_metadata(args[0], set(args[1:]))
        print("Metadata updated" if args[1:] else "Metadata cleared")


def _print_list(found: dict[str, Any], title: str) -> None:
    print(f"--------START LIST {title}")
    for name, (uri, metadata) in sorted(found.items()):
        print(f"{name} --> {uri}", *([f"    metadata: {metadata}"] if metadata else []), sep="\n")
    print(f"--------END LIST {title}")


def main(args: Any = None) -> None:
    """The tool as a command. Exits with 1 if the name server is not there, or refuses."""
    parser = argparse.ArgumentParser(description="Pyro name server control utility.")
    parser.add_argument("-n", "--host", help="hostname of the NS", default="")
    parser.add_argument("-p", "--port", type=int, help="port of the NS")
    parser.add_argument("-u", "--unixsocket", help="Unix domain socket name of the NS")
    parser.add_argument("-v", "--verbose", action="store_true", help="verbose output")
    parser.add_argument("command", choices=_NEEDS)
    options, others = parser.parse_known_args(args)
    say = print if options.verbose else lambda *words: None
    say("Locating name server...")
    try:
        names = locate_ns(f"./u:{options.unixsocket}" if options.unixsocket else options.host, options.port)
    except PyroError as error:
        print("Error:", error)
        sys.exit(1)
    say("Name server found:", names._pyroUri)
    try:
        handle_command(names, options.command, others)
    except PyroError:
        sys.exit(1)  # it is printed
    say("Done.")

"""The name server control tool."""

from __future__ import annotations

import argparse
from typing import Any

from broker.compat import errors, naming


def _listed(found: dict[str, Any], title: str = "- searched by metadata") -> str:
    lines = [f"--------START LIST {title}"]
    for name, (uri, metadata) in sorted(found.items()):
        lines += [f"{name} --> {uri}", *([f"    metadata: {metadata}"] if metadata else [])]
    return "\n".join([*lines, f"--------END LIST {title}"])


def _list(names: Any, prefix: str | None = None, regex: str | None = None) -> str:
    title = f"- prefix '{prefix}'" if prefix else f"- regex '{regex}'" if regex else ""
    return _listed(names.list(prefix, regex, return_metadata=True), title)


def _lookup(names: Any, name: str) -> str:
    uri, metadata = names.lookup(name, return_metadata=True)
    return f"{uri}\nmetadata: {metadata}" if metadata else str(uri)


def _removematching(names: Any, pattern: str) -> str:
    sure = input("Potentially removing lots of items from the Name server. Are you sure (y/n)?").strip()
    return f"{names.remove(regex=pattern)} items removed." if sure in ("y", "Y") else ""


_PATTERN, _NAME, _TAGS = "one argument: pattern", "one argument: name", "at least one metadata tag argument"
# Each command: how many arguments it takes, what it says otherwise, and what it does and then says.
_COMMANDS: dict[str, tuple[int, int, str, Any]] = {
    "ping": (0, 0, "no arguments", lambda names: names.ping() or "Name server ping ok."),
    "list": (0, 1, "a prefix at most", _list),
    "listmatching": (1, 1, _PATTERN, lambda names, pattern: _list(names, regex=pattern)),
    "lookup": (1, 1, _NAME, _lookup),
    "register": (2, 2, "two arguments: name uri",
                 lambda names, name, uri: names.register(name, uri, safe=True) or f"Registered {name}"),
    "remove": (1, 1, _NAME, lambda names, name: f"Removed {name}" if names.remove(name) else "Nothing removed"),
    "removematching": (1, 1, _PATTERN, _removematching),
    "setmeta": (1, 99, "arguments: uri and zero or more meta tags", lambda names, name, *tags:
                names.set_metadata(name, {*tags}) or f"Metadata {'updated' if tags else 'cleared'}"),
    "yplookup_all": (1, 99, _TAGS, lambda names, *tags: _listed(names.yplookup(meta_all=tags))),
    "yplookup_any": (1, 99, _TAGS, lambda names, *tags: _listed(names.yplookup(meta_any=tags))),
}  # fmt: skip
_COMMANDS |= {f"listmeta_{which}": _COMMANDS[f"yplookup_{which}"] for which in ("all", "any")}  # as in Pyro4


def handle_command(names: Any, command: str, args: list[str]) -> None:
    """Carries a command out. Prints the error, and raises it, if it fails; SystemExit for wrong arguments."""
    try:
        fewest, most, usage, run = _COMMANDS[command]
        errors.refuse(not fewest <= len(args) <= most, SystemExit, f"{command} requires {usage}")
        print(run(names, *args))
    except Exception as error:
        print(f"Error: {type(error).__name__} - {error}")
        raise


def handleCommand(nameserver: Any, options: object, args: list[str]) -> None:
    """As Pyro4 calls it."""
    handle_command(nameserver, args[0], list(args[1:]))


def main(args: Any = None) -> None:
    """The tool as a command. Exits with 1 if the name server is not there, or refuses."""
    parser = argparse.ArgumentParser(description="Pyro name server control utility.")
    parser.add_argument("-n", "--host", help="hostname of the NS", default="")
    parser.add_argument("-p", "--port", type=int, help="port of the NS")
    parser.add_argument("-u", "--unixsocket", help="Unix domain socket name of the NS")
    parser.add_argument("-v", "--verbose", action="store_true", help="verbose output")
    parser.add_argument("command", choices=_COMMANDS)
    options, others = parser.parse_known_args(args)
    say: Any = print if options.verbose else lambda *words: None
    try:
        say("Locating name server...")
        names = naming.locate_ns(f"./u:{options.unixsocket}" if options.unixsocket else options.host, options.port)
    except errors.PyroError as error:
        print("Error:", error)
        raise SystemExit(1) from None
    say("Name server found:", names._pyroUri)
    try:
        handle_command(names, options.command, others)
    except errors.PyroError:  # it is printed
        raise SystemExit(1) from None
    say("Done.")

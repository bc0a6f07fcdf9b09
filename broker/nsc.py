"""`python -m broker.nsc`: asks the name server, and changes what it holds."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence

from broker.command_line import add_credentials, log_to_stderr, port, take
from broker.errors import BrokerError
from broker.registry.client import NameServer
from broker.registry.locate import locate_ns
from broker.schema import service_name
from broker.uri import URI

__all__ = ["main"]

_EPILOG = """\
examples:
  broker-nsc list                                         every name
  broker-nsc list example.                                names that begin with example. (literal, case-sensitive)
  broker-nsc list --tags-all red,sensor                   names with both tags
  broker-nsc lookup example.warehouse
  broker-nsc register printer BROKER:lp1@host:5000 --tag floor2
  broker-nsc remove --prefix test. --yes
  broker-nsc -n nameserver.example -p 9090 ping

Without -n the name server is looked for at BROKER_NS_HOST and BROKER_NS_PORT, then at localhost:9090.
Exit status: 0 done, 1 refused (one line on stderr says why), 2 wrong usage.
"""

Listing = dict[str, tuple[URI, frozenset[str]]]


class Refused(Exception):
    """The command ends with status 1 and this line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status; argparse itself exits with 2 for wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        log_to_stderr()
        take(arguments)
        with locate_ns(arguments.host, arguments.port) as server:
            arguments.command(server, arguments)
        sys.stdout.flush()
    except (BrokerError, Refused) as error:
        print(f"broker-nsc: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except UnicodeEncodeError as error:
        print(f"broker-nsc: {error.object!r} is no text that can be sent", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough; what is still buffered must not fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


# ---- the commands


def _ping(server: NameServer, arguments: argparse.Namespace) -> None:
    server.ping()
    _show(arguments, {"ok": True, "name_server": str(server.uri)}, "Name server ping ok.")


def _list(server: NameServer, arguments: argparse.Namespace) -> None:
    if arguments.prefix is not None and arguments.regex is not None:
        raise Refused("list by a prefix or by --regex, not by both")
    found = server.list(
        arguments.prefix,
        regex=arguments.regex,
        tags_all=arguments.tags_all,
        tags_any=arguments.tags_any,
        with_tags=True,
    )
    label = _label(arguments)
    lines = [f"--------START LIST{label}"]
    for name, (uri, tags) in found.items():
        lines += [f"{name} --> {uri}", *_more(name, tags)]
    lines.append(f"--------END LIST{label}")
    _show(arguments, {name: _entry(name, uri, tags) for name, (uri, tags) in found.items()}, "\n".join(lines))


def _lookup(server: NameServer, arguments: argparse.Namespace) -> None:
    uri, tags = server.lookup(arguments.name, with_tags=True)
    text = "\n".join([str(uri), *_more(arguments.name, tags)])
    _show(arguments, {"name": arguments.name, **_entry(arguments.name, uri, tags)}, text)


def _register(server: NameServer, arguments: argparse.Namespace) -> None:
    uri = URI(arguments.uri)
    server.register(arguments.name, uri, replace=arguments.replace, tags=arguments.tag, ttl=arguments.ttl)
    _show(
        arguments,
        {"name": arguments.name, **_entry(arguments.name, uri, arguments.tag)},
        f"Registered {arguments.name}",
    )


def _remove(server: NameServer, arguments: argparse.Namespace) -> None:
    if arguments.name is not None:
        if server.remove(arguments.name) == 0:
            raise Refused(f"nothing removed: there is no name {arguments.name!r} that could be")
        _show(arguments, {"removed": 1}, f"Removed {arguments.name}")
        return
    _ask_before_many(server, arguments)
    removed = server.remove(prefix=arguments.prefix, regex=arguments.regex)
    _show(arguments, {"removed": removed}, f"{removed} {'name' if removed == 1 else 'names'} removed.")


def _ask_before_many(server: NameServer, arguments: argparse.Namespace) -> None:
    if arguments.yes or not sys.stdin.isatty():
        return
    names = list(server.list(arguments.prefix, regex=arguments.regex))
    if len(names) < 2:
        return
    print(*names, sep="\n", file=sys.stderr)
    print(f"Remove these {len(names)} names? (y/n) ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("nothing removed")


def _set_tags(server: NameServer, arguments: argparse.Namespace) -> None:
    server.set_tags(arguments.name, arguments.tags)
    tags = sorted(set(arguments.tags))
    text = f"Tags of {arguments.name}: {', '.join(tags)}" if tags else f"{arguments.name} has no tags now"
    _show(arguments, {"name": arguments.name, "tags": tags}, text)


def _count(server: NameServer, arguments: argparse.Namespace) -> None:
    count = server.count()
    _show(arguments, {"count": count}, str(count))


# ---- printing


def _show(arguments: argparse.Namespace, value: object, text: str) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False) if arguments.json else text)


def _more(name: str, tags: frozenset[str]) -> list[str]:
    """What is to be said of a name beside its URI. gRPC knows it as a service, by another name if protobuf has to."""
    service = service_name(name)
    lines = [f"    service: {service}"] if service != name else []
    return [*lines, f"    tags: {', '.join(sorted(tags))}"] if tags else lines


def _entry(name: str, uri: URI, tags: frozenset[str] | list[str]) -> dict[str, object]:
    service = service_name(name)
    own = {"service": service} if service != name else {}
    return {"uri": str(uri), "tags": sorted(set(tags)), **own}


def _label(arguments: argparse.Namespace) -> str:
    given = {
        "prefix": arguments.prefix,
        "regex": arguments.regex,
        "all tags": arguments.tags_all and ",".join(arguments.tags_all),
        "any tag": arguments.tags_any and ",".join(arguments.tags_any),
    }
    return "".join(f" - {what} {text!r}" for what, text in given.items() if text is not None)


# ---- the command line


def _parser() -> argparse.ArgumentParser:
    common = _common_options(argparse.SUPPRESS)
    parser = argparse.ArgumentParser(
        prog="broker-nsc",
        description="Asks the name server which object a name leads to, and changes its names.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common_options(None)],
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[..., None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[common])
        added.set_defaults(command=run)
        return added

    command("ping", _ping, "Tells whether the name server answers.")
    _list_options(command("list", _list, "Lists names with their URIs and tags, sorted."))
    command("lookup", _lookup, "Prints the URI of a name.").add_argument("name", metavar="NAME")
    _register_options(command("register", _register, "Enters a name for a URI."))
    _remove_options(command("remove", _remove, "Removes a name, or many."))
    set_tags = command("set-tags", _set_tags, "Gives a name these tags instead of those that it had.")
    set_tags.add_argument("name", metavar="NAME")
    set_tags.add_argument("tags", metavar="TAG", nargs="*", help="no tag at all takes all tags away")
    command("count", _count, "Prints how many names there are, that of the name server itself included.")
    return parser


def _common_options(default: str | None) -> argparse.ArgumentParser:
    """The options that can stand before and after the command; after it they have no default of their own."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("-n", "--host", default=default, help="the host of the name server")
    options.add_argument("-p", "--port", type=port, default=default, help="its port (default 9090)")
    add_credentials(options, default)
    options.add_argument(
        "--json", action="store_true", default=default or False, help="print JSON, for programs to read"
    )
    return options


def _list_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prefix", metavar="PREFIX", nargs="?", help="only names that begin so, taken literally")
    parser.add_argument("--regex", help="only names that match this regular expression from their start")
    parser.add_argument("--tags-all", type=_tags, metavar="TAG,TAG", help="only names with all of these tags")
    parser.add_argument("--tags-any", type=_tags, metavar="TAG,TAG", help="only names with one of these tags")


def _register_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("uri", metavar="URI", help="for instance BROKER:obj_1@localhost:51294")
    parser.add_argument("--tag", action="append", default=[], help="a label; can be given several times")
    parser.add_argument("--ttl", type=_seconds, metavar="SECONDS", help="how long it lives (default: until removed)")
    parser.add_argument(
        "--replace", action=argparse.BooleanOptionalAction, default=False, help="take a name that is there already"
    )


def _remove_options(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("name", metavar="NAME", nargs="?")
    which.add_argument("--prefix", help="all names that begin so, taken literally")
    which.add_argument("--regex", help="all names that match this regular expression from their start")
    parser.add_argument("-y", "--yes", action="store_true", help="remove many without asking on a terminal")


def _tags(text: str) -> list[str]:
    return [tag for tag in text.split(",") if tag]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"a time to live is a number of seconds above 0, not {text!r}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())

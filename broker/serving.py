"""`serve`: objects on the network in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from broker.config import Config
from broker.daemon import Daemon
from broker.registry.locate import locate_ns

Objects = Mapping[Any, Any] | Iterable[tuple[Any, Any]]


def serve(
    objects: Objects,
    host: str | None = None,
    port: int = Config.port.unset,
    *,
    daemon: Daemon | None = None,
    use_ns: bool = True,
    tags: Iterable[str] = (),
    wait: float = Config.wait.unset,
    block: bool = True,
    verbose: bool = True,
) -> Daemon:
    """Puts objects on the network: `serve({obj: "example.warehouse"})`.

    `objects` is {object: name}, {name: object}, or pairs of either for objects that cannot be keys. A name of None
    gives a generated id and no name. With `use_ns=False` the string is the object id, and no name server is needed.
    `wait` keeps looking for the name server that many seconds. Blocks until Ctrl-C, SIGTERM or `daemon.shutdown()`;
    with `block=False` it returns the daemon, started. Raises NamingError, DaemonError.
    """
    pairs = _pairs(objects)
    _check_distinct([name for _, name in pairs if name is not None])
    own = daemon is None
    daemon = daemon or Daemon(host, port)
    try:
        _register_all(daemon, pairs, use_ns, tuple(tags), Config.wait.pick(wait), verbose)
        if block:
            daemon._serve_until_told(lambda: _say_running(verbose))
        else:
            daemon.start()
            _say_running(verbose)
    except BaseException:
        if own:
            daemon.shutdown(grace=0)
        raise
    return daemon


def _say_running(verbose: bool) -> None:
    if verbose:
        print("Broker daemon running.", flush=True)


def _pairs(objects: Any) -> list[tuple[object, str | None]]:
    if isinstance(objects, Mapping):
        return [_object_and_name(pair) for pair in objects.items()]
    if not isinstance(objects, Iterable):
        raise TypeError(f"serve() takes objects with their names, {{object: name}}, not {objects!r}")
    return [_object_and_name(pair) for pair in objects]


def _check_distinct(names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"serve() got the name {twice[0]!r} for more than one object: give each a name of its own")


def _object_and_name(pair: Any) -> tuple[object, str | None]:
    if not (isinstance(pair, tuple | list) and len(pair) == 2):
        raise TypeError(
            f"serve() takes objects with their names, {{object: name}} or pairs of them, and {pair!r} is no pair"
        )
    first, second = pair
    if isinstance(second, str) or second is None:
        return first, second
    if isinstance(first, str):
        return second, first
    raise TypeError(f"serve() takes objects with their names; one of {first!r} and {second!r} must be a str or None")


def _register_all(
    daemon: Daemon,
    pairs: list[tuple[object, str | None]],
    use_ns: bool,
    tags: tuple[str, ...],
    wait: float,
    verbose: bool,
) -> None:
    names = (
        locate_ns(wait=wait, credentials=daemon._own_credentials)
        if use_ns and any(name is not None for _, name in pairs)
        else None
    )
    try:
        for obj, name in pairs:
            uri = daemon._uri_of(obj) or daemon.register(obj, None if use_ns else name)
            if verbose:
                print(f"Object {obj!r}:\n    uri = {uri}", file=sys.stdout)
            if names is not None and name is not None:
                names.register(name, uri, tags=tags)
                if verbose:
                    print(f"    name = {name}")
    finally:
        if names is not None:
            names.close()

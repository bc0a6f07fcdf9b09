"""Where the name server is, and what names and tags lead to."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from itertools import chain
from random import Random

from broker.config import Config, config
from broker.connection.channels import ChannelSecurity
from broker.errors import NameNotFound, NamingError
from broker.registry.client import NameServer
from broker.registry.discovery import discover_ns
from broker.registry.link import PATIENCE, NoNameServer
from broker.security import default_credentials
from broker.uri import DIRECT, NAME, URI, join_host_port

__all__ = ["DEFAULT_PORT", "candidates", "locate_ns", "resolve"]

_random = Random()  # the one of the module is the program's: drawing from it would change what a seed gives
DEFAULT_PORT = 9090
_POLL_SECONDS = 0.2
_MOST_ALIASES = 8

# By process id, since children need their own, by the places that were asked, and as whom.
_shared: dict[tuple[int, tuple[tuple[str, int], ...], ChannelSecurity | None], NameServer] = {}


def locate_ns(
    host: str | None = None,
    port: int | None = None,
    *,
    wait: float = Config.wait.unset,
    credentials: ChannelSecurity | None = None,
    broadcast: bool = Config.ns_broadcast.unset,
) -> NameServer:
    """Finds the name server and returns it, connected.

    With `host` it is asked for there alone. Otherwise it is asked for at BROKER_NS_HOST and BROKER_NS_PORT, then at
    localhost:9090, then with `broadcast` at the place that somebody in the network names, who is believed. `wait` keeps
    trying for that many seconds; `credentials` are as those of a proxy. Raises NamingError, which lists the places
    tried, and AccessDenied.
    """
    credentials = credentials if credentials is not None else default_credentials()
    broadcast = host is None and Config.ns_broadcast.pick(broadcast)
    deadline = time.monotonic() + Config.wait.pick(wait)
    while True:
        try:
            return _found(_places(host, port), PATIENCE, credentials, broadcast)
        except NamingError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_POLL_SECONDS)


def resolve(uri: str | URI, *, wait: float = Config.wait.unset, credentials: ChannelSecurity | None = None) -> URI:
    """The BROKER URI that a URI leads to: a name is looked up, tags give one at random of the objects with all of them.

    `wait` keeps trying for that many seconds for a name, or a name server, that is not there yet. Raises NameNotFound
    for an unknown name, NamingError where nothing has the tags or no name server answers, and InvalidURI.
    """
    return candidates(uri, wait=wait, credentials=credentials)[0]


def candidates(
    uri: str | URI,
    *,
    wait: float = Config.wait.unset,
    patience: float = PATIENCE,
    credentials: ChannelSecurity | None = None,
) -> list[URI]:
    """Every BROKER URI that a URI leads to, at least one, in random order. Raises as `resolve` does.

    `patience` bounds one attempt, in seconds.
    """
    uri = URI(uri)
    if uri.protocol == DIRECT:
        return [uri]
    credentials = credentials if credentials is not None else default_credentials()
    deadline = time.monotonic() + Config.wait.pick(wait)
    while True:
        try:
            return _followed(uri, patience, credentials)
        except NamingError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_POLL_SECONDS)


def _places(host: str | None, port: int | None) -> list[tuple[str, int]]:
    """The places to ask, in order."""
    if host is not None:
        return [(host, config.ns_port if port is None else port)]
    configured = (config.ns_host, config.ns_port if port is None else port)
    default = ("localhost", DEFAULT_PORT if port is None else port)
    return list(dict.fromkeys((configured, default)))


def _discovered() -> Iterator[tuple[str, int]]:
    """The place that somebody in the network names."""
    uri = discover_ns()
    if uri is not None and uri.host is not None and uri.port is not None:
        yield uri.host, uri.port


def _found(
    places: list[tuple[str, int]], patience: float, credentials: ChannelSecurity | None, broadcast: bool
) -> NameServer:
    tried: list[str] = []
    for host, port in chain(places, _discovered() if broadcast else ()):
        server = NameServer(host, port, credentials=credentials)
        try:
            server.await_answer(patience)
        except NoNameServer as error:
            server.close()
            tried.append(f"{join_host_port(host, port)}: {error.reason}")
        else:
            return server
    where = f"at {tried[0]}" if len(tried) == 1 else f"at any of these places: {'; '.join(tried)}"
    if broadcast and len(tried) == len(places):
        where += f", and nobody answers a broadcast on port {config.ns_broadcast_port}"
    raise NamingError(
        f"no name server found {where}. Start one with `python -m broker.naming`, "
        "or say where it is: by host and port, or by BROKER_NS_HOST and BROKER_NS_PORT"
    )


def _followed(uri: URI, patience: float, credentials: ChannelSecurity | None) -> list[URI]:
    """Looks up until the URIs are direct: a name may lead to another name."""
    found = [uri]
    for _ in range(_MOST_ALIASES):
        if all(each.protocol == DIRECT for each in found):
            return found
        found = [step for each in found for step in _one_step(each, patience, credentials)]
    raise NamingError(f"{uri} leads from name to name, and after {_MOST_ALIASES} of them not yet to an object")


def _one_step(uri: URI, patience: float, credentials: ChannelSecurity | None) -> list[URI]:
    """What a name or tags lead to; a name that says no place is one of the name server where it was found."""
    if uri.protocol == DIRECT:
        return [uri]
    places = _places(uri.host, uri.port)
    key = (os.getpid(), tuple(places), credentials)
    server = _shared.get(key)
    if server is None:
        broadcast = uri.host is None and config.ns_broadcast
        server = _shared.setdefault(key, _found(places, patience, credentials, broadcast))
    try:
        if uri.protocol == NAME:
            found = [URI(server.entry(uri.object, patience=patience).uri)]
        else:
            found = _with_tags(server, uri, patience)
    except NoNameServer:
        _shared.pop(key, None)  # the next one looks for it anew
        raise
    return [each if each.location or not uri.location else URI(f"{each}@{uri.location}") for each in found]


def _with_tags(server: NameServer, uri: URI, patience: float) -> list[URI]:
    deadline = time.monotonic() + patience
    while True:
        answer = server.listing(tags_all=uri.tags, patience=patience)
        found = [URI(entry.uri) for entry in answer.entries]
        if found:
            _random.shuffle(found)
            return found
        if not answer.returning or time.monotonic() >= deadline:
            asked = " and ".join(map(repr, uri.tags))
            raise NameNotFound(f"nothing is registered with the tags {asked} (name server at {server.uri.location})")
        time.sleep(min(_POLL_SECONDS, answer.returning))

"""`NameServer`: what `locate_ns` gives, the name server as its users see it."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Literal, Self, overload

from broker._pb import registry_pb2 as pb
from broker.connection.channels import ChannelSecurity
from broker.registry import OWN_NAME, leases, wire
from broker.registry.link import PATIENCE, Link
from broker.uri import URI

__all__ = ["NameServer"]


class NameServer:
    """A name server somewhere. Shared by threads; in a forked child it connects anew.

    Each method gives up after `patience` seconds, normally 5, with NamingError, which says why; while the name server
    restarts it is asked again until then. What it refuses is NameNotFound, NameTaken, InvalidURI or NamingError.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        credentials: ChannelSecurity | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._link = Link(host, port, credentials, patience)
        self.uri = URI.direct(OWN_NAME, host, port)

    def register(
        self, name: str, obj_or_uri: object, *, replace: bool = True, tags: Iterable[str] = (), ttl: float | None = None
    ) -> None:
        """Enters a name for a URI, or for an object that a daemon of this process serves.

        A name of a daemon in this process lives as long as the daemon does: it is renewed, and ends within seconds of
        the process. Any other stays until it is removed, or for `ttl` seconds if those are given. With `replace` False
        a name that is there is NameTaken. TypeError for an object that no daemon of this process serves.
        """
        name = checked_text(name, "name")
        uri = _uri_of(obj_or_uri)
        labels = checked_tags(tags)
        if ttl is not None and not ttl > 0:
            raise ValueError(f"ttl is a number of seconds above 0, or None for no end, not {ttl!r}")
        holder = leases.holder_of(uri) if ttl is None else None
        if holder is not None:
            holder.register(self._link, name, uri, tags=labels, replace=replace)
            return
        request = pb.RegisterRequest(name=name, uri=str(uri), tags=labels, replace=replace, ttl=ttl or 0.0)
        again = pb.RegisterRequest(again=True)
        again.MergeFrom(request)
        self._link.call(wire.REGISTER, request, repeat=again)

    def remove(self, name: str | None = None, *, prefix: str | None = None, regex: str | None = None) -> int:
        """Removes a name, or all that begin with a prefix or match a regular expression from their start.

        Returns how many there were; a name that is not there is 0. ValueError unless exactly one of the three is given.
        """
        conditions = (("name", name), ("prefix", prefix), ("regex", regex))
        given = {key: checked_text(text, key) for key, text in conditions if text is not None}
        if len(given) != 1:
            raise ValueError(f"remove by one of name, prefix and regex, not by {' and '.join(given) or 'none'}")
        answer = self._link.call(wire.REMOVE, pb.RemoveRequest(name=name, prefix=prefix, regex=regex))
        leases.note_removed((self._link.host, self._link.port), answer.names)
        return answer.removed

    @overload
    def lookup(self, name: str, *, with_tags: Literal[False] = False) -> URI: ...
    @overload
    def lookup(self, name: str, *, with_tags: Literal[True]) -> tuple[URI, frozenset[str]]: ...
    @overload
    def lookup(self, name: str, *, with_tags: bool) -> URI | tuple[URI, frozenset[str]]: ...
    def lookup(self, name: str, *, with_tags: bool = False) -> URI | tuple[URI, frozenset[str]]:
        """The URI of a name. NameNotFound if there is none: it lists the names that are near.

        Just after the name server started without a file, a name that is missing may be that of a daemon which has not
        renewed it yet: then it is asked for again, at most for the 5 seconds.
        """
        entry = self.entry(name)
        return (URI(entry.uri), frozenset(entry.tags)) if with_tags else URI(entry.uri)

    def entry(self, name: str, *, patience: float | None = None) -> pb.Entry:
        """`lookup` as the wire has it, within a patience in seconds; None: the 5 seconds."""
        return self._link.call(wire.LOOKUP, pb.LookupNameRequest(name=checked_text(name, "name")), patience=patience)

    def set_tags(self, name: str, tags: Iterable[str]) -> None:
        """Gives a name these tags instead of those that it had."""
        self._link.call(wire.SET_TAGS, pb.SetTagsRequest(name=checked_text(name, "name"), tags=checked_tags(tags)))

    @overload
    def list(
        self,
        prefix: str | None = None,
        *,
        regex: str | None = None,
        tags_all: Iterable[str] | None = None,
        tags_any: Iterable[str] | None = None,
        with_tags: Literal[False] = False,
    ) -> dict[str, URI]: ...
    @overload
    def list(
        self,
        prefix: str | None = None,
        *,
        regex: str | None = None,
        tags_all: Iterable[str] | None = None,
        tags_any: Iterable[str] | None = None,
        with_tags: Literal[True],
    ) -> dict[str, tuple[URI, frozenset[str]]]: ...
    def list(
        self,
        prefix: str | None = None,
        *,
        regex: str | None = None,
        tags_all: Iterable[str] | None = None,
        tags_any: Iterable[str] | None = None,
        with_tags: bool = False,
    ) -> dict[str, URI] | dict[str, tuple[URI, frozenset[str]]]:
        """The names that meet all conditions given, sorted, each with its URI, or with its URI and tags.

        A prefix is literal and case-sensitive. A regular expression matches from the start of a name, as `re.match`
        does; a bad one is NamingError. ValueError for a prefix and a regular expression together.
        """
        answer = self.listing(prefix, regex, tags_all, tags_any)
        if with_tags:
            return {entry.name: (URI(entry.uri), frozenset(entry.tags)) for entry in answer.entries}
        return {entry.name: URI(entry.uri) for entry in answer.entries}

    def count(self) -> int:
        """How many names there are, that of the name server itself included."""
        return self._link.call(wire.COUNT, pb.CountRequest()).count

    def ping(self) -> None:
        """Returns if the name server answers, and raises NamingError if not."""
        self.await_answer(None)

    def await_answer(self, patience: float | None) -> None:
        """`ping` within a patience in seconds; None: the 5 seconds."""
        self._link.call(wire.PING, pb.PingRequest(), patience=patience)

    def close(self) -> None:
        """Closes the connection. Names that daemons of this process hold go on being renewed."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<NameServer {self._link}{', closed' if self._link.closed else ''}>"

    def listing(
        self,
        prefix: str | None = None,
        regex: str | None = None,
        tags_all: Iterable[str] | None = None,
        tags_any: Iterable[str] | None = None,
        patience: float | None = None,
    ) -> pb.ListResponse:
        """What `list` is made from: the message of the name server."""
        if prefix is not None and regex is not None:
            raise ValueError("list by a prefix or by a regular expression, not by both")
        prefix = None if prefix is None else checked_text(prefix, "prefix")
        regex = None if regex is None else checked_text(regex, "regex")
        any_of = None if tags_any is None else checked_tags(tags_any)
        if any_of == []:
            return pb.ListResponse()  # no name has one of no tags
        request = pb.ListRequest(prefix=prefix, regex=regex, tags_all=checked_tags(tags_all or ()), tags_any=any_of)
        return self._link.call(wire.LIST, request, patience=patience)


def checked_tags(tags: Iterable[str]) -> list[str]:
    """Tags as they are sent. Raises TypeError for what are none."""
    if isinstance(tags, str):
        raise TypeError(f"tags is a collection of str, not one str: write [{tags!r}]")
    return sorted({checked_text(tag, "tag") for tag in tags})


def checked_text(value: str, what: str) -> str:
    """Raises TypeError, which says what it should have been, for what is no text."""
    if not isinstance(value, str):
        raise TypeError(f"a {what} is a str, not {type(value).__name__}")
    return value


def _uri_of(obj_or_uri: object) -> URI:
    if isinstance(obj_or_uri, (str, URI)):
        return URI(obj_or_uri)
    for resolve in leases.object_resolvers:
        uri = resolve(obj_or_uri)
        if uri is not None and uri.connection is not None:
            raise TypeError(f"{uri} is an exported object of another process: it has to register it with a daemon")
        if uri is not None:
            return uri
    raise TypeError(
        f"{type(obj_or_uri).__name__} object is not registered with a daemon of this process: "
        "daemon.register(obj) first, or give its URI"
    )

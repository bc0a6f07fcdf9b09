"""Descriptions of objects on the wire: what a daemon says, and what a proxy makes of it."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import Parameter, Signature
from types import MappingProxyType

from google.protobuf.message import DecodeError

from broker import exposure
from broker._pb import broker_pb2 as wire
from broker.codecs import GLOBAL_TYPES, Encoded, PlainEdge, TypeRegistry, codec, type_name
from broker.errors import AccessDenied, CodecError, ProtocolError
from broker.signatures import describe_signature, rebuild_signature, signature_text

_KINDS = {"method": wire.Member.METHOD, "property": wire.Member.PROPERTY}

_members: weakref.WeakKeyDictionary[exposure.MemberTable, list[wire.Member]] = weakref.WeakKeyDictionary()


def describe(
    object_id: str, table: exposure.MemberTable, may_call: Callable[[str], bool] = lambda name: True
) -> wire.Description:
    """The description of an object of that class, for a caller who may call these members."""
    members = _members.get(table)
    if members is None:
        members = _members[table] = [_describe_member(member) for member in table]
    allowed = [member for member in members if may_call(member.name)]
    return wire.Description(
        object=object_id,
        type=type_name(table.cls),
        doc=inspect.cleandoc(table.doc or ""),
        members=allowed,
        fingerprint=table.fingerprint,
        partial=len(allowed) < len(members),
    )


def _describe_member(member: exposure.Member) -> wire.Member:
    return wire.Member(
        name=member.name,
        kind=_KINDS[member.kind],
        signature=signature_text(member.signature),
        doc=member.doc or "",  # as it stands in the class: `__doc__` of the remote method is equal
        oneway=member.oneway,
        writable=member.writable,
        stream=member.stream,
        parameters=_parameters(member.signature),
    )


def _parameters(signature: Signature | None) -> bytes:
    if signature is None:
        return b""
    described = describe_signature(signature, encodable=_travels, type_name=_hint_name)
    return bytes(codec("json").encode(described, PlainEdge()).payload)


def _hint_name(cls: type) -> str:
    from broker.signatures import qualified_name

    name = qualified_name(cls)
    return name if name.partition(".")[0] != "__main__" else type_name(cls)


def _travels(default: object) -> bool:
    try:
        return not codec("json").encode(default, PlainEdge()).buffers
    except CodecError:
        return False


@dataclass(frozen=True, slots=True)
class RemoteMember:
    """One member of a remote object, as its daemon describes it."""

    name: str
    is_method: bool
    signature_text: str
    doc: str | None
    oneway: bool
    writable: bool
    stream: bool
    _parameters: bytes = field(repr=False)

    def __str__(self) -> str:
        """The member as one reads it in a class: `take(name: str) -> None`, `size -> int`."""
        text = self.signature_text if self.is_method else self.signature_text.removeprefix("()")
        notes = {"oneway": self.oneway, "can be set": self.writable, "stream": self.stream}
        return self.name + text + "".join(f" ({note})" for note, holds in notes.items() if holds)

    def signature(self, types: TypeRegistry = GLOBAL_TYPES) -> Signature | None:
        """The signature with its defaults and hints, as far as their classes are known here; None if there is none.

        Raises ValueError if the daemon sent nonsense.
        """
        if not self._parameters:
            return None
        edge = PlainEdge(types)
        try:
            data = codec("json").decode(Encoded("json", self._parameters), edge)
        except CodecError as error:
            raise ValueError(f"this is no described signature: {error}") from None
        return rebuild_signature(data, lambda name: _known(name, types))


def _known(name: str, types: TypeRegistry) -> type | None:
    entry = types.by_name(name)
    return entry.cls if entry is not None else None


@dataclass(frozen=True, slots=True)
class RemoteDescription:
    """What a proxy knows about its object."""

    object_id: str
    type_name: str
    doc: str | None
    members: Mapping[str, RemoteMember]
    fingerprint: str
    is_partial: bool = False
    """Whether members are left out that this caller may not call."""

    @property
    def methods(self) -> frozenset[str]:
        """The names of the methods."""
        return frozenset(name for name, member in self.members.items() if member.is_method)

    @property
    def attributes(self) -> frozenset[str]:
        """The names of the properties."""
        return frozenset(self.members) - self.methods

    def not_for_this_caller(self, name: str, where: str) -> NotForThisCaller | None:
        """The error for a member that may be there, for others; None where none is left out."""
        if not self.is_partial:
            return None
        has = ", ".join(self.members) or "nothing"
        return NotForThisCaller(f"{where} has no remote member {name!r} that this caller may call (it has: {has})")

    def __str__(self) -> str:
        """The object for people: its class, its docstring, and a line with the first words of each member."""
        lines = [f"{self.object_id}: {self.type_name}", *_indented(self.doc, 4)]
        for member in self.members.values():
            lines += [f"  {member}", *_indented(member.doc, 6)[:1]]
        return "\n".join(lines)

    @classmethod
    def from_wire(cls, data: bytes) -> RemoteDescription:
        """Raises ProtocolError for what is no description."""
        try:
            description = wire.Description.FromString(data)
        except DecodeError as error:
            raise ProtocolError(f"a description arrived that cannot be read: {error}") from None
        members = {
            member.name: RemoteMember(
                name=member.name,
                is_method=member.kind == wire.Member.METHOD,
                signature_text=member.signature,
                doc=member.doc or None,
                oneway=member.oneway,
                writable=member.writable,
                stream=member.stream,
                _parameters=member.parameters,
            )
            for member in description.members
        }
        return cls(
            object_id=description.object,
            type_name=description.type,
            doc=description.doc or None,
            members=MappingProxyType(members),
            fingerprint=description.fingerprint,
            is_partial=description.partial,
        )


class NotForThisCaller(AccessDenied, AttributeError):
    """The object has no such member, or this caller may not call it."""


def _indented(doc: str | None, by: int) -> list[str]:
    return [f"{' ' * by}{line}".rstrip() for line in inspect.cleandoc(doc or "").splitlines()]


NO_SIGNATURE = Signature([Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)])
"""Shown for a method whose signature Python does not know."""

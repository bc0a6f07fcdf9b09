"""Members to rpcs: what a request of each holds, and how arguments are made of it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from functools import cached_property
from inspect import Parameter, Signature
from types import NoneType
from typing import Any, Literal

from broker.codecs import Edge
from broker.codecs.interface import Fault
from broker.exposure import Member, MemberTable
from broker.hints import safe_repr
from broker.schema.meaning import Inexpressible, item_of, own_doc, pinned
from broker.schema.messages import ABSENT, Field, MessageType
from broker.schema.names import RpcNames
from broker.schema.reading import Hinted, Reader
from broker.schema.resolving import Resolver, hint_of_value

__all__ = ["Access", "Members", "Request", "Rpc", "read_members"]

Access = Literal["call", "get", "set"]
_ANY_ARGUMENTS = Signature([Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)])


@dataclass
class Request:
    """The message that brings the arguments of one member."""

    message: MessageType
    fields: list[tuple[Parameter, Field]] = field(default_factory=list)
    streamed: str | None = None
    """The parameter that is an iterator."""

    @cached_property
    def _plan(self) -> list[tuple[str, Field, bool]] | None:
        """The fields with their names, and whether they go by their place; None if it takes more than that."""
        kinds = {parameter.kind for parameter, _ in self.fields}
        if self.streamed is not None or kinds - {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}:
            return None
        return [
            (parameter.name, place, parameter.kind is not Parameter.KEYWORD_ONLY) for parameter, place in self.fields
        ]

    def arguments(self, message: Any, edge: Edge, items: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Raises Fault."""
        if self._plan is None:
            return self._arguments(message, edge, items)
        args, kwargs, in_order = [], {}, True
        for name, place, by_place in self._plan:
            value = place.take(message, edge)
            if value is ABSENT:
                in_order = False
            elif by_place and in_order:
                args.append(value)
            else:
                kwargs[name] = value
        return tuple(args), kwargs

    def _arguments(self, message: Any, edge: Edge, items: object) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given: dict[str, Any] = {}
        rest: Any = ()
        others: Any = {}
        for parameter, place in self.fields:
            value = items if parameter.name == self.streamed else place.take(message, edge)
            if value is ABSENT:
                continue
            if parameter.kind is Parameter.VAR_POSITIONAL:
                rest = value
            elif parameter.kind is Parameter.VAR_KEYWORD:
                others = value
            else:
                given[parameter.name] = value
        args = self._positional(given, needs_all=bool(rest))
        for name in others:
            if name in self._by_keyword or type(name) is not str:
                raise Fault(f"{safe_repr(name)[:100]} is no name for a further argument: it has a field of its own")
        return (*args, *rest), {**given, **others}

    def _positional(self, given: dict[str, Any], *, needs_all: bool) -> list[Any]:
        """Takes those arguments out of `given` that go by their place: defaults fill what lies between."""
        positional = [parameter for parameter, _ in self.fields if parameter.kind <= Parameter.POSITIONAL_OR_KEYWORD]
        needed = len(positional) if needs_all else 0
        for place, parameter in enumerate(positional, start=1):
            if parameter.kind is Parameter.POSITIONAL_ONLY and parameter.name in given:
                needed = max(needed, place)
        args: list[Any] = []
        for parameter in positional:
            if parameter.name not in given and len(args) >= needed:
                break
            args.append(given.pop(parameter.name, parameter.default))
        return args

    @property
    def _by_keyword(self) -> set[str]:
        named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        return {parameter.name for parameter, _ in self.fields if parameter.kind in named}

    def item(self, message: Any, edge: Edge) -> list[Any]:
        """Raises Fault."""
        for parameter, place in self.fields:
            if parameter.name == self.streamed:
                value = place.take(message, edge)
                return [] if value is ABSENT else [value]
        return []


@dataclass
class Rpc:
    """One way to use one member."""

    name: str
    member: str
    access: Access
    doc: str
    request: Request
    reply: MessageType
    result: Field
    server_streaming: bool = False


@dataclass
class Members:
    """All rpcs of a class, and why some members have none."""

    doc: str
    messages: list[MessageType]
    rpcs: list[Rpc] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def read_members(table: MemberTable) -> Members:
    """Reads the hints of all members; one whose hints cannot be expressed is a problem and no error."""
    reader, resolver = Reader(table.cls), Resolver(table.cls)
    members = Members(own_doc(table.cls), reader.messages)
    names = RpcNames(member.name for member in table if member.kind == "method")
    for member in table:
        try:
            with reader.all_or_nothing():
                members.rpcs += _MemberReader(reader, resolver, member, names).rpcs()
        except Inexpressible as error:
            members.problems.append((member.name, str(error)))
        except RecursionError:
            members.problems.append((member.name, "a hint is an alias of itself, which wants a dataclass in between"))
        except Exception as error:  # classes in hints may run code of their own when they are looked at
            members.problems.append((member.name, f"its hints cannot be read ({type(error).__name__}: {error})"))
    for message in reader.messages:
        message.finish()
    return members


class _MemberReader:
    """Reads one member."""

    def __init__(self, reader: Reader, resolver: Resolver, member: Member, names: RpcNames) -> None:
        self._reader = reader
        self._resolver = resolver
        self._member = member
        self._names = names
        self._doc = inspect.cleandoc(member.doc or "")

    def rpcs(self) -> list[Rpc]:
        if self._member.kind == "method":
            return [self._method()]
        rpcs = [self._getter()] if self._member.readable else []
        return [*rpcs, self._setter()] if self._member.writable else rpcs

    def _method(self) -> Rpc:
        name = self._names.method(self._member.name)
        request = Request(self._reader.message(f"{name}_request"))
        signature = self._member.signature or _ANY_ARGUMENTS
        hints = [(parameter, self._resolved(parameter)) for parameter in signature.parameters.values()]
        request.message.keep(pinned(hint) for _, hint in hints)
        for parameter, hint in hints:
            try:
                self._add_parameter(request, parameter, hint)
            except Inexpressible as error:
                raise Inexpressible(f"parameter {parameter.name!r}: {error}") from None
        return self._rpc(name, "call", request)

    def _getter(self) -> Rpc:
        name = self._names.property(self._member.name, "get")
        return self._rpc(name, "get", Request(self._reader.message(f"{name}_request")))

    def _setter(self) -> Rpc:
        name = self._names.property(self._member.name, "set")
        request = Request(self._reader.message(f"{name}_request"))
        hint = self._resolver.resolve(hint_of_value(self._member), self._member)
        self._add_parameter(request, Parameter("value", Parameter.POSITIONAL_ONLY), hint)
        return self._rpc(name, "set", request)

    def _rpc(self, name: str, access: Access, request: Request) -> Rpc:
        reply = self._reader.message(f"{name}_reply")
        streams = self._member.stream and access != "set"
        try:
            result = self._reader.place(reply, "result", self._reader.read(self._result_hint(access)), noted=False)
        except Inexpressible as error:
            raise Inexpressible(f"result: {error}") from None
        return Rpc(name, self._member.name, access, self._doc, request, reply, result, streams)

    def _result_hint(self, access: Access) -> Any:
        if access == "set" or self._member.oneway:
            return NoneType
        signature = self._member.signature
        hint = self._resolver.resolve(signature.return_annotation, self._member) if signature is not None else Any
        return item_of(hint) if self._member.stream else hint

    def _resolved(self, parameter: Parameter) -> Any:
        try:
            return self._resolver.resolve(parameter.annotation, self._member)
        except Inexpressible as error:
            raise Inexpressible(f"parameter {parameter.name!r}: {error}") from None

    def _add_parameter(self, request: Request, parameter: Parameter, hint: Any) -> None:
        message, reader = request.message, self._reader
        name, number = parameter.name, pinned(hint)
        if parameter.kind is Parameter.VAR_POSITIONAL:
            place = reader.place(message, name, Hinted(reader.rest(hint)), number, (), noted=False)
        elif parameter.kind is Parameter.VAR_KEYWORD:
            place = reader.place(message, name, Hinted(reader.others(hint)), number, {}, noted=False)
        elif (item := item_of(hint, iterators_alone=True)) is not None:
            if request.streamed is not None:
                raise Inexpressible(f"{request.streamed!r} streams already, and a call has one stream each way")
            request.streamed = name
            place = reader.place(message, name, reader.read(item), number, streamed=True)
            place.absent = lambda: ABSENT
        else:
            default = ABSENT if parameter.default is Parameter.empty else parameter.default
            place = reader.place(message, name, reader.read(hint), number, default)
        request.fields.append((parameter, place))

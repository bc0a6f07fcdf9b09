"""Typed services: what the remote members of a class are in gRPC.

`schema_of` makes one `Schema` for a class; it knows nobody's name. Under each name that an object of the class is
served it is a `Service`, which costs next to nothing until its file is asked for.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, message_factory, struct_pb2, timestamp_pb2
from google.protobuf.message import DecodeError, EncodeError

from broker.codecs import Edge, PlainEdge
from broker.codecs.encoder import TOO_DEEP
from broker.codecs.interface import Fault
from broker.errors import CodecError
from broker.exposure import MemberTable
from broker.schema.files import build_file, holds_itself, types_file
from broker.schema.members import Access, Rpc, read_members
from broker.schema.messages import MessageType
from broker.schema.names import service_name

__all__ = ["Access", "Method", "Problem", "Schema", "Service", "schema_of"]

_GOOGLES = (struct_pb2, timestamp_pb2, duration_pb2)
_PLAIN = PlainEdge()
T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """A member that its typed service lacks, because a hint cannot be expressed. It is served by Invoke as ever."""

    member: str
    reason: str

    def __str__(self) -> str:
        return f"{self.member}: {self.reason}"


class Method:
    """One rpc of a typed service. Any thread may use it.

    `member` is the name of the object's member and `access` what is done with it. With `client_streaming` one
    parameter is an iterator (`streamed` is its name): each message of the stream has at most one item of it, and the
    first has the other arguments.
    """

    client_streaming: bool
    server_streaming: bool

    def __init__(self, schema: Schema, rpc: Rpc) -> None:
        self.name = rpc.name
        self.member = rpc.member
        self.access: Access = rpc.access
        self.doc = rpc.doc
        self.streamed = rpc.request.streamed
        self.client_streaming = self.streamed is not None
        self.server_streaming = rpc.server_streaming
        self.rpc = rpc
        self._schema = schema
        self._request, self._result = rpc.request, rpc.result

    def __repr__(self) -> str:
        return f"<Method {self.name}>"

    @cached_property
    def request_class(self) -> Any:
        """The class of the requests in protobuf's Python."""
        return self._schema.message_class(self.rpc.request.message)

    @cached_property
    def reply_class(self) -> Any:
        """The class of the replies, and of each item of a stream."""
        return self._schema.message_class(self.rpc.reply)

    @property
    def has_first_message(self) -> bool:
        """Whether the first message of a stream has more than an item: the call cannot begin without it."""
        return len(self._request.fields) > 1

    @cached_property
    def _may_be_deep(self) -> bool:
        return holds_itself(self.rpc.reply, self._schema.messages)

    def decode_request(
        self, data: bytes = b"", edge: Edge = _PLAIN, items: object = ()
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments in a request; of a stream in its first message, or in b"" where none came.

        `items` takes the place of the parameter that is an iterator. Of a property that is set the value is the one
        argument. Raises CodecError, with the path to what is wrong.
        """
        return self._decoded(data, lambda message: self._request.arguments(message, edge, items))

    def decode_item(self, data: bytes, edge: Edge = _PLAIN) -> list[Any]:
        """The item in a message of the stream of a client, or nothing if it has none. Raises CodecError."""
        return self._decoded(data, lambda message: self._request.item(message, edge))

    def encode_reply(self, value: object, edge: Edge = _PLAIN) -> bytes:
        """The reply with that result, or with that item of a stream. Raises CodecError, with the path."""
        reply = self.reply_class()
        try:
            self._result.put(reply, value, edge)
            data: bytes = reply.SerializeToString()
            if self._may_be_deep:
                self.reply_class.FromString(data)  # who reads messages refuses more than 100 in one another
        except Fault as fault:
            raise _error(fault) from fault.__cause__
        except (RecursionError, EncodeError, DecodeError):
            raise CodecError(f"result: {TOO_DEEP}") from None
        return data

    def _decoded(self, data: bytes, read: Callable[[Any], T]) -> T:
        try:
            return read(self.request_class.FromString(data))
        except DecodeError as error:
            raise CodecError(f"the request of {self.name} is no message of its type: {error}") from None
        except Fault as fault:
            raise _error(fault) from fault.__cause__


def _error(fault: Fault) -> CodecError:
    where = fault.path.pop() if fault.path else ".request"
    return fault.error(where.removeprefix("."))


class Schema:
    """The typed service of a class, without a name. `problems` are the members that it lacks."""

    def __init__(self, table: MemberTable) -> None:
        members = read_members(table)
        self.doc = members.doc
        self.messages: list[MessageType] = members.messages
        self.methods = {rpc.name: Method(self, rpc) for rpc in members.rpcs}
        self.problems = [Problem(member, reason) for member, reason in members.problems]

    def named(self, name: str, members: Collection[str] | None = None) -> Service:
        """The service of an object with this id or name; with `members`, what a caller sees who may use only these."""
        return self.under(service_name(name), members)

    def under(self, service: str, members: Collection[str] | None = None) -> Service:
        """The same under the full name of a service, as `service_names` gives them."""
        return Service(self, service, members)

    def message_class(self, message: MessageType) -> Any:
        """The class of a message in protobuf's Python, for the codec; its full name is nobody's."""
        return message_factory.GetMessageClass(self._pool.FindMessageTypeByName(f"types.{message.name}"))

    @cached_property
    def _pool(self) -> descriptor_pool.DescriptorPool:
        pool = descriptor_pool.DescriptorPool()
        for module in _GOOGLES:
            pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
        pool.AddSerializedFile(types_file(self.messages).SerializeToString())
        return pool


class Service:
    """A typed service under one name."""

    def __init__(self, schema: Schema, name: str, members: Collection[str] | None = None) -> None:
        self.name = name
        """The full name: package and service."""
        self.schema = schema
        self._members = members

    def __repr__(self) -> str:
        return f"<Service {self.name}>"

    @property
    def methods(self) -> dict[str, Method]:
        """The methods by the name of their rpc."""
        methods = self.schema.methods
        return methods if self._members is None else {n: m for n, m in methods.items() if m.member in self._members}

    @property
    def problems(self) -> list[Problem]:
        """What the service lacks."""
        problems = self.schema.problems
        return problems if self._members is None else [p for p in problems if p.member in self._members]

    @cached_property
    def file(self) -> descriptor_pb2.FileDescriptorProto:
        """The file that describes it, with comments. It depends on files of google.protobuf alone."""
        rpcs = [method.rpc for method in self.methods.values()]
        return build_file(self.name, self.schema.doc, rpcs, self.schema.messages, list(map(str, self.problems)))


_schemas: weakref.WeakKeyDictionary[MemberTable, Schema] = weakref.WeakKeyDictionary()


def schema_of(table: MemberTable) -> Schema:
    """The schema of the class with these members; the same one as long as anybody holds the table."""
    schema = _schemas.get(table)
    if schema is None:
        schema = _schemas.setdefault(table, Schema(table))
    return schema

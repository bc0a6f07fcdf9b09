"""Files of protobuf, as descriptors: the messages of a schema and its service, under the name that it has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf.descriptor_pb2 import FileDescriptorProto, SourceCodeInfo

from broker.schema.members import Rpc
from broker.schema.messages import MessageType, fields_of

__all__ = ["LACKING", "build_file", "holds_itself", "types_file"]

_DEPENDENCIES = {
    ".google.protobuf.Duration": "google/protobuf/duration.proto",
    ".google.protobuf.ListValue": "google/protobuf/struct.proto",
    ".google.protobuf.NullValue": "google/protobuf/struct.proto",
    ".google.protobuf.Struct": "google/protobuf/struct.proto",
    ".google.protobuf.Timestamp": "google/protobuf/timestamp.proto",
    ".google.protobuf.Value": "google/protobuf/struct.proto",
}


def types_file(messages: Iterable[MessageType]) -> FileDescriptorProto:
    """All messages, in `types`, for the codec alone."""
    file = FileDescriptorProto(name="types.proto", syntax="proto3")
    _add_types(file, "types", messages)
    return file


def build_file(
    service: str, doc: str, rpcs: Sequence[Rpc], messages: Sequence[MessageType], lacking: Sequence[str]
) -> FileDescriptorProto:
    """The file of a service with that full name. Its messages are nested in one, `<service>_types`.

    So no two files have a message of the same name, and one program may have as many of them as it likes.
    """
    package, _, name = service.rpartition(".")
    types = f"{name}_types"
    file = FileDescriptorProto(name=f"{service.replace('.', '/')}.proto", package=package or None, syntax="proto3")
    needed = _needed(rpcs, messages)
    _add_types(file, types, needed)
    prefix = f".{package}.{types}." if package else f".{types}."
    added = file.service.add(name=name)
    for rpc in rpcs:
        added.method.add(
            name=rpc.name,
            input_type=prefix + rpc.request.message.name,
            output_type=prefix + rpc.reply.name,
            client_streaming=True if rpc.request.streamed is not None else None,
            server_streaming=rpc.server_streaming or None,
        )
    _add_comments(file.source_code_info, doc, rpcs, needed, lacking)
    return file


def _add_types(file: FileDescriptorProto, types: str, messages: Iterable[MessageType]) -> None:
    holder = file.message_type.add(name=types)
    prefix = f".{file.package}.{types}." if file.package else f".{types}."
    dependencies = set()
    for message in messages:
        holder.nested_type.add().CopyFrom(message.proto)
    for field in fields_of(holder):
        if field.type_name.startswith("."):
            dependencies.add(_DEPENDENCIES[field.type_name])
        elif field.type_name:
            field.type_name = prefix + field.type_name
    file.dependency.extend(sorted(dependencies))


def _needed(rpcs: Sequence[Rpc], messages: Sequence[MessageType]) -> list[MessageType]:
    """The messages that these rpcs lead to."""
    found = reachable([message for rpc in rpcs for message in (rpc.request.message, rpc.reply)], messages)
    return [message for message in messages if message.name in found]


def reachable(start: Iterable[MessageType], messages: Sequence[MessageType]) -> set[str]:
    """The names of these messages, and of all that lie in them."""
    by_name = {message.name: message for message in messages}
    found: set[str] = set()
    waiting = [message.name for message in start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _types_in(by_name[name])
    return found


def holds_itself(start: MessageType, messages: Sequence[MessageType]) -> bool:
    """Whether a message in this one may lie in itself, so that values may be nested as deep as they like."""
    by_name = {message.name: message for message in messages}
    return any(
        name in reachable([by_name[inner] for inner in _types_in(by_name[name])], messages)
        for name in reachable([start], messages)
    )


def _types_in(message: MessageType) -> list[str]:
    types = [field.type_name for field in fields_of(message.proto)]
    ours = {name.partition(".")[0] for name in types if name and not name.startswith(".")}
    return [name for name in ours if name != message.name or name in types]  # the entries of a map are its own


# ---- comments: paths of field numbers in FileDescriptorProto

_MESSAGE, _SERVICE, _NESTED, _FIELD, _ENUM, _METHOD = 4, 6, 3, 2, 4, 2


def _add_comments(
    info: SourceCodeInfo, doc: str, rpcs: Sequence[Rpc], messages: Sequence[MessageType], lacking: Sequence[str]
) -> None:
    _comment(info, (_SERVICE, 0), "\n\n".join(filter(None, [doc, _lacking(lacking)])))
    for place, rpc in enumerate(rpcs):
        _comment(info, (_SERVICE, 0, _METHOD, place), rpc.doc)
    for place, message in enumerate(messages):
        path = (_MESSAGE, 0, _NESTED, place)
        _comment(info, path, message.comment)
        _comment(info, (*path, _ENUM, 0), message.enum_comment)
        for field, text in message.comments.items():
            _comment(info, (*path, _FIELD, field), text)


def _lacking(lacking: Sequence[str]) -> str:
    return "\n".join([LACKING, *(f"- {member}" for member in lacking)]) if lacking else ""


LACKING = "Not in this service, but called by broker.v1.ObjectBroker/Invoke:"
"""Stands in the comment of a service before the members that it lacks."""


def _comment(info: SourceCodeInfo, path: Sequence[int], text: str) -> None:
    if text:
        text = text.encode(errors="replace").decode()  # a docstring may hold what UTF-8 cannot
        lines = "".join(f" {line}".rstrip() + "\n" for line in text.splitlines())
        info.location.add(path=path, span=[0, 0, 0], leading_comments=lines)

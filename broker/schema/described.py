"""A service as a file describes it, whoever made the file: what can be looked up in it."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
)

from broker.schema.absence import REQUIRED
from broker.schema.files import LACKING

__all__ = ["DescribedService"]

Path = tuple[int, ...]


class DescribedService:
    """The first service of a file: its messages and enums by their full names, and what the comments say of them."""

    def __init__(self, file: FileDescriptorProto) -> None:
        """Raises ValueError where the file has no service."""
        if not file.service:
            raise ValueError(f"{file.name or 'the file'} has no service")
        service = file.service[0]
        package = f"{file.package}." if file.package else ""
        self.name = f"{package}{service.name}"
        self.methods = {method.name: method for method in service.method}
        self.messages: dict[str, DescriptorProto] = {}
        self.enums: dict[str, EnumDescriptorProto] = {}
        self._fields: dict[tuple[str, str], str] = {}
        self._types: dict[str, str] = {}
        comments = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}
        for place, message in enumerate(file.message_type):
            self._add_message(f".{package}{message.name}", message, (4, place), comments)
        for place, enum in enumerate(file.enum_type):
            self._add_enum(f".{package}{enum.name}", enum, (5, place), comments)
        self._methods = {name: comments.get((6, 0, 2, place), "") for place, name in enumerate(self.methods)}
        self._comment = comments.get((6, 0), "")

    def _add_message(self, name: str, message: DescriptorProto, path: Path, comments: Mapping[Path, str]) -> None:
        self.messages[name] = message
        self._types[name] = comments.get(path, "")
        for place, field in enumerate(message.field):
            self._fields[name, field.name] = comments.get((*path, 2, place), "")
        for place, nested in enumerate(message.nested_type):
            self._add_message(f"{name}.{nested.name}", nested, (*path, 3, place), comments)
        for place, enum in enumerate(message.enum_type):
            self._add_enum(f"{name}.{enum.name}", enum, (*path, 4, place), comments)

    def _add_enum(self, name: str, enum: EnumDescriptorProto, path: Path, comments: Mapping[Path, str]) -> None:
        self.enums[name] = enum
        self._types[name] = comments.get(path, "")

    @property
    def doc(self) -> str:
        """What the class says of itself."""
        return _text(self._comment.partition(LACKING)[0])

    @property
    def lacking(self) -> dict[str, str]:
        """The members that the service lacks, and why."""
        lines = [line.strip() for line in self._comment.partition(LACKING)[2].splitlines()]
        return dict(line.removeprefix("- ").partition(": ")[::2] for line in lines if line)

    def doc_of_method(self, method: MethodDescriptorProto) -> str:
        return _text(self._methods[method.name])

    def doc_of_type(self, name: str) -> str:
        """Of a message or an enum, by its full name."""
        return _text(self._types.get(name, ""))

    def notes(self, message: str, field: FieldDescriptorProto) -> list[str]:
        """The lines of the comment of a field."""
        return _text(self._fields.get((message, field.name), "")).splitlines()

    def is_required(self, message: str, field: FieldDescriptorProto) -> bool:
        return REQUIRED in self.notes(message, field)

    def entry(self, field: FieldDescriptorProto) -> DescriptorProto | None:
        """The entries of a map, if the field is one."""
        message = self.messages.get(field.type_name)
        return message if message is not None and message.options.map_entry else None


def _text(comment: str) -> str:
    return "\n".join(line.removeprefix(" ").rstrip() for line in comment.splitlines()).strip()

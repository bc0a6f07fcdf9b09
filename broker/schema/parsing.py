"""Text of a `.proto` file to its descriptor: what schemas are made of, and whatever else proto3 has is passed over."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, NoReturn

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)

from broker.schema.linking import link
from broker.schema.messages import add_presence
from broker.schema.names import json_name
from broker.schema.text import SCALAR_NAMES

__all__ = ["ProtoSyntaxError", "parse_proto"]

_Proto = FieldDescriptorProto
_SCALARS = {name: number for number, name in SCALAR_NAMES.items()}
_TOKEN = re.compile(
    r"(?P<space>[ \t\r\f\v]+)|(?P<line>\n)|(?P<comment>//[^\n]*|/\*.*?\*/)"
    r"|(?P<word>\.?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)|(?P<number>[-+]?(?:0x[0-9a-fA-F]+|[0-9][0-9.eE+-]*))"
    r"|(?P<string>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*')|(?P<mark>[{}()\[\]<>=;,:/])",
    re.DOTALL | re.ASCII,
)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}

Path = tuple[int, ...]


class ProtoSyntaxError(ValueError):
    """The text is no `.proto` file of proto3. The message names the line."""


class _Token(NamedTuple):
    kind: str
    text: str
    line: int
    comment: str
    """The comment on the lines above it."""


def parse_proto(text: str, name: str = "") -> FileDescriptorProto:
    """The descriptor of the file, with its comments, types by their full names. Raises ProtoSyntaxError."""
    file = _Parser(text).file()
    file.name = name
    link(file)
    return file


def _tokens(text: str) -> Iterator[_Token]:
    at, line, comment, newlines = 0, 1, "", 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ProtoSyntaxError(f"line {line}: {text[at : at + 20]!r} is nothing that a .proto file has")
        kind, found = str(match.lastgroup), match.group()
        if kind == "comment":
            comment = (comment if newlines < 2 else "") + _commented(found)
            newlines = 0
        elif kind == "line":
            newlines += 1
        elif kind != "space":
            yield _Token(kind, found, line, comment if newlines < 2 else "")
            comment, newlines = "", 0
        line += found.count("\n")
        at = match.end()
    yield _Token("end", "the end of the file", line, "")


def _commented(text: str) -> str:
    if text.startswith("//"):
        return f"{text[2:]}\n"
    return "".join(f"{line.strip().removeprefix('*')}\n" for line in text[2:-2].splitlines())


class _Parser:
    """Takes token after token."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0
        self._file = FileDescriptorProto(syntax="proto3")

    # ---- tokens

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, *texts: str) -> bool:
        if self._next.text in texts and self._next.kind != "string":
            self._at += 1
            return True
        return False

    def _need(self, text: str) -> None:
        if not self._take(text):
            self._wrong(f"{text!r}")

    def _a(self, kind: str, what: str) -> str:
        token = self._next
        if token.kind != kind:
            self._wrong(what)
        self._at += 1
        return token.text

    def _wrong(self, expected: str) -> NoReturn:
        token = self._next
        raise ProtoSyntaxError(f"line {token.line}: {expected} is expected, and there is {token.text!r}")

    def _number(self) -> int:
        text = self._a("number", "a number")
        try:
            return int(text, 0)
        except ValueError:
            self._at -= 1
            self._wrong("a whole number")

    def _string(self) -> str:
        raw = self._a("string", "a text")[1:-1]
        return _ESCAPE.sub(_unescaped, raw.encode()).decode(errors="replace")

    def _pass_over(self, *ends: str) -> None:
        """Goes on behind one of these marks, whatever braces and brackets come before it."""
        depth = 0
        while True:
            token = self._next
            if token.kind == "end":
                self._wrong(" or ".join(map(repr, ends)))
            self._at += 1
            if token.kind == "mark" and depth == 0 and token.text in ends:
                return
            depth += (token.text in "{[(") - (token.text in "}])") if token.kind == "mark" else 0

    # ---- the file

    def file(self) -> FileDescriptorProto:
        statements: dict[str, Callable[[], None]] = {
            "syntax": self._syntax,
            "edition": self._syntax,
            "package": self._package,
            "import": self._import,
            "message": lambda: self._message(self._file.message_type, (4,)),
            "enum": lambda: self._enum(self._file.enum_type, (5,)),
            "service": self._service,
        }
        while self._next.kind != "end":
            word = self._next.text
            if self._take(";"):
                continue
            if word in statements and self._next.kind == "word":
                statements[word]()
            elif self._take("option"):
                self._pass_over(";")
            elif self._take("extend"):
                self._block(lambda: self._pass_over(";"))
            else:
                self._wrong("a message, an enum or a service")
        return self._file

    def _syntax(self) -> None:
        self._at += 1
        self._need("=")
        if self._next.text.strip("\"'") != "proto3":
            self._wrong("'proto3'")
        self._at += 1
        self._need(";")

    def _package(self) -> None:
        self._at += 1
        self._file.package = self._a("word", "the name of a package")
        self._need(";")

    def _import(self) -> None:
        self._at += 1
        self._take("public", "weak")
        self._file.dependency.append(self._string())
        self._need(";")

    def _comment(self, path: Path) -> None:
        """Keeps the comment before the next token."""
        if self._next.comment:
            self._file.source_code_info.location.add(path=path, span=[0, 0, 0], leading_comments=self._next.comment)

    def _block(self, statement: Callable[[], None]) -> None:
        """Takes a name if there is one, and then statements in braces."""
        while not self._take("{"):
            if self._next.kind != "word":
                self._wrong("'{'")
            self._at += 1
        while not self._take("}"):
            if not self._take(";"):
                statement()

    # ---- messages

    def _message(self, into: Sequence[DescriptorProto], path: Path) -> None:
        path = (*path, len(into))
        self._comment(path)
        self._need("message")
        message: DescriptorProto = into.add(name=self._a("word", "a name"))  # type: ignore[attr-defined]
        optional: list[_Proto] = []

        def statement() -> None:
            word = self._next.text
            if word == "message" and self._is_declaration():
                self._message(message.nested_type, (*path, 3))
            elif word == "enum" and self._is_declaration():
                self._enum(message.enum_type, (*path, 4))
            elif word == "oneof" and self._is_declaration():
                self._oneof(message, path)
            elif word in ("reserved", "extensions", "option"):
                self._pass_over(";")
            elif word == "map" and self._tokens[self._at + 1].text == "<":
                self._map(message, path)
            else:
                field = self._field(message, path)
                if field.proto3_optional:
                    optional.append(field)

        self._block(statement)
        add_presence(message, optional)

    def _is_declaration(self) -> bool:
        """Whether it is `message Name {` and no field of a type of that name."""
        return self._tokens[self._at + 2].text == "{"

    def _oneof(self, message: DescriptorProto, path: Path) -> None:
        self._at += 1
        index = len(message.oneof_decl)
        message.oneof_decl.add(name=self._a("word", "a name"))

        def statement() -> None:
            if self._next.text == "option":
                self._pass_over(";")
            else:
                self._field(message, path).oneof_index = index

        self._block(statement)

    def _field(self, message: DescriptorProto, path: Path) -> _Proto:
        self._comment((*path, 2, len(message.field)))
        label = self._next.text if self._next.text in ("optional", "repeated") else ""
        self._at += bool(label)
        field = message.field.add(label=_Proto.LABEL_REPEATED if label == "repeated" else _Proto.LABEL_OPTIONAL)
        self._type(field)
        self._named(field)
        if label == "optional":
            field.proto3_optional = True
        return field

    def _type(self, field: _Proto) -> None:
        name = self._a("word", "the type of a field")
        if name in _SCALARS:
            field.type = _SCALARS[name]
        else:
            field.type_name = name

    def _named(self, field: _Proto) -> None:
        field.name = self._a("word", "the name of a field")
        self._need("=")
        field.number = self._number()
        field.json_name = json_name(field.name)
        if self._take("["):
            if self._take("json_name"):
                self._need("=")
                field.json_name = self._string()
            if not self._take("]"):
                self._pass_over("]")
        self._need(";")

    def _map(self, message: DescriptorProto, path: Path) -> None:
        self._comment((*path, 2, len(message.field)))
        self._at += 2
        entry = DescriptorProto()
        entry.options.map_entry = True
        for number, name in enumerate(("key", "value"), start=1):
            part = entry.field.add(name=name, number=number, label=_Proto.LABEL_OPTIONAL, json_name=name)
            self._type(part)
            self._need(">" if number == 2 else ",")
        field = message.field.add(label=_Proto.LABEL_REPEATED, type=_Proto.TYPE_MESSAGE)
        self._named(field)
        entry.name = f"{json_name(f'_{field.name}')}Entry"
        field.type_name = entry.name
        message.nested_type.append(entry)

    # ---- enums and services

    def _enum(self, into: Sequence[EnumDescriptorProto], path: Path) -> None:
        path = (*path, len(into))
        self._comment(path)
        self._need("enum")
        enum: EnumDescriptorProto = into.add(name=self._a("word", "a name"))  # type: ignore[attr-defined]

        def statement() -> None:
            if self._next.text in ("option", "reserved") and self._tokens[self._at + 1].text != "=":
                if [token.text for token in self._tokens[self._at + 1 : self._at + 4]] == ["allow_alias", "=", "true"]:
                    enum.options.allow_alias = True
                self._pass_over(";")
                return
            self._comment((*path, 2, len(enum.value)))
            name = self._a("word", "the name of a value")
            self._need("=")
            enum.value.add(name=name, number=self._number())
            if not self._take(";"):
                self._pass_over(";")

        self._block(statement)

    def _service(self) -> None:
        path = (6, len(self._file.service))
        self._comment(path)
        self._at += 1
        service = self._file.service.add(name=self._a("word", "a name"))

        def statement() -> None:
            if self._take("option"):
                self._pass_over(";")
            else:
                self._rpc(service, path)

        self._block(statement)

    def _rpc(self, service: ServiceDescriptorProto, path: Path) -> None:
        self._comment((*path, 2, len(service.method)))
        self._need("rpc")
        method = service.method.add(name=self._a("word", "a name"))
        streams, method.input_type = self._streamed()
        if streams:
            method.client_streaming = True
        self._need("returns")
        streams, method.output_type = self._streamed()
        if streams:
            method.server_streaming = True
        if self._take("{"):
            self._pass_over("}")
        else:
            self._need(";")

    def _streamed(self) -> tuple[bool, str]:
        self._need("(")
        streams = self._next.text == "stream" and self._tokens[self._at + 1].kind == "word"
        self._at += streams
        name = self._a("word", "the name of a message")
        self._need(")")
        return streams, name


def _unescaped(match: re.Match[bytes]) -> bytes:
    code: bytes = match.group(1)
    if code[:1] in (b"x", b"X") and len(code) > 1:
        return bytes([int(code[1:], 16)])
    return bytes([int(code, 8) & 255]) if code[:1].isdigit() else _ESCAPED.get(code, code)

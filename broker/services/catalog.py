"""The services of a daemon that are the same for every daemon, and the descriptors that reflection shows of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import Default


class Files:
    """Files of descriptors by name, and by what they define. Files are only added; any thread may look things up."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, tuple[str, ...]]] = {}
        self._by_symbol: dict[str, str] = {}

    def add(self, file: FileDescriptorProto) -> None:
        """Takes in a file. What it imports is to be added as well."""
        self._files[file.name] = file.SerializeToString(), tuple(file.dependency)
        for symbol in symbols_of(file):
            self._by_symbol.setdefault(symbol, file.name)

    def add_known(self, file: FileDescriptor) -> None:
        """Takes in a file of a pool, with all that it imports."""
        if file.name not in self._files:
            proto = FileDescriptorProto()
            file.CopyToProto(proto)
            self.add(proto)
            for imported in file.dependencies:
                self.add_known(imported)

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def has_symbol(self, symbol: str) -> bool:
        """Whether one of the files defines it."""
        return symbol in self._by_symbol

    def with_symbol(self, symbol: str) -> list[bytes]:
        """The file that defines a symbol, and all that it imports. Raises KeyError."""
        return self.with_name(self._by_symbol[symbol])

    def with_name(self, name: str) -> list[bytes]:
        """The file of that name, and all that it imports: each before those that it imports. Raises KeyError."""
        return self.closure((name,))

    def closure(self, names: Iterable[str]) -> list[bytes]:
        """The files of these names, and all that they import: each before those that it imports. Raises KeyError."""
        found: dict[str, bytes] = {}
        for name in names:
            self._gather(name, found)
        return [*found.values()][::-1]

    def _gather(self, name: str, found: dict[str, bytes]) -> None:
        if name not in found:
            data, imports = self._files[name]
            for imported in imports:
                self._gather(imported, found)
            found[name] = data


def symbols_of(file: FileDescriptorProto) -> Iterator[str]:
    """The full names of all that a file defines, methods and fields included."""
    prefix = f"{file.package}." if file.package else ""
    for message in file.message_type:
        yield from _symbols_of_message(message, prefix)
    for enum in file.enum_type:
        yield from _symbols_of_enum(enum, prefix)
    for service in file.service:
        yield prefix + service.name
        yield from (f"{prefix}{service.name}.{method.name}" for method in service.method)


def _symbols_of_message(message: DescriptorProto, prefix: str) -> Iterator[str]:
    name = prefix + message.name
    yield name
    yield from (f"{name}.{field.name}" for field in message.field)
    yield from (f"{name}.{oneof.name}" for oneof in message.oneof_decl)
    for nested in message.nested_type:
        yield from _symbols_of_message(nested, f"{name}.")
    for enum in message.enum_type:
        yield from _symbols_of_enum(enum, f"{name}.")


def _symbols_of_enum(enum: EnumDescriptorProto, prefix: str) -> Iterator[str]:
    yield prefix + enum.name
    yield from (prefix + value.name for value in enum.value)  # beside the enum, as in C++


def file_of_service(service: str) -> FileDescriptor:
    """The file, in the pool of this process, that defines a service. Raises KeyError."""
    return Default().FindServiceByName(service).file

"""`python -m broker.schema`: writes the typed service of a running object down, and compares it with an older one."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection_pb2 as reflection  # type: ignore[import-untyped]

from broker.command_line import add_credentials, take
from broker.connection.channels import open_channel, shown_by
from broker.errors import BrokerError, CannotConnect, ObjectNotFound
from broker.proxy import Proxy
from broker.registry.locate import resolve
from broker.schema import flat_name, service_name
from broker.schema.changes import breaking_changes
from broker.schema.json_schema import json_schema
from broker.schema.parsing import ProtoSyntaxError, parse_proto
from broker.schema.stubs import StubMember, stub_text
from broker.schema.text import proto_text
from broker.security import default_credentials
from broker.uri import NAME, TAGS, URI

__all__ = ["main"]

_REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
_PATIENCE = 10.0
_EPILOG = """\
examples:
  python -m broker.schema example.warehouse > warehouse.proto
  python -m broker.schema BROKER:example.warehouse@localhost:7766 --check warehouse.proto
  python -m broker.schema example.warehouse --pyi -o warehouse_stub.pyi
  python -m broker.schema example.warehouse --json

A name is looked up in the name server, at BROKER_NS_HOST and BROKER_NS_PORT, then at localhost:9090.
Exit status: 0 done, 1 refused or, with --check, changed so that clients break; 2 wrong usage.
"""


class Refused(Exception):
    """The command ends with status 1 and this line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns the exit status; argparse itself exits with 2 for wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        take(arguments)
        if arguments.check is not None:
            return _check(arguments.object, arguments.check)
        _write(arguments.output, arguments.form(Described(arguments.object, flat=arguments.flat)))
    except (BrokerError, Refused) as error:
        print(f"broker.schema: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough; what is still buffered must not fail at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


# ---- what a daemon says


class Described:
    """A running object, and the files that describe its service."""

    def __init__(self, text: str, *, flat: bool = False, wanted: str = "") -> None:
        """`wanted` is the full name of a service, if the object has several and one of them is to be found.

        Raises BrokerError, and Refused where the daemon shows no service for it.
        """
        asked = _uri(text)
        self._uri = resolve(asked)
        with Proxy(self._uri) as proxy:
            self.description = proxy._broker.description
            """What the daemon says to Python clients."""
        names = [asked.object] if asked.protocol == NAME else []
        self.names = list(dict.fromkeys([*names, self._uri.object]))
        self.files = self._files(flat, wanted)
        """What the daemon sent: the file itself first, and what it imports."""

    @property
    def file(self) -> FileDescriptorProto:
        return self.files[0]

    @property
    def service(self) -> str:
        return _service_of(self.file)

    def _files(self, flat: bool, wanted: str) -> list[FileDescriptorProto]:
        """Asks for the service under each name, and takes the form that the daemon lists beside its other services."""
        symbols = [name for each in self.names for name in dict.fromkeys((service_name(each), flat_name(each)))]
        listed, *answers = self._ask(symbols)
        services = {service.name for service in listed.list_services_response.service}
        files = {
            symbol: answer.file_descriptor_response.file_descriptor_proto
            for symbol, answer in zip(symbols, answers, strict=True)
            if answer.HasField("file_descriptor_response")
        }
        for name in self.names:
            first, rather = service_name(name), flat_name(name)
            symbol = rather if flat or (rather in services and first not in services) else first
            if wanted in (first, rather):
                symbol = wanted
            if symbol in files:
                return list(map(FileDescriptorProto.FromString, files[symbol]))
        reasons = "; ".join(dict.fromkeys(answer.error_response.error_message for answer in answers))
        raise Refused(f"{self._uri} has no typed service that is shown here: {reasons}")

    def _ask(self, symbols: Sequence[str]) -> Iterator[reflection.ServerReflectionResponse]:
        """The list of services, and one answer for each symbol. Raises CannotConnect and ObjectNotFound."""
        uri, credentials = self._uri, default_credentials()
        host, port = uri.host or "localhost", uri.port or 0
        socket = uri.socket_path
        requests = [reflection.ServerReflectionRequest(list_services="")]
        requests += [reflection.ServerReflectionRequest(file_containing_symbol=symbol) for symbol in symbols]
        with closing(open_channel(host, port, unix_socket=socket, credentials=credentials)) as channel:
            call = channel.stream_stream(
                _REFLECT,
                request_serializer=reflection.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection.ServerReflectionResponse.FromString,
            )
            metadata = shown_by(credentials, host, port, unix_socket=socket)
            try:
                yield from call(iter(requests), timeout=_PATIENCE, metadata=metadata, wait_for_ready=False)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.UNIMPLEMENTED:
                    raise ObjectNotFound(f"{uri.location} has no server reflection: is it a daemon?") from None
                raise CannotConnect(f"{uri.location}: {error.details()} ({error.code().name})") from None


def _uri(text: str) -> URI:
    """A URI as it stands; anything else is a name."""
    scheme = text.partition(":")[0].upper()
    known = ("BROKER", "BROKERNAME", "BROKERMETA", "PYRO", "PYRONAME", "PYROMETA")
    uri = URI(text if ":" in text and scheme in known else f"{NAME}:{text}")
    return uri if uri.protocol != TAGS else resolve(uri)


# ---- what is written


def _proto(found: Described) -> str:
    lines = [f"// Made by `python -m broker.schema` of {found.names[0]}."]
    if found.service not in map(service_name, found.names):
        lines.append(
            "// Under its flat name: protobuf lets no program have it beside a service that its name begins with."
        )
    return "\n".join([*lines, proto_text(found.file)])


def _descriptor_set(found: Described) -> bytes:
    """The file and all that it imports: each behind those that it imports, as protoc writes them."""
    return FileDescriptorSet(file=found.files[::-1]).SerializeToString()


def _pyi(found: Described) -> str:
    description = found.description
    members = [
        StubMember(
            member.name,
            member.is_method,
            member.writable,
            inspect.cleandoc(member.doc or ""),
            member.signature() if member.is_method else None,
        )
        for member in description.members.values()
    ]
    return stub_text(found.file, description.type_name.rpartition(".")[2], members)


def _json(found: Described) -> str:
    return json.dumps(json_schema(found.file), indent=2, ensure_ascii=False) + "\n"


def _write(output: Path | None, what: str | bytes) -> None:
    data = what.encode() if isinstance(what, str) else what
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        raise Refused(f"{output} cannot be written: {error.strerror}") from None


# ---- comparing


def _check(text: str, path: Path) -> int:
    old = _read(path)
    found = Described(text, wanted=_service_of(old))
    changes = breaking_changes(old, found.file)
    for change in changes:
        print(change)
    return 1 if changes else 0


def _service_of(file: FileDescriptorProto) -> str:
    return f"{file.package}.{file.service[0].name}".removeprefix(".")


def _read(path: Path) -> FileDescriptorProto:
    """A `.proto` file, or a set of descriptors: the file with a service in it. Raises Refused."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    try:
        files = _files_in(data, path)
    except (ProtoSyntaxError, UnicodeDecodeError, DecodeError) as error:
        raise Refused(f"{path} is neither a .proto file nor a set of descriptors: {error}") from None
    described = [file for file in files if file.service]
    if not described:
        raise Refused(f"{path} describes no service")
    return described[-1]


def _files_in(data: bytes, path: Path) -> list[FileDescriptorProto]:
    if path.suffix == ".proto" or data.lstrip().startswith((b"//", b"/*", b"syntax", b"package", b"service")):
        return [parse_proto(data.decode(), path.name)]
    return list(FileDescriptorSet.FromString(data).file)


# ---- the command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m broker.schema",
        description="Writes down the typed gRPC service of a running object, as a .proto file unless told otherwise.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("object", metavar="URI_OR_NAME", help="a BROKER URI, or a name in the name server")
    forms = parser.add_mutually_exclusive_group()
    what: dict[str, tuple[Callable[[Described], str | bytes], str]] = {
        "--descriptor-set": (_descriptor_set, "a FileDescriptorSet with all imports, as protoc writes it"),
        "--pyi": (_pyi, "a stub of the object and of the types of its values, for type checkers"),
        "--json": (_json, "a JSON Schema of each request and reply"),
    }
    for option, (form, text) in what.items():
        forms.add_argument(option, dest="form", action="store_const", const=form, help=text)
    forms.add_argument("--check", type=Path, metavar="OLD", help="compare with an older .proto file or descriptor set")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write there (default: standard output)")
    parser.add_argument(
        "--flat", action="store_true", help="under its name without a package, to stand beside a shorter name"
    )
    parser.set_defaults(form=_proto)
    add_credentials(parser)
    return parser

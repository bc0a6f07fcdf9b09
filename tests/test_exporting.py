"""`python -m broker.schema` against running daemons."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorSet

import broker
from broker.exporting import main
from broker.schema import flat_name
from broker.schema.parsing import parse_proto


class Warehouse:
    """Keeps things until somebody takes them."""

    def take(self, name: str, item: str = "couch") -> None:
        """Hands an item over."""

    def list_contents(self) -> list[str]:
        """What is there now."""
        return []


class Changed(Warehouse):
    def take(self, name: str, item: int = 3) -> None: ...  # type: ignore[override]


class Renamed(Warehouse):
    take = None  # type: ignore[assignment]

    def hand_over(self, name: str) -> None: ...


@pytest.fixture
def daemon() -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        yield daemon


def at(daemon: broker.Daemon, object_id: str) -> str:
    return f"BROKER:{object_id}@localhost:{daemon.address[1]}"


Output = pytest.CaptureFixture[bytes]


def test_a_proto_file(daemon: broker.Daemon, capsysbinary: Output) -> None:
    daemon.register(Warehouse(), "example.warehouse")
    assert main([at(daemon, "example.warehouse")]) == 0
    text = capsysbinary.readouterr().out.decode()
    assert text.startswith('// Made by `python -m broker.schema` of example.warehouse.\nsyntax = "proto3";\n')
    file = parse_proto(text)
    assert (file.package, file.service[0].name) == ("example", "warehouse")
    assert "// Hands an item over.\n  rpc take(" in text


def test_a_set_of_descriptors_is_complete(daemon: broker.Daemon, tmp_path: Path) -> None:
    daemon.register(Warehouse(), "example.warehouse")
    out = tmp_path / "set"
    assert main([at(daemon, "example.warehouse"), "--descriptor-set", "--output", str(out)]) == 0
    files = FileDescriptorSet.FromString(out.read_bytes()).file
    pool = descriptor_pool.DescriptorPool()
    for file in files:  # each finds what it imports
        pool.AddSerializedFile(file.SerializeToString())
    service = pool.FindServiceByName("example.warehouse")
    assert [method.name for method in service.methods] == ["list_contents", "take"]


def test_a_stub(daemon: broker.Daemon, capsysbinary: Output) -> None:
    daemon.register(Warehouse(), "example.warehouse")
    assert main([at(daemon, "example.warehouse"), "--pyi"]) == 0
    text = capsysbinary.readouterr().out.decode()
    ast.parse(text)
    assert "class Warehouse:\n" in text
    assert '    def take(self, name: str, item: str = ...) -> None:\n        """Hands an item over."""\n' in text


def test_a_json_schema(daemon: broker.Daemon, capsysbinary: Output) -> None:
    daemon.register(Warehouse(), "example.warehouse")
    assert main([at(daemon, "example.warehouse"), "--json"]) == 0
    document = json.loads(capsysbinary.readouterr().out)
    assert document["methods"]["take"]["request"]["required"] == ["name"]


def test_the_tools_of_a_class_with_what_cannot_be_expressed(daemon: broker.Daemon, capsysbinary: Output) -> None:
    class Odd:
        def watch(self, callback: type[int], more: int = 3) -> None:
            """Watches."""

    daemon.register(Odd(), "odd")
    assert main([at(daemon, "odd")]) == 0
    assert "// - watch: parameter 'callback': type[int] has no form in protobuf\nservice odd {}" in (
        capsysbinary.readouterr().out.decode()
    )
    assert main([at(daemon, "odd"), "--pyi"]) == 0
    assert "def watch(self, *args: typing.Any, **kwargs: typing.Any)" in capsysbinary.readouterr().out.decode()


# ---- comparing


def test_what_is_unchanged_passes(daemon: broker.Daemon, tmp_path: Path, capsysbinary: Output) -> None:
    daemon.register(Warehouse(), "example.warehouse")
    uri, old, old_set = at(daemon, "example.warehouse"), tmp_path / "old.proto", tmp_path / "old.set"
    assert main([uri, "-o", str(old)]) == 0
    assert main([uri, "--descriptor-set", "-o", str(old_set)]) == 0
    assert main([uri, "--check", str(old)]) == 0
    assert main([uri, "--check", str(old_set)]) == 0
    assert capsysbinary.readouterr() == (b"", b"")


@pytest.mark.parametrize(
    ("new", "said"),
    [(Changed, "take request.item: it was string and is int64 now\n"), (Renamed, "take: the method is gone\n")],
)
def test_each_change_is_named(
    daemon: broker.Daemon, tmp_path: Path, capsysbinary: Output, new: type, said: str
) -> None:
    daemon.register(Warehouse(), "example.warehouse")
    uri, old = at(daemon, "example.warehouse"), tmp_path / "old.proto"
    assert main([uri, "-o", str(old)]) == 0
    daemon.register(new(), "example.warehouse", replace=True)
    assert main([uri, "--check", str(old)]) == 1
    assert capsysbinary.readouterr().out.decode() == said


# ---- names


def test_names_of_which_one_begins_the_other(daemon: broker.Daemon, tmp_path: Path) -> None:
    names = ("a", "a.b", "a.b.c", "desk", "desk_types")
    for object_id in names:
        daemon.register(Warehouse(), object_id)
    pool = descriptor_pool.DescriptorPool()
    for object_id in names:
        out = tmp_path / object_id
        assert main([at(daemon, object_id), "--descriptor-set", "-o", str(out)]) == 0
        for file in FileDescriptorSet.FromString(out.read_bytes()).file:
            pool.AddSerializedFile(file.SerializeToString())
    for service in ("a", flat_name("a.b"), flat_name("a.b.c"), "desk", flat_name("desk_types")):
        assert pool.FindServiceByName(service).full_name == service


def test_either_name_of_a_service_is_compared(daemon: broker.Daemon, tmp_path: Path) -> None:
    daemon.register(Warehouse(), "a.b")
    long, flat = tmp_path / "long.proto", tmp_path / "flat.proto"
    assert main([at(daemon, "a.b"), "-o", str(long)]) == 0
    assert main([at(daemon, "a.b"), "--flat", "-o", str(flat)]) == 0
    assert f"service {flat_name('a.b')} " in flat.read_text(encoding="utf-8")
    assert "service b {" in long.read_text(encoding="utf-8")
    daemon.register(Warehouse(), "a")  # from now on the other name is the one to have
    assert main([at(daemon, "a.b"), "--check", str(long)]) == 0
    assert main([at(daemon, "a.b"), "--check", str(flat)]) == 0


def test_a_name_that_protobuf_does_not_allow(daemon: broker.Daemon, capsysbinary: Output) -> None:
    daemon.register(Warehouse(), "my-desk")
    assert main([at(daemon, "my-desk")]) == 0
    assert f"service {flat_name('my-desk')} ".encode() in capsysbinary.readouterr().out


def test_names_of_the_name_server(daemon: broker.Daemon, capsysbinary: Output) -> None:
    with broker.start_ns(port=0) as server:
        assert server.uri.port is not None
        broker.config.ns_port = server.uri.port
        daemon.publish(Warehouse(), "example.warehouse", tags=["storage"])
        for text in ("example.warehouse", "PYRONAME:example.warehouse"):
            assert main([text]) == 0
            assert b"package example;" in capsysbinary.readouterr().out
        assert main(["BROKERMETA:storage"]) == 0
        assert b"service obj_" in capsysbinary.readouterr().out


# ---- refusals


def test_refusals_are_one_line(daemon: broker.Daemon, tmp_path: Path, capsysbinary: Output) -> None:
    daemon.register(Warehouse(), "example.warehouse")
    uri = at(daemon, "example.warehouse")
    nonsense, messages = tmp_path / "nonsense.proto", tmp_path / "messages.proto"
    nonsense.write_text("service {")
    messages.write_text('syntax = "proto3"; message A {}')
    for arguments, said in (
        ([at(daemon, "nobody")], "nobody"),
        (["BROKER:x@localhost:1"], "cannot connect to localhost:1"),
        (["BROKER:x"], "says no place"),
        ([uri, "--check", str(tmp_path / "missing")], "missing cannot be read: No such file or directory"),
        ([uri, "--check", str(nonsense)], "line 1: a name is expected, and there is '{'"),
        ([uri, "--check", str(messages)], "describes no service"),
        ([uri, "--output", str(tmp_path / "no" / "folder")], "cannot be written: No such file or directory"),
    ):
        assert main(arguments) == 1
        out, err = capsysbinary.readouterr()
        assert out == b""
        assert said in err.decode()
        assert err.count(b"\n") == 1


def test_as_a_program(daemon: broker.Daemon) -> None:
    daemon.register(Warehouse(), "example.warehouse")
    command = [sys.executable, "-m", "broker.schema"]
    done = subprocess.run([*command, at(daemon, "example.warehouse")], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"service warehouse {" in done.stdout
    wrong = subprocess.run([*command], capture_output=True, check=False)
    assert wrong.returncode == 2

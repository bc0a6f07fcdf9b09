"""Files as text: protoc reads them, and so do we."""

from __future__ import annotations

import enum
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from broker.schema import flat_name
from broker.schema.parsing import ProtoSyntaxError, parse_proto
from broker.schema.text import proto_text
from tests.schema.strangers import schema_of_class, schema_of_hint
from tests.schema.test_schema_types import ROWS

PROTOC = Path(__file__).parents[2] / ".venv-proto" / "bin" / "python"


class Odd(enum.Enum):
    """What protoc might stumble over."""

    message = 1
    Value = 2
    UNSPECIFIED = 3
    zero = 0
    null = 0  # noqa: PIE796 - an alias


class google:  # noqa: N801 - a name that hides a package
    pass


@dataclass
class string:  # noqa: N801 - a name that is a word of protobuf
    optional: int = 0
    string: str = ""
    item: list[int] | None = None
    _item: int = 0
    map: dict[str, google] | None = None
    oneof: Odd = Odd.Value


class Everything:
    """All that there is.

    // Comments, */ and "quotes" do no harm, nor does \\ or \u2028a line that is none.
    """

    def message(self, rpc: string, returns: Odd, stream: Iterator[int], *repeated: int, **reserved: Any) -> google:
        """Says nothing."""
        raise NotImplementedError

    def größe(self, straße: int, fooBar: int, foo_bar: int, Clear: int) -> None: ...  # noqa: N803, PLC2401

    def rows(self, when: Any = None) -> Iterator[dict[int, list[string]]]:
        yield {}


def files() -> Iterator[tuple[str, FileDescriptorProto]]:
    everything = schema_of_class(Everything)
    assert everything.problems == []
    for name in ("odd", "a.b", "a.b.c", "rpc.service", "google.mine", "my object", "größe"):
        yield name, everything.named(name).file
    for place, (hint, _, _) in enumerate(ROWS):
        yield str(hint), schema_of_hint(hint).named(f"rows.row{place}").file


def compiled(texts: dict[str, str], folder: Path) -> dict[str, FileDescriptorProto]:
    """What protoc makes of these files."""
    assert PROTOC.exists(), "make .venv-proto/.done installs protoc"
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    options = ["-I.", "--descriptor_set_out=set", "--include_source_info"]
    made = subprocess.run(
        [PROTOC, "-m", "grpc_tools.protoc", *options, *texts], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (made.returncode, made.stderr) == (0, "")
    return {file.name: file for file in FileDescriptorSet.FromString((folder / "set").read_bytes()).file}


def bare(file: FileDescriptorProto) -> FileDescriptorProto:
    """The file without its comments."""
    copy = FileDescriptorProto()
    copy.CopyFrom(file)
    copy.ClearField("source_code_info")
    return copy


def comments(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    return {tuple(at.path): at.leading_comments for at in file.source_code_info.location if at.leading_comments}


def test_protoc_makes_the_same_of_the_text(tmp_path: Path) -> None:
    ours = {file.name: file for name, file in files() if name != "a.b.c"}  # no program can have it beside a.b
    theirs = compiled({name: proto_text(file) for name, file in ours.items()}, tmp_path)
    assert theirs.keys() == ours.keys()
    for name, file in ours.items():
        assert bare(theirs[name]) == bare(file)
        assert comments(theirs[name]) == comments(file)


def test_a_name_that_begins_with_another_stands_beside_it_flat(tmp_path: Path) -> None:
    schema = schema_of_class(Everything)
    both = [schema.named("a.b").file, schema.under(flat_name("a.b.c")).file]
    assert len(compiled({file.name: proto_text(file) for file in both}, tmp_path)) == 2


def test_we_read_what_we_write() -> None:
    for _, file in files():
        read = parse_proto(proto_text(file), file.name)
        assert bare(read) == bare(file)
        assert comments(read) == comments(file)


FOREIGN = """\
/* As somebody
 * else writes it. */
syntax = 'proto3';
package shop.v1;
import public "google/protobuf/any.proto";
option go_package = "shop/v1;shop";

enum Colour { option allow_alias = true; NONE = 0; RED = 0x1 [deprecated = true]; ROT = 1; reserved 5 to 7; }

// A desk.
service Desk {
  option deprecated = true;
  rpc Take(TakeRequest) returns (stream .shop.v1.TakeReply) { option idempotency_level = NO_SIDE_EFFECTS; }
}
message TakeRequest {
  reserved 4, 6 to 8;
  reserved "old";
  optional sint32 count = 1 [json_name = "h\\303\\266he", deprecated = true];
  message Inner { repeated Colour colours = 1 [packed = true]; }
  Inner inner = 2; // behind it
  map<int32, Inner> by_id = 3;
  oneof either { option x = 1; string a = 9; Colour b = 10; }
}
message TakeReply { google.protobuf.Any any = 1; extensions 100 to max; };
"""


def test_what_others_write_is_read(tmp_path: Path) -> None:
    text = FOREIGN.replace(" extensions 100 to max;", "").replace("option x = 1; ", "")
    theirs = bare(compiled({"desk.proto": text}, tmp_path)["desk.proto"])
    ours = bare(parse_proto(FOREIGN, "desk.proto"))
    for file in (theirs, ours):  # nothing that a comparison looks at
        file.ClearField("options")
        file.ClearField("public_dependency")
        file.service[0].ClearField("options")
        file.service[0].method[0].ClearField("options")
        file.enum_type[0].value[1].ClearField("options")
        file.enum_type[0].ClearField("reserved_range")
        for message in file.message_type:
            message.ClearField("reserved_range")
            message.ClearField("reserved_name")
            for field in [*message.field, *(field for nested in message.nested_type for field in nested.field)]:
                field.ClearField("options")
    assert ours == theirs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('syntax = "proto2";', "line 1: 'proto3' is expected, and there is '\"proto2\"'"),
        ("message A {\n  int32 a;\n}", "line 2: '=' is expected, and there is ';'"),
        ("message A {\n", "line 2: "),
        ("message A { int32 a = x; }", "line 1: a number is expected, and there is 'x'"),
        ("service A { rpc B(C) returns D; }", "line 1: '\\(' is expected, and there is 'D'"),
        ("nonsense", "line 1: a message, an enum or a service is expected, and there is 'nonsense'"),
        ("message A { string a = 1 [x = {", "the end of the file"),
        ("\0", "line 1: '\\\\x00' is nothing that a .proto file has"),
    ],
)
def test_what_is_no_proto_file_is_told_by_its_line(text: str, said: str) -> None:
    with pytest.raises(ProtoSyntaxError, match=said):
        parse_proto(text)

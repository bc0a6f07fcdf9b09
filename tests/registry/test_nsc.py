"""The command line client: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from broker import nsc

if TYPE_CHECKING:
    from tests.registry.conftest import Running

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(running: Running, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_nsc(*arguments: str) -> tuple[int, str, str]:
        status = nsc.main(["-n", "127.0.0.1", "-p", str(running.port), *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run_nsc


def test_list_prints_as_the_tutorial_shows(run: Run, running: Running) -> None:
    running.names.register("example.warehouse", "BROKER:obj_1@localhost:51294")
    running.names.register("a.tagged", "BROKER:obj_2@localhost:51294", tags=["y", "x"])
    assert run("list")[1] == (
        "--------START LIST\n"
        f"Broker.NameServer --> BROKER:Broker.NameServer@127.0.0.1:{running.port}\n"
        "a.tagged --> BROKER:obj_2@localhost:51294\n"
        "    tags: x, y\n"
        "example.warehouse --> BROKER:obj_1@localhost:51294\n"
        "--------END LIST\n"
    )


def test_names_that_protobuf_does_not_allow_are_shown_with_their_service(run: Run, running: Running) -> None:
    run("register", "my-desk", "BROKER:o@h:1", "--tag", "x")
    assert run("lookup", "my-desk")[1] == "BROKER:o@h:1\n    service: my_desk_766a0d81\n    tags: x\n"
    assert "my-desk --> BROKER:o@h:1\n    service: my_desk_766a0d81\n    tags: x\n" in run("list")[1]
    assert json.loads(run("lookup", "my-desk", "--json")[1])["service"] == "my_desk_766a0d81"


def test_list_says_what_it_was_asked_for(run: Run, running: Running) -> None:
    running.names.register("example.a", "BROKER:o@h:1", tags=["x"])
    shown = "example.a --> BROKER:o@h:1\n    tags: x\n"
    assert run("list", "example.")[1] == (
        f"--------START LIST - prefix 'example.'\n{shown}--------END LIST - prefix 'example.'\n"
    )
    assert shown in run("list", "--regex", "ex.*a")[1]
    assert shown in run("list", "--tags-all", "x")[1]
    assert shown in run("list", "--tags-any", "x,y")[1]
    assert shown not in run("list", "--tags-all", "x,y")[1]


def test_every_command(run: Run) -> None:
    assert run("ping") == (0, "Name server ping ok.\n", "")
    assert run("register", "a", "PYRO:o@h:1", "--tag", "x", "--tag", "y") == (0, "Registered a\n", "")
    assert run("lookup", "a") == (0, "BROKER:o@h:1\n    tags: x, y\n", "")
    assert run("set-tags", "a", "z") == (0, "Tags of a: z\n", "")
    assert run("set-tags", "a") == (0, "a has no tags now\n", "")
    assert run("lookup", "a") == (0, "BROKER:o@h:1\n", "")
    assert run("register", "a", "BROKER:p@h:1", "--replace") == (0, "Registered a\n", "")
    assert run("count") == (0, "2\n", "")
    assert run("remove", "a") == (0, "Removed a\n", "")
    assert run("register", "t1", "BROKER:p@h:1", "--ttl", "60")[0] == 0
    assert run("register", "t2", "BROKER:p@h:1")[0] == 0
    assert run("remove", "--prefix", "t", "--yes") == (0, "2 names removed.\n", "")
    assert run("remove", "--regex", "t.*", "-y") == (0, "0 names removed.\n", "")


def test_json_everywhere_before_or_after_the_command(run: Run, running: Running) -> None:
    def answer(*arguments: str) -> object:
        status, out, err = run(*arguments)
        assert (status, err) == (0, "")
        return json.loads(out)

    own = f"BROKER:Broker.NameServer@127.0.0.1:{running.port}"
    entry = {"uri": "BROKER:o@h:1", "tags": ["x"]}
    assert answer("ping", "--json") == {"ok": True, "name_server": own}
    assert answer("--json", "register", "a", "BROKER:o@h:1", "--tag", "x") == {"name": "a", **entry}
    assert answer("lookup", "a", "--json") == {"name": "a", **entry}
    assert answer("list", "--json") == {"Broker.NameServer": {"uri": own, "tags": []}, "a": entry}
    assert answer("set-tags", "a", "--json") == {"name": "a", "tags": []}
    assert answer("count", "--json") == {"count": 2}
    assert answer("remove", "a", "--json") == {"removed": 1}
    assert answer("remove", "--prefix", "a", "--json") == {"removed": 0}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["lookup", "missing"], "unknown name 'missing'"),
        (["remove", "missing"], "there is no name 'missing'"),
        (["remove", "Broker.NameServer"], "nothing removed"),
        (["register", "taken", "BROKER:p@h:1"], "'taken' is taken by BROKER:o@h:1"),
        (["register", "a", "nonsense"], "'nonsense' is no URI"),
        (["register", "a b", "BROKER:o@h:1"], "which no URI can say"),
        (["register", "Broker.NameServer", "BROKER:o@h:1", "--replace"], "the name server itself"),
        (["list", "--regex", "("], "invalid regex '('"),
        (["list", "a", "--regex", "b"], "not by both"),
        (["set-tags", "missing", "x"], "unknown name 'missing'"),
        (["lookup", "\udcff"], "no text that can be sent"),
    ],
)
def test_a_refusal_is_one_line_and_status_1(run: Run, running: Running, arguments: list[str], why: str) -> None:
    running.names.register("taken", "BROKER:o@h:1")
    status, out, err = run(*arguments)
    assert (status, out) == (1, "")
    assert err.startswith("broker-nsc: ")
    assert err.count("\n") == 1
    assert why in err


@pytest.mark.parametrize(
    "arguments",
    [[], ["frobnicate"], ["lookup"], ["remove"], ["remove", "a", "--prefix", "b"], ["-p", "70000", "ping"],
     ["register", "a", "BROKER:o@h:1", "--ttl", "nan"]],
)  # fmt: skip
def test_wrong_usage_is_status_2(run: Run, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    assert "usage: broker-nsc" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        nsc.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "broker-nsc register printer BROKER:lp1@host:5000" in shown
    assert "Exit status" in shown


def spawn(port: int, *arguments: str, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "broker.nsc", "-n", "127.0.0.1", "-p", str(port), *arguments]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


def test_no_name_server_is_one_line_and_status_1(running: Running) -> None:
    running.stop()
    process = spawn(running.port, "list")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    assert err == (
        f"broker-nsc: no name server found at 127.0.0.1:{running.port}: nothing listens there (connection refused). "
        "Start one with `python -m broker.naming`, or say where it is: by host and port, or by BROKER_NS_HOST and "
        "BROKER_NS_PORT\n"
    )


def test_a_reader_that_has_seen_enough_is_no_error(running: Running) -> None:
    for number in range(3000):
        running.names.register(f"a.rather.long.name.{number}", "BROKER:o@h:1")
    process = spawn(running.port, "list")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "--------START LIST\n"
    process.stdout.close()
    assert process.wait(timeout=30) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize(("answer", "status", "left"), [("n", 1, 3), ("y", 0, 1)])
def test_many_are_removed_from_a_terminal_only_after_a_yes(
    running: Running, answer: str, status: int, left: int
) -> None:
    running.names.register("t1", "BROKER:o@h:1")
    running.names.register("t2", "BROKER:o@h:1")
    controller, terminal = pty.openpty()
    process = spawn(running.port, "remove", "--prefix", "t", stdin=terminal)
    os.write(controller, f"{answer}\n".encode())
    _, err = process.communicate(timeout=30)
    os.close(controller)
    os.close(terminal)
    assert process.returncode == status
    assert err.startswith("t1\nt2\nRemove these 2 names? (y/n) ")
    assert running.names.count() == left

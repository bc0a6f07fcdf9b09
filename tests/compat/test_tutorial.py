"""The programs of Pyro4's tutorial, as one types them from its manual, unmodified and in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.compat import Pyro4
from tests.conftest import Program
from tests.fork_server import Anew

PROGRAMS = Path(__file__).parent / "programs"
CONTENTS = "['chair', 'bike', 'flashlight', 'laptop', 'couch']"

Run = Callable[..., Any]


def compat(run_program: Run, *arguments: str | Path, ns_port: int = 0) -> Any:
    environment = {"PYRO_NS_PORT": str(ns_port)} if ns_port else {}
    # It becomes the program with the options of its own interpreter.
    return run_program(None, "-m", "broker.compat", *map(str, arguments), environment=environment, anew=True)


@pytest.fixture(scope="module")
def ns_port() -> Iterator[int]:
    """The port of a name server that was started as Pyro4's manual says."""
    server = Program(Anew(["-m", "broker.compat", "-m", "Pyro4.naming", "-p", "0"], os.environ))
    uri = server.line("URI = ")
    port = int(uri.removeprefix("PYRO:Pyro.NameServer@localhost:"))
    assert server.output[:2] == [
        "Not starting broadcast server for localhost.\n",
        f"NS running on localhost:{port} (127.0.0.1)\n",
    ]
    yield port
    server.send_signal(signal.SIGINT)
    assert server.wait() == 0
    assert server.output[-1] == "NS shut down.\n"
    server.close()


def nsc(ns_port: int, *arguments: str) -> str:
    command = [sys.executable, "-m", "broker.compat", "-m", "Pyro4.nsc", "-n", "localhost", "-p", str(ns_port)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=True, timeout=30).stdout


def visit(folder: str, lines: list[str], ns_port: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "broker.compat", str(PROGRAMS / folder / "visit.py")]
    environment = {**os.environ, "PYRO_NS_PORT": str(ns_port)}
    text = "".join(f"{line}\n" for line in lines)
    return subprocess.run(command, input=text, capture_output=True, text=True, env=environment, timeout=30, check=False)


def shown(result: subprocess.CompletedProcess[str]) -> list[str]:
    """What was printed, without the prompts of input()."""
    return re.sub(r"(Enter|Type) [^:]*: ", "", result.stdout).splitlines()


def test_warehouse_phase_2(run_program: Run) -> None:
    server = compat(run_program, PROGRAMS / "warehouse2" / "warehouse.py")
    uri = server.line("    uri = ")
    assert re.fullmatch(r"PYRO:example\.warehouse@localhost:\d+", uri)
    server.line("Pyro daemon running.")
    assert server.output[0] == "Object <class '__main__.Warehouse'>:\n"
    result = visit("warehouse2", [uri, "television", "couch", "bricks", "bike"])
    assert result.returncode == 0, result.stderr
    assert shown(result) == [
        "This is Janet.",
        f"The warehouse contains: {CONTENTS}",
        "The warehouse contains: ['chair', 'bike', 'flashlight', 'laptop', 'couch', 'television']",
        "Thank you, come again!",
        "This is Henry.",
        "The warehouse contains: ['chair', 'bike', 'flashlight', 'laptop', 'television']",
        "The warehouse contains: ['chair', 'bike', 'flashlight', 'laptop', 'television', 'bricks']",
        "Thank you, come again!",
    ]
    assert server.line("Henry took") == "the bike."
    assert [line for line in server.output if " the " in line] == [
        "Janet stored the television.\n", "Janet took the couch.\n",
        "Henry stored the bricks.\n", "Henry took the bike.\n",
    ]  # fmt: skip


def test_warehouse_phase_3_with_the_name_server_and_a_remote_traceback(run_program: Run, ns_port: int) -> None:
    server = compat(run_program, PROGRAMS / "warehouse3" / "warehouse.py", ns_port=ns_port)
    server.line("Pyro daemon running.")
    assert server.line("    name = ") == "example.warehouse"
    uri = server.line("    uri = ")
    assert nsc(ns_port, "list").splitlines() == [
        "--------START LIST ",
        f"Pyro.NameServer --> PYRO:Pyro.NameServer@localhost:{ns_port}",
        "    metadata: {'class:Pyro4.naming.NameServer'}",
        f"example.warehouse --> {uri}",
        "--------END LIST ",
    ]
    result = visit("warehouse3", ["", "", "", "hammer"], ns_port)
    assert result.returncode == 1
    assert shown(result)[-1] == f"The warehouse contains: {CONTENTS}"
    assert "ValueError: list.remove(x): x not in list" in result.stderr
    remote = result.stderr.partition(" +--- This exception occurred remotely (Pyro) - Remote traceback:\n")[2]
    assert remote.splitlines()[0] == " | Traceback (most recent call last):"
    assert " |     self.contents.remove(item)\n" in remote
    assert remote.endswith(" | ValueError: list.remove(x): x not in list\n +--- End of remote traceback\n")
    assert result.stderr.count("Remote traceback") == 1


def test_stock_quotes_phase_3(run_program: Run, ns_port: int) -> None:
    market = compat(run_program, PROGRAMS / "stockquotes3" / "stockmarket.py", ns_port=ns_port)
    market.line("Stockmarkets available.")
    viewer = compat(run_program, PROGRAMS / "stockquotes3" / "viewer.py", ns_port=ns_port)
    viewer.wait_for_lines(5)
    assert viewer.output[:2] == [f"found market example.stockmarket.{name}\n" for name in ("nasdaq", "newyork")]
    assert viewer.output[2].startswith("Shown quotes: {")
    for line in viewer.output[3:]:
        assert re.fullmatch(r"(NASDAQ\.(AAPL|MSFT)|NYSE\.IBM): [\d.]+\n", line), line
    assert len(Pyro4.locateNS("localhost", ns_port).list("example.stockmarket.")) == 2
    assert viewer.process.poll() is None
    viewer.send_signal(signal.SIGINT)
    market.send_signal(signal.SIGINT)
    assert market.wait() == 0

"""A few seconds of `make stress`, `make chaos` and `make soak`, and the ledger that they are held to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.chaos.registrar import Ledger
from benchmarks.stress.books import RETRIED, WATCHED
from benchmarks.stress.ledger import compare
from benchmarks.stress.processes import Usage
from benchmarks.stress.server import NUMBER

ROOT = Path(__file__).parent.parent


def run(module: str, *extent: str) -> str:
    """What it printed, if it found nothing wrong."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *extent]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.timeout(300)
def test_calls_of_every_kind_at_once_with_processes_that_are_killed() -> None:
    """No reply lost or doubled, no hang, nothing left over; many connections at once, and many proxies on one."""
    found = run("stress", "--seconds", "5", "--connections", "100", "--proxies", "1000", "--seed", "7")
    assert "Killed: 0 servers" not in found


@pytest.mark.timeout(300)
def test_processes_that_are_killed_and_stopped_at_random_moments() -> None:
    """No registration lost, no call executed twice, nobody waits too long, nothing left over."""
    found = run("chaos", "--rounds", "5", "--threads", "1", "--tasks", "4", "--pause", "0.1", "--seed", "4")
    assert "kill daemon" in found
    assert "kill name server" in found
    assert "stop" in found


@pytest.mark.timeout(300)
def test_work_and_churn_leave_nothing_behind() -> None:
    """References, sessions, streams and futures of connections that come and go, and daemons that are restarted."""
    assert "1 times a daemon was restarted" in run("soak", "--minutes", "0.04", "--pause", "0.1", "--seed", "7")


# ---- what would be found


def calls(path: Path, *numbers: int) -> None:
    path.write_bytes(b"".join(NUMBER.pack(number) for number in numbers))


@pytest.mark.parametrize(
    ("executed", "answered", "untouched", "found"),
    [
        ([1, 2], [1, 2], [3], ""),
        ([1, 1], [1], [], "1 calls were executed more than once"),
        ([1 | RETRIED, 1 | RETRIED], [1 | RETRIED], [], ""),
        ([1], [1, 2], [], "1 calls were answered and not executed"),
        ([1, 2], [1], [2], "1 calls were executed of which it was said that they surely were not"),
    ],
)
def test_the_ledger(executed: list[int], answered: list[int], untouched: list[int], found: str, tmp_path: Path) -> None:
    calls(tmp_path / "journal", *(WATCHED + number for number in executed))
    calls(tmp_path / "answered-1", *(WATCHED + number for number in answered))
    calls(tmp_path / "untouched-1", *(WATCHED + number for number in untouched))
    wrong = list(compare(tmp_path, tmp_path / "journal"))
    assert len(wrong) == bool(found)
    assert found in "".join(wrong)


def test_what_was_acknowledged_is_known_to_the_next_with_that_prefix(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "names")
    ledger.asks("a", ("uri", ["tag"]))
    ledger.acknowledged("a", ("uri", ["tag"]))
    ledger.asks("b", ("uri", []))
    ledger.asks("a", None)
    with (tmp_path / "names").open("a", encoding="utf-8") as file:
        file.write('["knows", "a"')  # it was killed in the middle
    assert Ledger(tmp_path / "names").allowed == {"a": [("uri", ["tag"]), None], "b": [None, ("uri", [])]}


def test_what_has_grown() -> None:
    before, most = Usage(memory=1000, threads=10, descriptors=10), Usage(memory=100, threads=1, descriptors=2)
    assert not Usage(1100, 11, 12).grown_beyond(before, most)
    for grown in (Usage(1101, 5, 5), Usage(5, 12, 5), Usage(5, 5, 13)):
        assert grown.grown_beyond(before, most)

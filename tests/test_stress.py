"""A few seconds of `make stress`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.timeout(300)
def test_calls_of_every_kind_at_once_with_processes_that_are_killed() -> None:
    """No reply lost or doubled, no hang, nothing left over; many connections at once, and many proxies on one."""
    extent = ("--seconds", "5", "--connections", "100", "--proxies", "1000", "--seed", "7")
    command = [sys.executable, "-m", "benchmarks.stress", *extent]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Killed: 0 servers" not in done.stdout

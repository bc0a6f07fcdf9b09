"""Hostile input does no harm: what the corpus has, and what hypothesis draws. `make fuzz` goes on where this ends."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz import __main__ as command
from tests.fuzz.__main__ import warm_up
from tests.fuzz.guard import CORPUS, Guard, Harm
from tests.fuzz.inputs import inputs
from tests.fuzz.targets import TARGETS

EXAMPLES = 12


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What ends a connection is logged, and that is often."""
    logging.getLogger("broker").propagate = False
    yield
    logging.getLogger("broker").propagate = True


def test_the_command_knows_all_targets_and_each_has_seeds() -> None:
    assert tuple(TARGETS) == command.NAMES
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_does_no_harm(target: str) -> None:
    warm_up(target)
    guard = Guard(traces_memory=True)
    with guard.tracing():
        for path in sorted((CORPUS / target).iterdir()):
            data = path.read_bytes()
            with guard.watching(len(data)):
                TARGETS[target](data)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_nearly_right_does_no_harm(target: str) -> None:
    warm_up(target)
    guard = Guard()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(inputs(target))
    def take(data: bytes) -> None:
        with guard.watching(len(data)):
            TARGETS[target](data)

    take()


def _dawdle() -> None:
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass


HARM: dict[str, Callable[[], object]] = {
    "imports": lambda: __import__("this"),
    "runs code": lambda: exec("1"),  # noqa: S102 - that is the harm
    "opens a file": lambda: Path("/etc/hostname").read_text(encoding="utf-8"),
    "runs a program": lambda: os.system("true"),
    "opens a socket": socket.socket,
    "loads a pickle": lambda: pickle.loads(b"cos\nsystem\n."),
    "takes time": _dawdle,
    "takes memory": lambda: bytes(200 << 20),
}


@pytest.mark.parametrize("harm", HARM)
def test_the_guard_sees_harm(harm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.guard.MOST_SECONDS", 0.2)
    guard = Guard(traces_memory=True)
    with guard.tracing(), pytest.raises(Harm):
        _do(harm, guard)


def _do(harm: str, guard: Guard) -> None:
    """Whoever catches what the guard raises at once is seen all the same."""
    with guard.watching(1), suppress(Harm):
        HARM[harm]()

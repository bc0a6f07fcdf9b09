"""The thread that brought calls runs them, and nobody's calls wait behind all of another's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from broker.connection import leading as leading_module
from broker.connection.leading import Leading
from broker.connection.workers import Workers

SOON = 40.0


class Owned:
    """A job of a caller."""

    def __init__(self, owner: str, run: Callable[[], object]) -> None:
        self.owner = owner
        self._run = run

    def __call__(self) -> None:
        self._run()


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers(4, "test-worker")
    yield workers
    workers.close()


def bring(leading: Leading, *jobs: Callable[[], None], read_on: Callable[[], None] | None = None) -> bool:
    """What a thread that reads does with a message; whether it is to read on itself."""
    leading.collect()
    for job in jobs:
        leading.submit(job, quick=True)
    return leading.lead(read_on)


def test_quick_jobs_run_on_the_thread_that_brings_them(workers: Workers) -> None:
    ran: list[threading.Thread] = []
    bring(Leading(workers), *[lambda: ran.append(threading.current_thread())] * 3)
    assert ran == [threading.current_thread()] * 3


def test_others_have_their_turn_between_the_jobs_of_the_leader(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading_module, "PATIENCE", SOON)  # the watchdog leaves the leader alone
    leading = Leading(workers)
    order: list[str] = []

    def job(owner: str, name: str) -> Owned:
        return Owned(owner, lambda: order.append(name))

    def while_others_bring() -> None:
        order.append("first")
        for owner, count in (("greedy", 3), ("modest", 1)):
            jobs = [job(owner, f"{owner} {number}") for number in range(count)]
            other = threading.Thread(target=bring, args=(leading, *jobs))
            other.start()
            other.join(SOON)

    bring(leading, while_others_bring, *[job("leader", f"leader {number}") for number in range(3)])
    assert order == [
        "first", "greedy 0", "leader 0", "modest 0", "leader 1", "greedy 1", "leader 2", "greedy 2",
    ]  # fmt: skip


def test_what_waits_behind_a_long_job_goes_to_the_workers(workers: Workers) -> None:
    leading = Leading(workers)
    go_on, ran = threading.Event(), threading.Semaphore(0)

    def long() -> None:
        other = threading.Thread(target=bring, args=(leading, ran.release))
        other.start()
        other.join(SOON)
        for _ in range(2):  # that of the other, and the one that is behind this
            assert ran.acquire(timeout=SOON)
        go_on.set()

    bring(leading, long, ran.release)
    assert go_on.is_set()
    bring(leading, ran.release)
    assert ran.acquire(timeout=SOON)


@pytest.mark.parametrize("is_late", [False, True])
def test_what_a_long_job_brings_itself_goes_to_the_workers(workers: Workers, is_late: bool) -> None:
    """A call lets the next one of its lane in before its method runs."""
    leading = Leading(workers)
    next_ran = threading.Event()

    def long() -> None:
        if is_late:  # somebody else may lead by now
            leading.submit(lambda: None, quick=True)
            time.sleep(5 * leading_module.PATIENCE)
        leading.submit(next_ran.set, quick=True)
        assert next_ran.wait(SOON)

    bring(leading, long)
    assert next_ran.is_set()


# ---- who reads meanwhile


def test_others_read_on_while_one_job_runs(workers: Workers) -> None:
    order: list[str] = []
    assert not bring(Leading(workers), lambda: order.append("job"), read_on=lambda: order.append("read on"))
    assert order == ["read on", "job"]


def test_the_thread_that_has_many_jobs_reads_on_itself(workers: Workers) -> None:
    order: list[str] = []
    jobs = [lambda: order.append("job")] * 3
    assert bring(Leading(workers), *jobs, read_on=lambda: order.append("read on"))
    assert order == ["job"] * 3


def test_without_jobs_others_read_on(workers: Workers) -> None:
    order: list[str] = []
    assert not bring(Leading(workers), read_on=lambda: order.append("read on"))
    assert order == ["read on"]


def test_others_read_on_if_one_of_many_jobs_takes_long(workers: Workers) -> None:
    leading = Leading(workers)
    for _ in range(3):
        told = threading.Semaphore(0)
        assert not bring(leading, lambda: None, lambda told=told: told.acquire(timeout=SOON), read_on=told.release)  # type: ignore[misc]
        assert not told.acquire(timeout=0)  # it was told once


def test_who_leaves_its_jobs_to_another_lets_others_read_on(workers: Workers) -> None:
    leading = Leading(workers)
    told: list[bool] = []

    def follow() -> None:
        told.append(bring(leading, *[lambda: None] * 3, read_on=lambda: told.append(True)))

    def while_another_brings() -> None:
        other = threading.Thread(target=follow)
        other.start()
        other.join(SOON)

    bring(leading, while_another_brings)
    assert told == [True, False]

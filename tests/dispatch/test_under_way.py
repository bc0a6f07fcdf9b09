"""Which calls count toward the limits, and for which the end of a daemon waits."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

from broker.context import Client
from broker.dispatch.job import Job
from broker.dispatch.under_way import UnderWay
from broker.objects import Sessions


def under_way(most: int, few: int | None = None) -> UnderWay:
    calls = UnderWay(Sessions(), "here:1", few=most if few is None else few, most=most)
    assert list(calls.release()) == []
    return calls


def a_call(*, is_nested: bool = False) -> Job:
    call: Any = SimpleNamespace(request=SimpleNamespace(is_nested=is_nested))
    return Job(call, Client("inproc:1"), None)


def a_group(size: int) -> Job:
    group = a_call()
    group.is_many, group.weight = True, size
    return group


def fill(calls: UnderWay, count: int) -> list[Job]:
    jobs = [a_call() for _ in range(count)]
    for job in jobs:
        assert calls.add(job)
    return jobs


def test_a_call_counts_until_its_answer_goes_out_and_is_waited_for_until_it_has() -> None:
    calls = under_way(2)
    first, _ = fill(calls, 2)
    assert calls.is_full()
    calls.answering(first)
    assert not calls.is_full()
    assert calls.count()[0] == 2
    assert len(calls.wait(time.monotonic())) == 2
    calls.remove(first)
    assert len(calls.wait(time.monotonic())) == 1


def test_nested_calls_take_no_place() -> None:
    calls = under_way(2)
    for _ in range(5):
        assert calls.add(a_call(is_nested=True))
    assert not calls.is_full()
    fill(calls, 2)
    assert calls.is_full()


def test_what_may_run_at_once_is_taken_up_to_the_lowest_limit() -> None:
    calls = under_way(10, few=4)
    assert calls.add_running(a_group(3))
    assert not calls.add_running(a_group(2))
    assert calls.add_running(a_call())
    assert not calls.add_running(a_call())
    assert not calls.is_full()


def test_the_answered_calls_of_a_group_make_room() -> None:
    calls = under_way(10)
    group = a_group(10)
    assert calls.add_running(group)
    assert calls.is_full()
    calls.answering_some(group, 4)
    assert not calls.is_full()
    assert not calls.add_running(a_group(5))
    assert calls.add_running(a_group(4))
    assert calls.is_full()


def test_a_part_of_a_group_counts_in_its_place() -> None:
    calls = under_way(10)
    group, part, single = a_group(10), a_group(4), a_call()
    assert calls.add_running(group)
    calls.add_part(part, group)
    calls.add_part(single, group)
    assert calls.is_full()
    assert calls.count()[0] == 10
    calls.answering_some(group, 5)
    calls.remove(group)
    assert calls.add_running(a_group(5))
    assert calls.is_full()
    calls.answering(single)
    calls.answering_some(part, 4)
    assert calls.add_running(a_group(5))
    assert calls.is_full()


def test_what_is_said_of_a_group_that_is_over_changes_nothing() -> None:
    calls = under_way(3)
    group = a_group(3)
    assert calls.add_running(group)
    calls.remove(group)
    calls.remove(group)
    calls.answering_some(group, 3)
    calls.answering(group)
    fill(calls, 3)
    assert calls.is_full()


def test_no_place_is_lost_or_won_among_threads() -> None:
    calls = under_way(1_000)

    def come_and_go() -> None:
        for number in range(300):
            job, group = a_call(), a_group(8)
            assert calls.add_running(job)
            assert calls.add_running(group)
            if number % 3:
                calls.answering(job)
                calls.answering_some(group, 5)
            single = a_call()
            calls.add_part(single, group)
            for each in (job, group, single):
                calls.remove(each)

    threads = [threading.Thread(target=come_and_go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fill(calls, 999)
    assert not calls.is_full()
    fill(calls, 1)
    assert calls.is_full()

"""A nested call runs on the thread that waits for its chain."""

from __future__ import annotations

import threading
import time

import pytest

from broker.connection import chains
from broker.connection.chains import Waiter, is_waiting, new_chain, run_nested
from tests.connection.conftest import both


def never(job: chains.Job) -> None:
    raise AssertionError("it should have run on the thread that waits")


def never_run() -> None:
    raise AssertionError("nobody takes it")


class Waiting:
    """A thread that waits."""

    def __init__(self, waiter: Waiter, deadline: float | None = None) -> None:
        self.waiter = waiter
        self.elsewhere: list[chains.Job] = []
        self.finished: bool | None = None
        self.thread = threading.Thread(target=self._wait, args=(deadline,), daemon=True)
        waiter.register()
        self.thread.start()

    def _wait(self, deadline: float | None) -> None:
        self.finished = self.waiter.wait(deadline, self.elsewhere.append)

    def join(self) -> None:
        self.thread.join(10)
        assert not self.thread.is_alive()


def test_chains_are_random_and_long() -> None:
    assert {len(new_chain()) for _ in range(3)} == {16}
    assert len({new_chain() for _ in range(1000)}) == 1000


def test_a_nested_call_runs_on_the_waiting_thread() -> None:
    chain = new_chain()
    waiting = Waiting(Waiter(chain, 1))
    ran: list[threading.Thread] = []
    for _ in range(3):
        done = threading.Event()
        assert run_nested(chain, 2, both(lambda: ran.append(threading.current_thread()), done.set))
        assert done.wait(40)
        while not waiting.waiter._ready:  # it has gone back to waiting
            pass
    waiting.waiter.finish()
    waiting.join()
    assert ran == [waiting.thread] * 3
    assert (waiting.finished, waiting.elsewhere) == (True, [])


def test_a_nested_call_may_come_before_the_thread_has_begun_to_wait() -> None:
    chain = new_chain()
    waiter = Waiter(chain, 1)
    waiter.register()
    assert is_waiting(chain)
    ran: list[int] = []
    assert run_nested(chain, 2, both(lambda: ran.append(threading.get_ident()), waiter.finish))
    assert waiter.wait(None, never)
    assert ran == [threading.get_ident()]


def test_what_waits_for_another_chain_takes_nothing() -> None:
    waiting = Waiting(Waiter(new_chain(), 1))
    other = new_chain()
    assert not is_waiting(other)
    assert not run_nested(other, 2, lambda: None)
    waiting.waiter.finish()
    waiting.join()


def test_a_call_of_no_greater_depth_is_not_nested_in_it() -> None:
    chain = new_chain()
    waiting = Waiting(Waiter(chain, 3))
    assert not run_nested(chain, 3, lambda: None)
    assert not run_nested(chain, 2, lambda: None)
    waiting.waiter.finish()
    waiting.join()


def test_the_innermost_waiter_runs_it() -> None:
    """A thread that waits within a nested call of its own waits twice."""
    chain = new_chain()
    outer, inner = Waiter(chain, 1), Waiter(chain, 3)
    ran: list[str] = []

    def nested() -> None:
        ran.append("nested")
        inner.register()
        assert run_nested(chain, 4, both(lambda: ran.append("deeper"), inner.finish))
        assert inner.wait(None, never)
        outer.finish()

    outer.register()
    assert run_nested(chain, 2, nested)
    assert outer.wait(None, never)
    assert ran == ["nested", "deeper"]


def test_a_thread_that_runs_one_nested_call_takes_no_second() -> None:
    chain = new_chain()
    waiting = Waiting(Waiter(chain, 1))
    running, release = threading.Event(), threading.Event()
    assert run_nested(chain, 2, both(running.set, lambda: release.wait(40)))
    assert running.wait(40)
    assert is_waiting(chain)
    assert not run_nested(chain, 2, lambda: None)  # its caller puts it on a thread of its own
    release.set()
    waiting.waiter.finish()
    waiting.join()


def test_the_next_nested_call_may_come_as_the_answer_goes_out() -> None:
    chain = new_chain()
    waiting = Waiting(Waiter(chain, 1))
    threads: list[threading.Thread] = []
    ran = threading.Event()

    def answer_and_go_on() -> None:
        threads.append(threading.current_thread())
        assert not run_nested(chain, 2, never_run)  # it is not over
        chains.answering(chain, 3)  # another call
        chains.answering(new_chain(), 2)
        assert not run_nested(chain, 2, never_run)
        chains.answering(chain, 2)
        assert run_nested(chain, 2, both(lambda: threads.append(threading.current_thread()), ran.set))

    assert run_nested(chain, 2, answer_and_go_on)
    assert ran.wait(10)
    waiting.waiter.finish()
    waiting.join()
    assert threads == [waiting.thread] * 2
    chains.answering(chain, 2)  # of a thread that runs no nested call: nothing


def test_the_timeout_is_seen_after_the_nested_call() -> None:
    chain = new_chain()
    waiting = Waiting(Waiter(chain, 1), deadline=time.monotonic() + 0.3)
    running, release = threading.Event(), threading.Event()
    assert run_nested(chain, 2, both(running.set, lambda: release.wait(40)))
    assert running.wait(40)
    waiting.thread.join(0.4)
    assert waiting.thread.is_alive()
    release.set()
    waiting.join()
    assert waiting.finished is False


def test_without_a_nested_call_the_timeout_is_seen_at_once() -> None:
    began = time.monotonic()
    assert not Waiter(new_chain(), 1).wait(began + 0.02, never)
    assert 0.02 <= time.monotonic() - began < 5
    assert not Waiter(new_chain(), 1).wait(began - 1, never)


def test_a_nested_call_that_comes_too_late_runs_elsewhere() -> None:
    chain = new_chain()
    waiter = Waiter(chain, 1)
    waiter.register()
    late: list[str] = []
    assert run_nested(chain, 2, lambda: late.append("ran"))
    elsewhere: list[chains.Job] = []
    assert not waiter.wait(time.monotonic() - 1, elsewhere.append)
    assert late == []
    elsewhere[0]()
    assert late == ["ran"]


@pytest.mark.parametrize("first", ["finish", "leave"])
def test_a_waiter_that_is_never_waited_for_is_forgotten(first: str) -> None:
    waiter = Waiter(new_chain(), 1)
    waiter.register()
    if first == "finish":
        waiter.finish()
    else:
        waiter.leave(never)
    assert not is_waiting(waiter.chain)
    waiter.finish()
    assert waiter.wait(None, never)


def test_what_a_nested_call_raises_comes_out_of_the_wait() -> None:
    """Ctrl-C above all."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    chain = new_chain()
    waiter = Waiter(chain, 1)
    waiter.register()
    assert run_nested(chain, 2, interrupted)
    with pytest.raises(KeyboardInterrupt):
        waiter.wait(None, never)


def test_no_wakeup_is_lost() -> None:
    for _ in range(500):
        waiter = Waiter(new_chain(), 1)
        threading.Thread(target=waiter.finish, daemon=True).start()
        assert waiter.wait(time.monotonic() + 10, never)


def test_no_nested_call_is_lost_between_waiting_and_giving_up() -> None:
    """However it falls, each job runs exactly once: here, elsewhere, or it was not taken."""
    for round_ in range(300):
        chain = new_chain()
        ran: list[int] = []
        waiting = Waiting(Waiter(chain, 1), deadline=time.monotonic() + round_ / 300_000)
        taken = 0
        while is_waiting(chain):
            taken += run_nested(chain, 2, lambda ran=ran: ran.append(1))  # type: ignore[misc]
        waiting.join()
        for job in waiting.elsewhere:
            job()
        assert len(ran) == taken
        waiting.waiter.finish()


def test_the_refusal_of_runaway_recursion_names_the_chain() -> None:
    chain = bytes(range(16))
    text = chains.too_deep("thing", "again", chain)
    assert "'thing'.again would be more than 64 calls deep" in text
    assert chain.hex() in text

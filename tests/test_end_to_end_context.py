"""What travels with a call into the calls that it leads to, through several processes: time, metadata, its end."""

from __future__ import annotations

import concurrent.futures
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import broker
from broker.errors import CallTimeout, CommunicationError

SOON = 40.0
Run = Callable[..., Any]

RELAY = """
import threading
import broker

class Relay:
    def __init__(self):
        self.outcome = None
        self.over = threading.Event()

    def pass_on(self, other, member, kind="call"):
        try:
            method = getattr(other, member)
            return method.future().result() if kind == "future" else method()
        except Exception as error:
            self.outcome = f"{type(error).__name__}: {error}"
            other.note(f"after {broker.current_context.cancelled}")
            raise
        finally:
            self.over.set()

    @broker.oneway
    def pass_on_without_waiting(self, other, member):
        self.pass_on(other, member)

    def how_it_ended(self):
        self.over.wait(20)
        return self.outcome

daemon = broker.Daemon()
print(daemon.register(Relay()), flush=True)
daemon.request_loop()
"""


class End:
    """Where calls end up."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.told = threading.Event()
        self.notes: list[str] = []
        self.noted = threading.Semaphore(0)

    def look(self) -> list[Any]:
        context = broker.current_context
        return [context.remaining, dict(context.metadata), context.correlation_id]

    def stay(self) -> str:
        self.entered.release()
        if broker.current_context.wait_cancelled(SOON):
            self.told.set()
        return "stayed"

    def stay_until_told(self) -> str:
        self.entered.release()
        assert self.go_on.wait(SOON)
        return f"cancelled: {broker.current_context.cancelled}"

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.noted.release()


@pytest.fixture
def end() -> Iterator[End]:
    end = End()
    yield end
    end.go_on.set()


@pytest.fixture
def daemon(end: End) -> Iterator[broker.Daemon]:
    with broker.Daemon() as daemon:
        daemon.register(end, "end")
        yield daemon


@pytest.fixture
def relay(run_program: Run) -> str:
    """The URI of a relay in another process."""
    uri: str = run_program(RELAY).line("BROKER:")
    return f"BROKER:{uri}"


def test_time_metadata_and_correlation_travel_through_processes(daemon: broker.Daemon, relay: str) -> None:
    there = broker.Proxy(relay, timeout=SOON, metadata={"who": "Janet"})
    here = broker.Proxy(daemon.uri_for("end"))
    correlation_id = uuid.uuid4()
    with broker.current_context.correlate(correlation_id):
        remaining, metadata, correlation = there.pass_on(here, "look")
    assert SOON / 2 < remaining < SOON
    assert metadata == {"who": "Janet"}
    assert correlation == correlation_id
    remaining, _, _ = broker.Proxy(relay).pass_on(here, "look")
    assert remaining is None


def test_a_nested_call_takes_no_longer_than_its_caller_waits(daemon: broker.Daemon, relay: str, end: End) -> None:
    there = broker.Proxy(relay, timeout=0.5)
    there._broker.ping()
    began = time.monotonic()
    future = there.pass_on.future(broker.Proxy(daemon.uri_for("end")), "stay_until_told")
    concurrent.futures.wait([future], SOON)  # and not in `result`, for that thread would run what comes back
    assert isinstance(future.exception(), CallTimeout)
    # By its own clock, or since its caller, whose time is over a moment earlier, gave up: CallTimeout is a kind of it.
    assert broker.Proxy(relay).how_it_ended().startswith(("CallTimeout", "CommunicationError"))
    assert time.monotonic() - began < 40
    assert not end.go_on.is_set()


@pytest.mark.parametrize("kind", ["call", "future"])
def test_a_call_that_is_cancelled_ends_the_calls_that_it_waits_for(
    daemon: broker.Daemon, relay: str, end: End, kind: str
) -> None:
    there = broker.Proxy(relay)
    future = there.pass_on.future(broker.Proxy(daemon.uri_for("end")), "stay", kind)
    assert end.entered.acquire(timeout=SOON)
    assert future.cancel()
    assert end.told.wait(SOON)
    ended = there.how_it_ended()
    assert ended.startswith("CommunicationError: the call of 'stay' of 'end' at ")
    assert ended.endswith(
        "was given up, since the call that it belongs to was cancelled; the method may still be running"
    )
    # What it does to tidy up is not cut short.
    assert end.noted.acquire(timeout=SOON)
    assert end.notes == ["after True"]


class Busy:
    """Computes, and does not look whether anybody waits; then it calls others."""

    def __init__(self, end: Any) -> None:
        self.end = end
        self.computing = threading.Event()
        self.computed = threading.Event()
        self.outcomes: list[str] = []
        self.over = threading.Event()

    def work(self, kind: str, looks: bool) -> None:
        self.computing.set()
        assert self.computed.wait(SOON)
        if looks:
            assert broker.current_context.cancelled
        try:
            for text in ("first", "second"):
                self._call(kind, text)
        finally:
            self.over.set()

    def _call(self, kind: str, text: str) -> None:
        try:
            self.end.note.future(text).result(SOON) if kind == "future" else self.end.note(text)
            self.outcomes.append(f"{text} was made")
        except CommunicationError as error:
            self.outcomes.append(f"{text}: {error}, {error.may_have_run}")


@pytest.mark.parametrize("kind", ["call", "future"])
@pytest.mark.parametrize("looks", [False, True])
def test_a_method_that_does_not_look_learns_from_its_next_call_that_it_was_cancelled(
    daemon: broker.Daemon, end: End, kind: str, looks: bool
) -> None:
    busy = Busy(broker.Proxy(daemon.uri_for("end")))
    assert busy.end._broker.description.members  # which is a call, too
    proxy = broker.Proxy(daemon.register(busy, "busy"), local=False)
    future = proxy.work.future(kind, looks)
    assert busy.computing.wait(SOON)
    assert future.cancel()
    proxy._broker.ping()  # so the daemon has read it
    busy.computed.set()
    assert busy.over.wait(SOON)
    first, second = busy.outcomes
    assert second == "second was made"
    if looks:
        assert first == "first was made"
    else:
        assert first.startswith("first: the call of 'note' of 'end' at ")
        assert first.endswith("since the call that it belongs to was cancelled; it was not sent, False")


def test_a_caller_that_dies_ends_what_it_led_to(daemon: broker.Daemon, relay: str, end: End, run_program: Run) -> None:
    caller = run_program(
        f"import broker; broker.Proxy({relay!r}).pass_on(broker.Proxy('{daemon.uri_for('end')}'), 'stay')"
    )
    assert end.entered.acquire(timeout=SOON)
    caller.process.kill()
    assert end.told.wait(SOON)
    assert broker.Proxy(relay).how_it_ended().startswith("CommunicationError")


def test_what_nobody_waits_for_goes_on_when_its_caller_dies(
    daemon: broker.Daemon, relay: str, end: End, run_program: Run
) -> None:
    caller = run_program(f"""
        import broker
        broker.Proxy({relay!r}).pass_on_without_waiting(broker.Proxy('{daemon.uri_for("end")}'), 'stay_until_told')
        broker.Proxy({relay!r})._broker.ping()
        input()
    """)
    assert end.entered.acquire(timeout=SOON)
    caller.process.kill()
    caller.wait()
    end.go_on.set()
    assert broker.Proxy(relay).how_it_ended() is None


def test_calls_of_a_dying_caller_that_have_not_started_are_not_started(run_program: Run) -> None:
    end = End()
    with broker.Daemon() as daemon:
        uri = daemon.register(end, max_concurrency=1)
        caller = run_program(f"""
            import broker
            proxy = broker.Proxy('{uri}')
            futures = [proxy.stay.future()] + [proxy.note.future(str(n)) for n in range(20)]
            futures[0].result()
        """)
        assert end.entered.acquire(timeout=SOON)
        give_up = time.monotonic() + SOON
        while daemon.stats().waiting < 20:
            assert time.monotonic() < give_up
            time.sleep(0.001)
        caller.process.kill()
        assert end.told.wait(SOON)
        broker.Proxy(uri, local=False).note("of another caller")
        assert end.notes == ["of another caller"]
        assert daemon.stats().refused == {"CANCELLED": 20}


def test_the_grace_of_a_shutdown_ends_nested_calls_too(relay: str, end: End) -> None:
    class Outer:
        def ask(self, other: Any) -> Any:
            try:
                return other.stay()
            except CommunicationError as error:
                ended.append(str(error))
                raise

    ended: list[str] = []
    with broker.Daemon() as there, broker.Daemon() as here:
        there.register(end, "end")
        future = broker.Proxy(here.register(Outer()), local=False).ask.future(broker.Proxy(there.uri_for("end")))
        assert end.entered.acquire(timeout=SOON)
        here.shutdown(grace=0.1)
        assert end.told.wait(SOON)
        with pytest.raises(Exception, match="was given up"):  # it has a moment to say how it ended
            future.result(SOON)
    assert "was given up" in ended[0]


def test_a_method_knows_whether_nobody_waits_for_it() -> None:
    seen: list[bool] = []
    noted = threading.Semaphore(0)

    class Noting:
        def note(self) -> None:
            seen.append(broker.current_context.oneway)
            noted.release()

    with broker.Daemon() as daemon:
        proxy = broker.Proxy(daemon.register(Noting()))
        proxy.note()
        proxy.note.oneway()
        batch = broker.Batch(proxy)
        batch.note()
        batch(oneway=True)
        for _ in range(3):
            assert noted.acquire(timeout=SOON)
    assert seen == [False, True, True]
    assert broker.current_context.oneway is False

"""Two ends joined in memory, and where a client of the same process gets in."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.connection.calls import IncomingCall, Outcome
from broker.connection.engine import Connection, Settings
from broker.connection.leading import Leading
from broker.connection.local import Entrance, Entrances, join
from broker.connection.workers import Workers
from tests.connection.conftest import Recorder, answer, make_call, request


class Joined:
    """A client and a server end, joined as within a process."""

    def __init__(self) -> None:
        self.served = Recorder(on_call=answer)
        self.called_back = Recorder(on_call=answer)
        self.client = Connection(Settings(), self.called_back, accepts=False, peer_name="server")
        self.server = Connection(Settings(), self.served, accepts=True, peer_name="client")
        self.ended = {self.client: threading.Event(), self.server: threading.Event()}
        for end in self.ended:
            end.on_end = lambda connection: self.ended[connection].set()
        join(self.client, self.server, Leading(Workers(8, "test-worker")))
        assert self.client.opened.wait(10)


@pytest.fixture
def joined() -> Iterator[Joined]:
    joined = Joined()
    yield joined
    joined.client.close("the test is over")
    for end in (joined.client, joined.server):
        assert joined.ended[end].wait(10)


def test_calls_and_answers_pass_in_both_directions(joined: Joined) -> None:
    joined.served.on_call = lambda call: answer(call, call.request.arguments.payload)  # type: ignore[arg-type]
    outcome = make_call(joined.client, payload=b'[["x"],{}]').wait(None)
    assert outcome is not None
    assert outcome.value is not None
    assert outcome.value.payload == b'[["x"],{}]'
    assert make_call(joined.server).wait(None) is not None


def test_a_big_value_passes_in_chunks_under_credit(joined: Joined) -> None:
    payload = b"x" * (20 << 20)
    joined.served.on_call = lambda call: answer(call, call.request.arguments.payload)  # type: ignore[arg-type]
    outcome = make_call(joined.client, payload=payload).wait(None)
    assert outcome is not None
    assert outcome.value is not None
    assert bytes(outcome.value.payload) == payload


def test_many_threads_call_at_once_and_each_gets_its_own_answer(joined: Joined) -> None:
    joined.served.on_call = lambda call: answer(call, call.request.arguments.payload)  # type: ignore[arg-type]
    wrong: list[bytes] = []

    def call(number: int) -> None:
        for turn in range(200):
            payload = b"%d-%d" % (number, turn)
            outcome = make_call(joined.client, payload=payload).wait(None)
            assert outcome is not None
            assert outcome.value is not None
            if outcome.value.payload != payload:
                wrong.append(payload)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert not wrong


def test_ends_that_answer_each_other_for_ever_need_no_stack(joined: Joined) -> None:
    left = 5_000
    done = threading.Event()

    def answer_and_call(other: Connection, call: IncomingCall) -> None:
        nonlocal left
        answer(call)
        left -= 1
        if left > 0:
            other.call(request(on_outcome=lambda outcome: None))
        else:
            done.set()

    joined.served.on_call = lambda call: answer_and_call(joined.server, call)
    joined.called_back.on_call = lambda call: answer_and_call(joined.client, call)
    make_call(joined.client).wait(None)
    assert done.wait(30)


def test_the_main_thread_takes_nothing_in(joined: Joined) -> None:
    """Ctrl-C in the middle of it would break the engine for all."""
    assert threading.current_thread() is threading.main_thread()
    received_by: list[threading.Thread] = []
    arrived, answered = threading.Event(), threading.Event()

    def arrive(call: IncomingCall) -> None:
        received_by.append(threading.current_thread())
        arrived.set()

    def finish(outcome: Outcome) -> None:
        received_by.append(threading.current_thread())
        answered.set()

    joined.served.on_call = arrive
    joined.client.call(request(on_outcome=finish))
    assert arrived.wait(10)
    answer(joined.served.calls[0])
    assert answered.wait(10)
    assert len(received_by) == 2
    assert threading.main_thread() not in received_by


def test_a_thread_that_answers_delivers_the_answer_itself(joined: Joined) -> None:
    delivered_by: list[int] = []
    answered = threading.Event()

    def finish(outcome: Outcome) -> None:
        delivered_by.append(threading.get_ident())
        answered.set()

    joined.served.on_call = lambda call: None
    joined.client.call(request(on_outcome=finish))
    while not joined.served.calls:
        answered.wait(0.001)
    worker = threading.Thread(target=answer, args=(joined.served.calls[0],))
    worker.start()
    assert answered.wait(10)
    assert delivered_by == [worker.ident]
    worker.join()


def test_the_client_leaves_in_order(joined: Joined) -> None:
    joined.served.on_call = lambda call: None
    pending = make_call(joined.client)
    oneway = request(oneway=True)
    joined.client.call(oneway)
    while len(joined.served.calls) < 2:
        joined.client.ping(1)
    cancelled = threading.Event()
    joined.served.calls[0].on_cancel(lambda reason: cancelled.set())
    joined.client.close("bye")
    assert [call.request.oneway for call in joined.served.calls] == [False, True]
    assert cancelled.wait(10)
    assert joined.server.ended_because is None, "oneway calls of who leaves in order are carried out"
    answer(joined.served.calls[1])
    assert joined.ended[joined.server].wait(10)
    assert joined.served.ended == [joined.server]
    outcome = pending.wait(None)
    assert outcome is not None
    assert outcome.lost is not None
    assert outcome.may_have_run


def test_the_server_leaves_in_order(joined: Joined) -> None:
    joined.served.on_call = lambda call: None
    under_way = make_call(joined.client)
    while not joined.served.calls:
        joined.client.ping(1)
    joined.server.go_away("the daemon is shutting down")
    refused = make_call(joined.client).wait(None)
    assert refused is not None
    assert refused.lost == "the daemon is shutting down"
    assert not refused.may_have_run
    answer(joined.served.calls[0])
    outcome = under_way.wait(None)
    assert outcome is not None
    assert outcome.value is not None
    joined.server.close("the daemon is shutting down")
    assert joined.ended[joined.client].wait(10)
    assert joined.called_back.ended == [joined.client]
    assert joined.client.ended_because == "the daemon is shutting down"


def test_what_breaks_the_protocol_ends_both(joined: Joined) -> None:
    joined.client.receive(b"\xff\xff no frames")
    assert joined.client.ended_because is not None
    assert joined.ended[joined.server].wait(10)
    assert "broke the protocol" in joined.client.ended_because


def _accept(client: Connection) -> None:
    raise AssertionError("nobody enters in these tests")


LOCALHOST = Entrance(_accept, ("localhost", 4000), frozenset({"127.0.0.1", "::1"}), 4000)
IPV4_ONLY = Entrance(_accept, ("127.0.0.1", 4000), frozenset({"127.0.0.1"}), 4000)
ANYWHERE = Entrance(_accept, ("192.0.2.7", 4000), frozenset({"0.0.0.0"}), 4000)
ANYWHERE_6 = Entrance(_accept, ("192.0.2.7", 4000), frozenset({"::"}), 4000)
ADVERTISED = Entrance(_accept, ("example.invalid", 99), frozenset({"127.0.0.1"}), 4000)


@pytest.mark.parametrize(
    ("entrance", "host", "port", "leads_here"),
    [
        (LOCALHOST, "localhost", 4000, True),
        (LOCALHOST, "localhost", 4001, False),
        (LOCALHOST, "127.0.0.1", 4000, True),
        (LOCALHOST, "::1", 4000, True),
        (LOCALHOST, "0:0:0:0:0:0:0:1", 4000, True),
        (LOCALHOST, "127.0.0.2", 4000, False),
        (LOCALHOST, "192.0.2.7", 4000, False),
        (LOCALHOST, "example.invalid", 4000, False),
        (IPV4_ONLY, "127.0.0.1", 4000, True),
        (IPV4_ONLY, "::1", 4000, False),
        (ANYWHERE, "192.0.2.7", 4000, True),
        (ANYWHERE, "127.0.0.1", 4000, True),
        (ANYWHERE, "127.1.2.3", 4000, True),
        (ANYWHERE, "::1", 4000, False),
        (ANYWHERE, "192.0.2.8", 4000, False),
        (ANYWHERE_6, "127.0.0.1", 4000, True),
        (ANYWHERE_6, "::1", 4000, True),
        (ADVERTISED, "example.invalid", 99, True),
        (ADVERTISED, "example.invalid", 4000, False),
        (ADVERTISED, "127.0.0.1", 4000, True),
    ],
)
def test_which_addresses_certainly_lead_to_a_daemon(entrance: Entrance, host: str, port: int, leads_here: bool) -> None:
    entrances = Entrances()
    entrances.add(entrance)
    assert entrances.find(host, port, None) is (entrance if leads_here else None)
    entrances.remove(entrance)
    assert entrances.find(host, port, None) is None


def test_an_address_that_two_daemons_claim_leads_to_neither() -> None:
    entrances = Entrances()
    first, second = (Entrance(_accept, ("balanced.invalid", 99), frozenset({"127.0.0.1"}), port) for port in (1, 2))
    entrances.add(first)
    entrances.add(second)
    assert entrances.find("balanced.invalid", 99, None) is None
    assert entrances.find("127.0.0.1", 2, None) is second


def test_a_unix_socket_is_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entrance = Entrance(_accept, socket_path=str(tmp_path / "s"))
    entrances = Entrances()
    entrances.add(entrance)
    entrances.add(LOCALHOST)
    assert entrances.find("", 0, str(tmp_path / "s")) is entrance
    assert entrances.find("", 0, "s") is entrance
    assert entrances.find("", 0, str(tmp_path / "t")) is None

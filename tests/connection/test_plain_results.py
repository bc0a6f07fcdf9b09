"""Results that arrive together, as the connection takes them in."""

from __future__ import annotations

from collections.abc import Sequence

from broker.codecs import Encoded
from broker.connection.calls import MadeCall, Outcome
from broker.connection.chains import Waiter, new_chain
from broker.connection.writing import write_plain_result
from tests.connection.conftest import Pair


class Known(MadeCall):
    """A call that keeps what it gets."""

    oneway = is_nested = False
    is_small = takes_value = True
    waiter = deadline = outcome = None
    taken = abandoned = False
    id = 0
    cost = 1
    arguments = Encoded("json", b"[[],{}]")

    def __init__(self) -> None:
        self.got: list[object] = []

    def to_bytes(self) -> bytes:
        self.taken = True
        return b""

    def finish(self, outcome: Outcome) -> None:
        self.got.append(outcome)

    def finish_with(self, value: object) -> None:
        self.got.append(value)


class Waiting(Known):
    """One that a thread waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.waiter = Waiter(new_chain(), 1)  # type: ignore[assignment]


def test_an_answer_to_no_call_ends_the_connection_after_those_before_it(pair: Pair) -> None:
    client = pair.client
    pair.settle()
    calls = [Known() for _ in range(4)]
    for call in calls:
        client.send(call)
    client.next_message(0)
    client.receive(b"".join(write_plain_result(number, b"%d" % number) for number in (1, 2, 9, 3)))
    assert client.ended_because is not None
    assert "call 9" in client.ended_because
    assert [call.got for call in calls[:2]] == [[1], [2]]
    for call in calls[2:]:
        (lost,) = call.got
        assert isinstance(lost, Outcome)
        assert lost.lost


class Sent:
    """A transport that takes everything."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def send(self, pieces: Sequence[bytes | memoryview]) -> bool:
        self.messages.append(b"".join(pieces))
        return True

    def finish(self) -> None:
        pass


def test_calls_of_threads_that_were_woken_together_go_out_though_the_last_does_not_call(pair: Pair) -> None:
    client = pair.client
    pair.settle()
    sent = Sent()
    client.hand_to(sent, reader_pushes=True)
    for _ in range(3):
        client.send(Waiting())
    client.receive(b"".join(write_plain_result(number, b"1") for number in (1, 2, 3)))
    del sent.messages[:]
    client.send(Waiting())
    client.send(Waiting())
    assert not sent.messages  # they wait for the third
    assert client.has_company  # and the thread that reads knows of it, however late it looks
    client.dismiss_company()
    assert len(sent.messages) == 1
    assert not client.has_company


def test_a_thread_that_was_woken_alone_waits_for_nobody(pair: Pair) -> None:
    client = pair.client
    pair.settle()
    sent = Sent()
    client.hand_to(sent, reader_pushes=True)
    client.send(Waiting())
    client.send(Known())
    client.receive(b"".join(write_plain_result(number, b"1") for number in (1, 2)))
    assert not client.has_company
    del sent.messages[:]
    client.send(Waiting())
    assert len(sent.messages) == 1

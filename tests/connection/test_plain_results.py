"""Results that arrive together, as the connection takes them in."""

from __future__ import annotations

from broker.codecs import Encoded
from broker.connection.calls import MadeCall, Outcome
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

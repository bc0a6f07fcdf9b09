"""Hostile answers: to the engine of a client, and to proxies that wait for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import islice
from typing import Any

import broker
from broker._pb.broker_pb2 import Call, Frame, Frames
from broker.codecs import Encoded
from broker.connection import chains
from broker.connection.calls import CallRequest, Outcome
from broker.connection.engine import Connection, Settings
from broker.connection.local import Entrance, entrances
from broker.errors import BrokerError
from tests.connection.conftest import Recorder
from tests.fuzz.parts import Parts
from tests.fuzz.serving import MOST_ITEMS, Faults
from tests.fuzz.values import CODEC, EDGE

CALLS = 4
HOST, PORT = "192.0.2.1", 9
PATIENCE = 5.0


def welcome() -> bytes:
    return Frames(frames=[Frame(welcome=Settings(process_id=bytes(16)).to_wire())]).SerializeToString()


def take_answers(data: bytes) -> None:
    """Messages of a daemon to a client with calls under way: each of these ends once."""
    parts = Parts(data)
    handler, outcomes = Recorder(), [[] for _ in range(CALLS)]  # type: ignore[var-annotated]
    connection = Connection(Settings(), handler, accepts=False, peer_name="a daemon")
    if parts.number(3):
        connection.receive(welcome())
    for found in outcomes:
        arguments = Encoded("json", b"[[],{}]")
        connection.call(
            CallRequest("shop", "echo", Call.METHOD, arguments, chains.new_chain(), on_outcome=found.append)
        )
    for piece in parts.pieces():
        connection.receive(piece)
    why = connection.ended_because or ""
    assert not why.startswith("an internal error"), why
    connection.lost("the input is over")
    assert [len(found) for found in outcomes] == [1] * CALLS, "a call has no outcome, or several"
    for outcome in (outcome for found in outcomes for outcome in found):
        _read_outcome(outcome)


def _read_outcome(outcome: Outcome) -> None:
    with suppress(BrokerError):
        if outcome.value is not None and outcome.value.codec == "json":
            CODEC.decode(outcome.value, EDGE)
        if outcome.refused is not None:
            raise outcome.refused.to_error()


class Impostor:
    """What a proxy takes for the daemon: it answers the first call with the messages that it was given."""

    def __init__(self) -> None:
        self.script: list[bytes] = []
        entrances.add(Entrance(self._accept, (HOST, PORT)))

    def _accept(self, client: Connection) -> None:
        line = _Line(client, self.script)
        self.script = []  # whoever connects again meets with silence
        client.hand_to(line)
        line.begin()


class _Line:
    """The end of the impostor, with a thread that speaks once it was asked."""

    def __init__(self, client: Connection, script: list[bytes]) -> None:
        self._client = client
        self._script = script
        self._asked = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._speak, name="fuzz-impostor", daemon=True)

    def begin(self) -> None:
        self._client.receive(welcome())
        self._thread.start()

    def send(self, pieces: Sequence[bytes | memoryview]) -> bool:
        self._asked.release()
        return True

    def finish(self) -> None:
        self._asked.release()

    def _speak(self) -> None:
        self._asked.acquire(timeout=PATIENCE)
        self._asked.acquire(timeout=PATIENCE)
        for message in self._script:
            self._client.receive(message)
        why = self._client.ended_because or ""
        self._client.lost(why or "the input is over")


@cache
def impostor() -> tuple[Impostor, Faults]:
    """One for all inputs."""
    return Impostor(), Faults()


def _one_by_one(proxy: Any) -> object:
    items = proxy.items(5)  # or whatever else the impostor makes of it
    return [*islice(items, MOST_ITEMS)] if isinstance(items, Iterator) else items


def _future(proxy: Any) -> object:
    return proxy.echo.future(1).result(PATIENCE)


def _batch(proxy: Any) -> object:
    batch: Any = broker.Batch(proxy)
    batch.echo(1)
    batch.echo(2)
    return [*batch()]


def _callback(proxy: Any) -> object:
    return proxy.call(broker.export(lambda *values: len(values)))


def _set(proxy: Any) -> object:
    proxy.level = 2
    return None


def _describe(proxy: Any) -> object:
    """What a person asks for, or a shell."""
    description = proxy._broker.description
    for member in description.members.values():
        with suppress(ValueError):
            member.signature()
    return str(description), dir(proxy), proxy.echo.__doc__


USES: list[Callable[[Any], object]] = [
    lambda proxy: proxy.echo(1),
    _one_by_one,
    _future,
    _batch,
    _callback,
    _set,
    lambda proxy: proxy.level,
    len,
    _describe,
]


def take_by_proxy(data: bytes) -> None:
    """A proxy that calls an impostor: it gets a result, or an error of the documented kinds, or what the other side
    says that the method raised."""
    answers, faults = impostor()
    parts = Parts(data)
    use = USES[parts.number(len(USES) - 1)]
    answers.script = [*parts.pieces()]
    proxy: Any = broker.Proxy(f"BROKER:shop@{HOST}:{PORT}", timeout=PATIENCE)
    try:
        use(proxy)
    except Exception as error:
        if not _is_documented(error):
            raise
    finally:
        proxy._broker.close()
    faults.check()


def _is_documented(error: Exception) -> bool:
    """One of ours; or it was decoded, which is told by the place that raises such."""
    if isinstance(error, (BrokerError, AttributeError, TypeError)) and not _is_of_a_crash(error):
        return True
    return _raised_in(error) in ("result_of", "__next__", "result", "end", "on_end", "_raise", "items", "_next")


def _raised_in(error: BaseException) -> str:
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at.tb_frame.f_code.co_name if at is not None else ""


def _is_of_a_crash(error: Exception) -> bool:
    """Whether Python itself raised it: ours say whose member they are about."""
    return not isinstance(error, BrokerError) and "'shop'" not in str(error)

"""What a client streams, as the method takes it: without a socket, from queues that a test fills."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from broker.codecs import PlainEdge
from broker.errors import CodecError, ConnectionClosedError
from broker.exposure import members_of
from broker.schema import Method, schema_of
from broker.services import uploads
from broker.services.uploads import Upload


class Adder:
    def add(self, numbers: Iterator[int], start: int = 0) -> int:
        return sum(numbers, start)

    def join(self, texts: Iterator[str]) -> str:
        return "".join(texts)


class Line:
    """The requests of one call, as gRPC gives them."""

    def __init__(self, method: Method) -> None:
        self._method = method
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.taken = threading.Semaphore(0)
        self._last: Any = b""

    def send(self, **fields: Any) -> None:
        self._queue.put(self._method.request_class(**fields).SerializeToString())

    def put(self, message: Any) -> None:
        self._queue.put(message)

    def end(self) -> None:
        self._queue.put(None)

    def break_off(self) -> None:
        self._queue.put(grpc.RpcError())

    def __iter__(self) -> Line:
        return self

    def __next__(self) -> bytes:
        if isinstance(self._last, bytes):  # else it stays as it is
            self._last = self._queue.get(timeout=20)
            self.taken.release()
        message = self._last
        if message is None:
            raise StopIteration
        if isinstance(message, Exception):
            raise message
        assert isinstance(message, bytes)
        return message


@pytest.fixture
def method() -> Method:
    return schema_of(members_of(Adder)).methods["add"]


@pytest.fixture
def line(method: Method) -> Line:
    return Line(method)


@pytest.fixture
def upload(method: Method, line: Line) -> Iterator[Upload]:
    upload = Upload(method, line, 10_000)
    upload.begin(PlainEdge())
    yield upload
    upload.close()
    line.end()


def test_methods_say_whether_they_can_begin_without_a_message(method: Method) -> None:
    assert method.has_first_message
    assert not schema_of(members_of(Adder)).methods["join"].has_first_message


def test_items_come_in_their_order(line: Line, upload: Upload) -> None:
    for number in range(100):
        line.send(numbers=number)
    line.end()
    assert list(upload) == list(range(100))
    assert list(upload) == []


def test_the_first_message_has_arguments_and_perhaps_an_item(line: Line, method: Method, upload: Upload) -> None:
    line.send(start=7)
    line.send(numbers=1)
    line.end()
    first = upload.first()
    args, kwargs = method.decode_request(first, PlainEdge(), items=upload)
    assert 7 in (*args, *kwargs.values())
    assert list(upload) == [1]


def test_no_message_at_all(line: Line, upload: Upload) -> None:
    line.end()
    assert upload.first() == b""
    assert list(upload) == []


def test_nothing_is_read_before_an_item_is_asked_for(line: Line, upload: Upload) -> None:
    line.send(numbers=1)
    line.send(numbers=2)
    upload.first()
    assert line.taken.acquire(timeout=20)
    assert not line.taken.acquire(timeout=0.1)
    line.end()
    assert list(upload) == [1, 2]


def test_no_more_is_read_than_there_is_room_for(line: Line, upload: Upload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_MESSAGES", 2)
    for number in range(10):
        line.send(numbers=number)
    line.end()
    assert next(upload) == 0
    read = 0
    while line.taken.acquire(timeout=0.2):
        read += 1
    assert read <= 4  # what was taken, two that wait, and one for which there is no room yet
    assert list(upload) == list(range(1, 10))


def test_who_waits_for_an_item_learns_that_the_caller_is_gone(line: Line, upload: Upload) -> None:
    line.send(numbers=1)
    assert next(upload) == 1
    waiting = threading.Thread(target=upload.lose, args=("the caller gave up",))
    waiting.start()
    with pytest.raises(ConnectionClosedError, match="ended early: the caller gave up"):
        next(upload)
    waiting.join(20)


def test_a_stream_that_breaks_off_is_no_end(line: Line, upload: Upload) -> None:
    line.send(numbers=1)
    line.break_off()
    assert next(upload) == 1
    with pytest.raises(ConnectionClosedError):
        next(upload)


class Cancelled(Line):
    """A call that is cancelled looks complete to gRPC at first."""

    def __next__(self) -> bytes:
        if self._last is None:
            raise grpc.RpcError
        return super().__next__()


def test_a_stream_that_seems_complete_and_was_cancelled(method: Method) -> None:
    for has_item in (True, False):
        line = Cancelled(method)
        upload = Upload(method, line, 10_000).begin(PlainEdge())
        if has_item:
            line.send(numbers=1)
        line.end()
        if has_item:
            assert next(upload) == 1
        else:
            assert upload.first() == b""
        with pytest.raises(ConnectionClosedError):
            next(upload)


def test_a_message_that_is_none(line: Line, upload: Upload) -> None:
    line.put(b"\xff\xff")
    with pytest.raises(CodecError) as caught:
        next(upload)
    assert upload.fault is caught.value


def test_a_message_that_is_too_large(line: Line, upload: Upload) -> None:
    line.put(bytes(20_000))
    with pytest.raises(CodecError, match="takes 20000 bytes, and one holds 10000"):
        next(upload)


def test_on_an_event_loop(line: Line, upload: Upload) -> None:
    async def take() -> list[Any]:
        sent = asyncio.get_running_loop().run_in_executor(None, send)
        found = [number async for number in upload]
        await sent
        return found

    def send() -> None:
        for number in range(50):
            line.send(numbers=number)
        line.end()

    assert asyncio.run(take()) == list(range(50))


def test_a_task_that_waits_learns_that_the_caller_is_gone(line: Line, upload: Upload) -> None:
    async def take() -> None:
        waiting = asyncio.ensure_future(anext(upload))
        await asyncio.sleep(0)
        upload.lose("the caller gave up")
        with pytest.raises(ConnectionClosedError):
            await waiting

    asyncio.run(take())


def test_after_the_call_there_is_nothing(line: Line, upload: Upload) -> None:
    line.send(numbers=1)
    upload.close()
    assert list(upload) == []

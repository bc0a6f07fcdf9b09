"""Calls of every kind as Pyro programs make them."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from broker.compat import Pyro4, Pyro5


def calculator(pyro: Any) -> Any:
    class Calculator:
        def __init__(self) -> None:
            self.noted: list[int] = []
            self.go_on = threading.Event()

        @pyro.expose
        def multiply(self, x: int, y: int) -> int:
            return x * y

        @pyro.expose
        def divide(self, x: int, y: int) -> int:
            return x // y

        @pyro.expose
        @pyro.oneway
        def wait(self) -> None:
            self.go_on.wait(10)

        @pyro.expose
        @pyro.oneway
        def product(self, x: int, y: int) -> int:
            return x * y

        @pyro.expose
        def proceed(self) -> None:
            self.go_on.set()

        @pyro.expose
        def numbers(self, stop: int) -> Iterator[int]:
            try:
                for number in range(stop):
                    self.noted.append(number)
                    yield number
            finally:
                self.noted.append(-1)

        @pyro.expose
        def names(self) -> Iterator[str]:
            return iter(["one", "two"])

        @pyro.expose
        def failing(self) -> Iterator[int]:
            yield 1
            raise LookupError("no more")

        @pyro.expose
        def annotations(self) -> dict[str, bytes]:
            pyro.context.response_annotations["BACK"] = b"from the method"
            return {key: bytes(value) for key, value in pyro.context.annotations.items()}

        @pyro.expose
        def about(self) -> tuple[Any, ...]:
            context = pyro.context
            return context.client_sock_addr[0], context.correlation_id, context.client is not None

    return Calculator()


# ---- oneway


@pytest.mark.parametrize("servertype", ["thread", "multiplex"])
def test_oneway_calls_hold_nothing_up(pyro: Any, serve: Any, servertype: str) -> None:
    pyro.config.SERVERTYPE = servertype
    proxy = pyro.Proxy(serve(calculator(pyro)))
    proxy.wait()
    proxy.wait()
    assert proxy.multiply(5, 11) == 55
    proxy.proceed()


def test_what_is_oneway_is_up_to_the_client(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(calculator(pyro)))
    assert proxy.product(5, 11) is None
    proxy._pyroOneway.clear()
    assert proxy.product(5, 11) == 55
    proxy._pyroOneway.add("multiply")
    assert proxy.multiply(5, 11) is None


# ---- batches


def test_batches(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(calculator(pyro)))
    batch = pyro.batch(proxy)
    for x, y in ((7, 6), (3, 4)):
        assert batch.multiply(x, y=y) is None
    batch.product(2, 3)
    assert batch.divide(1, 0) is None
    batch.multiply(1, 1)
    results = batch()
    assert [next(results), next(results), next(results)] == [42, 12, 6]
    with pytest.raises(ZeroDivisionError) as raised:
        next(results)
    assert "return x // y" in "".join(pyro.traceback(raised.type, raised.value, raised.tb))
    with pytest.raises(StopIteration):
        next(results)
    assert list(batch()) == []
    batch.multiply(2, 2)
    assert list(batch()) == [4]
    batch.proceed()
    assert batch(oneway=True) is None


def test_a_batch_takes_no_longer_than_it_may(pyro: Any, serve: Any) -> None:
    target = calculator(pyro)
    proxy = pyro.Proxy(serve(target))
    proxy._pyroTimeout = 0.2
    batch = pyro.batch(proxy)
    batch.wait()
    with pytest.raises(pyro.errors.TimeoutError, match="receiving: timeout"):
        list(batch())
    target.go_on.set()


# ---- streams


def test_streams(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(calculator(pyro)))
    stream = proxy.numbers(5)
    assert next(stream) == 0
    assert proxy.multiply(2, 2) == 4
    assert list(stream) == [1, 2, 3, 4]
    with pytest.raises(StopIteration):
        next(stream)
    assert list(proxy.names()) == ["one", "two"]
    stream = proxy.failing()
    assert next(stream) == 1
    with pytest.raises(LookupError, match="no more"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)


def test_a_closed_stream_ends_at_the_server(pyro: Any, serve: Any) -> None:
    target = calculator(pyro)
    stream = pyro.Proxy(serve(target)).numbers(1_000_000)
    next(stream)
    stream.close()
    stream.close()
    ends = time.monotonic() + 10
    while -1 not in target.noted and time.monotonic() < ends:
        time.sleep(0.01)
    assert target.noted[-1] == -1
    with pytest.raises(StopIteration):
        next(stream)


def test_streams_linger_while_a_proxy_is_released(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(calculator(pyro)))
    stream = proxy.numbers(100)
    assert next(stream) == 0
    proxy._pyroRelease()
    with pytest.raises(pyro.errors.ConnectionClosedError, match="the proxy for this stream result has been closed"):
        next(stream)
    proxy._pyroReconnect()
    assert next(stream) == 1
    pyro.config.ITER_STREAM_LINGER = 0.0
    proxy._pyroReconnect()
    with pytest.raises(pyro.errors.PyroError, match="item stream terminated"):
        next(stream)


# ---- annotations and the rest of the context


def test_annotations_there_and_back(pyro: Any, looping: Any) -> None:
    class Annotating(pyro.Daemon):  # type: ignore[misc]
        def annotations(self) -> dict[str, bytes]:
            return {"DAEM": b"from the daemon"}

    proxy = pyro.Proxy(looping(Annotating()).register(calculator(pyro)))
    pyro.context.annotations = {"HERE": b"from the client", "BUFF": memoryview(b"view")}
    try:
        assert proxy.annotations() == {"HERE": b"from the client", "BUFF": b"view"}
        assert pyro.context.response_annotations == {"DAEM": b"from the daemon", "BACK": b"from the method"}
        proxy.wait()
        assert pyro.context.response_annotations == {}
        for annotations, message in (({"TOOLONG": b""}, "4 ascii characters"), ({"ABCD": "text"}, "must be bytes")):
            pyro.context.annotations = annotations
            with pytest.raises(pyro.errors.ProtocolError, match=message):
                proxy.annotations()
    finally:
        pyro.context.annotations = {}
        proxy.proceed()


def test_correlation_ids_and_the_client(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(calculator(pyro)))
    address, correlation_id, has_client = proxy.about()
    assert (address, type(correlation_id), has_client) == ("127.0.0.1", uuid.UUID, True)
    pyro.context.correlation_id = uuid.UUID(int=7)
    try:
        assert proxy.about()[1] == uuid.UUID(int=7)
        state = pyro.context.to_global()
        pyro.context.correlation_id = None
        pyro.context.from_global(state)
        assert pyro.context.correlation_id == uuid.UUID(int=7)
    finally:
        pyro.context.correlation_id = None


def test_tracked_resources_are_closed_with_the_connection(pyro: Any, serve: Any) -> None:
    class Resource:
        def __init__(self) -> None:
            self.closed = threading.Event()

        def close(self) -> None:
            self.closed.set()

    resources = [Resource(), Resource()]

    class Service:
        @pyro.expose
        def allocate(self) -> None:
            for resource in resources:
                pyro.context.track_resource(resource)
            pyro.context.untrack_resource(resources[0])

    with pyro.Proxy(serve(Service())) as proxy:
        proxy.allocate()
        assert not resources[1].closed.is_set()
    assert resources[1].closed.wait(10)
    assert not resources[0].closed.is_set()
    with pytest.raises(pyro.errors.PyroError, match="cannot track resource on a connectionless call"):
        pyro.context.track_resource(resources[0])


# ---- callbacks


def test_callbacks_to_the_client(pyro: Any, serve: Any, looping: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Handler:
        @pyro.expose
        @pyro.callback
        def tell(self, word: str) -> str:
            if word == "fail":
                raise ValueError("failed in the callback")
            return word.upper()

    class Caller:
        @pyro.expose
        def call(self, handler: Any, word: str) -> Any:
            handler._pyroClaimOwnership()
            return handler.tell(word)

    proxy = pyro.Proxy(serve(Caller()))
    own = looping(pyro.Daemon())
    handler = Handler()
    own.register(handler)
    assert proxy.call(handler, "word") == "WORD"
    with pytest.raises(ValueError, match="failed in the callback"):
        proxy.call(handler, "fail")
    assert "exception in the callback" in caplog.text
    assert proxy.call(handler, "again") == "AGAIN"


# ---- Pyro4's futures


@pytest.mark.parametrize("how", ["asyncproxy", "_pyroAsync"])
def test_asynchronous_proxies(how: str, looping: Any) -> None:
    pyro = Pyro4
    target = calculator(pyro)
    proxy = pyro.Proxy(looping(pyro.Daemon()).register(target))
    pyro.asyncproxy(proxy) if how == "asyncproxy" else proxy._pyroAsync()
    result = proxy.multiply(6, 7)
    assert result.wait(10) is True
    assert result.ready is True
    assert result.value == 42
    assert result.then(lambda value, more: value + more, 8).value == 50
    chained = proxy.multiply(1, 2).then(lambda value: value + 1).then(lambda value, by: value * by, by=10)
    assert chained.value == 30
    seen: list[BaseException] = []
    failed = proxy.divide(1, 0).iferror(seen.append)
    with pytest.raises(ZeroDivisionError):
        failed.value  # noqa: B018
    assert [type(error) for error in seen] == [ZeroDivisionError]
    proxy._pyroAsync(False)
    assert proxy.multiply(2, 3) == 6


def test_asynchronous_batches(looping: Any) -> None:
    pyro = Pyro4
    batch = pyro.batch(pyro.Proxy(looping(pyro.Daemon()).register(calculator(pyro))))
    batch.multiply(2, 3)
    batch.multiply(3, 4)
    assert list(batch(asynchronous=True).value) == [6, 12]
    with pytest.raises(pyro.errors.PyroError, match="async oneway calls make no sense"):
        batch(oneway=True, asynchronous=True)


def test_futures_of_any_function() -> None:
    future = Pyro4.Future(lambda x, y: x * y).then(lambda value: value + 1)
    assert future.delay(0.01) is True
    assert future(3, 4).value == 13
    assert future.cancel() is False
    with pytest.raises(RuntimeError, match="already been evaluated"):
        future(1, 1)
    cancelled = Pyro4.Future(print)
    assert cancelled.cancel() is True
    with pytest.raises(RuntimeError, match="been cancelled"):
        cancelled()
    waiting = Pyro4.Future(print)
    waiting.delay(60)
    result = waiting()
    assert waiting.cancel() is True
    with pytest.raises(RuntimeError, match="future has been cancelled"):
        result.value  # noqa: B018


# ---- blobs


def test_blobs(looping: Any) -> None:
    blobs = Pyro5.client.SerializedBlob

    class Receiver:
        @Pyro5.api.expose
        def blob(self, blob: Any, *others: Any) -> Any:
            return blob.info, blob.deserialized()

    proxy = Pyro5.api.Proxy(looping(Pyro5.api.Daemon()).register(Receiver()))
    assert proxy.blob(blobs("about", [1, (2, 3)])) == ("about", [1, (2, 3)])
    with pytest.raises(Pyro5.errors.SerializeError, match="it must be the only argument"):
        proxy.blob(blobs("about", 1), 2)


# ---- what lies a little deeper


def test_the_context_is_there_while_an_instance_is_made(pyro: Any, serve: Any) -> None:
    class User:
        def __init__(self) -> None:
            self._name = bytes(pyro.context.annotations["USER"]).decode()

        @pyro.expose
        def name(self) -> str:
            return self._name

    proxy = pyro.Proxy(serve(User))
    pyro.context.annotations = {"USER": b"janet"}
    try:
        assert proxy.name() == "janet"
    finally:
        pyro.context.annotations = {}


def test_annotations_of_a_proxy_of_the_programs_own(pyro: Any, serve: Any) -> None:
    class Annotating(pyro.Proxy):  # type: ignore[misc]
        def _pyroAnnotations(self) -> dict[str, bytes]:
            return {"MINE": b"of the proxy"}

        def _pyroResponseAnnotations(self, annotations: dict[str, bytes], msgtype: int) -> None:
            self._pyroSeen = annotations

    proxy = Annotating(serve(calculator(pyro)))
    assert proxy.annotations() == {"MINE": b"of the proxy"}
    assert proxy._pyroSeen == {"BACK": b"from the method"}


def test_other_objects_of_the_same_daemon_by_their_ids(pyro: Any, serve: Any) -> None:
    proxy = pyro.Proxy(serve(calculator(pyro), "calculator"))
    assert proxy._pyroInvoke("registered", [], {}, objectId="Pyro.Daemon") == ["Pyro.Daemon", "calculator"]
    assert proxy._pyroInvoke("multiply", (6, 7), None) == 42
    metadata = proxy._pyroInvoke("get_metadata", ("calculator",), {"as_lists": True}, objectId="Pyro.Daemon")
    assert sorted(metadata["oneway"]) == ["product", "wait"]

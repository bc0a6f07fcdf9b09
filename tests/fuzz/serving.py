"""Hostile requests at a daemon and at a name server, by every way that leads in. No socket carries them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any, ClassVar, NoReturn

import grpc
from google.protobuf.message import DecodeError

import broker
from broker._pb.broker_pb2 import Frame, Frames
from broker.connection.introduction import Settings
from broker.proxy_base import ProxyBase
from broker.registry import wire
from broker.registry.names import Names
from broker.registry.service import Door, generic_handler
from broker.registry.store import MemoryStore
from broker.security import Identification
from broker.services.objects import Target
from broker.uri import URI
from tests.fuzz.parts import Parts
from tests.fuzz.values import Colour, Item

IDLE_SECONDS = 10.0
"""Within this all calls of an input have ended."""
MOST_ITEMS = 30


@dataclass
class Order:
    item: Item
    count: int = 1
    colour: Colour | None = None
    notes: dict[str, list[str]] | None = None


class Shop:
    """Has a member of each kind."""

    _level = 1

    def echo(self, value: object = None) -> object:
        return value

    def add(self, first: int, second: float = 1.0, *others: int, **named: float) -> float:
        return first + second + sum(others) + sum(named.values())

    def order(self, order: Order, on: frozenset[str] = frozenset()) -> Order:
        return order

    def items(self, count: int) -> Iterator[int]:
        yield from range(min(count, MOST_ITEMS))

    async def later(self, value: bytes | None = None) -> object:
        return value

    def fail(self, text: str) -> None:
        raise LookupError(text)

    def total(self, numbers: Iterator[int]) -> int:
        return sum(islice(numbers, MOST_ITEMS))

    def call(self, function: object, value: object = None) -> object:
        """Calls back, over the connection that the call came by."""
        if isinstance(function, ProxyBase) and function._broker.uri.connection is not None:
            return function(value)  # type: ignore[operator]  # a proxy of an exported function can be called
        return None

    @broker.oneway
    def tell(self, text: str) -> None: ...

    @property
    def level(self) -> int:
        return self._level

    @level.setter
    def level(self, level: int) -> None:
        self._level = level

    def __getitem__(self, key: object) -> object:
        return key

    def __len__(self) -> int:
        return 3


@broker.behavior(instance_mode="session")
class Visit:
    def __init__(self) -> None:
        self.count = 0

    def visit(self) -> int:
        self.count += 1
        return self.count


class Faults(logging.Handler):
    """What is logged as a fault of ours while it listens: at first, and from `go_on` until `pause`."""

    known: ClassVar[list[Faults]] = []

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []
        self.known.append(self)
        self.go_on()

    def go_on(self) -> None:
        self.seen.clear()
        logging.getLogger("broker").addHandler(self)

    def pause(self) -> None:
        logging.getLogger("broker").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(logging.Formatter().format(record))

    def check(self) -> None:
        seen, self.seen = self.seen, []
        assert not seen, f"logged as a fault: {seen}"


class Served:
    """A daemon with a shop, whose port nobody uses."""

    def __init__(self) -> None:
        self.daemon = broker.Daemon()
        self.daemon.register(Shop(), "shop")
        self.daemon.register(Visit, "visits")
        self.daemon.start()
        self.faults = Faults()

    def settle(self) -> None:
        """Waits until nothing is left of an input."""
        self._wait("calls under way", lambda: self.daemon._dispatcher.under_way)
        self._wait("sessions", lambda: self.daemon.stats().sessions)
        self.faults.check()

    def _wait(self, what: str, left: Callable[[], int]) -> None:
        give_up = time.monotonic() + IDLE_SECONDS
        while left():
            assert time.monotonic() < give_up, f"{left()} {what} are left"
            time.sleep(0.0005)


@cache
def served() -> Served:
    """One for all inputs."""
    return Served()


def target_of(service: str) -> Target:
    """An object of the daemon as a typed service."""
    target = served().daemon._services._objects.find(service)
    assert target is not None
    return target


def introduction() -> bytes:
    return Frames(frames=[Frame(hello=Settings(process_id=bytes(16)).to_wire())]).SerializeToString()


def take_connection(data: bytes) -> None:
    """Messages of a client to a daemon, after an introduction or in place of one."""
    at, parts = served(), Parts(data)
    connects = at.daemon._connects
    connection = connects._new_connection("a client", connects._welcome)
    connection.on_end = connects._forget
    if parts.number(3):
        connection.receive(introduction())
    answers = parts.number(1)
    for piece in parts.pieces():
        connection.receive(piece)
        while answers and connection.next_message(0) is not None:
            pass
    why = connection.ended_because or ""
    assert not why.startswith("an internal error"), why
    connection.lost("the input is over")
    assert not connection.busy
    at.settle()


# ---- requests of other clients


class Ended(Exception):
    """A call was ended with a status, as gRPC does it."""


class Caller(grpc.ServicerContext):
    """The caller of one request, as gRPC presents him; what goes back to him is dropped."""

    def __init__(self, headers: tuple[tuple[str, str | bytes], ...] = ()) -> None:
        self._headers = headers
        self._callbacks: list[Callable[[], None]] = []

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        assert isinstance(code, grpc.StatusCode)
        assert code is not grpc.StatusCode.OK
        details.encode()
        raise Ended(code, details)

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        self.abort(status.code, status.details)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None: ...

    def send_initial_metadata(self, initial_metadata: Any) -> None: ...

    def peer(self) -> str:
        return "ipv4:192.0.2.1:1"

    def invocation_metadata(self) -> Any:
        return self._headers

    def auth_context(self) -> Any:
        return {}

    def peer_identities(self) -> None: ...

    def peer_identity_key(self) -> None: ...

    def set_compression(self, compression: Any) -> None: ...

    def disable_next_message_compression(self) -> None: ...

    def set_code(self, code: Any) -> None: ...

    def set_details(self, details: str) -> None: ...

    def is_active(self) -> bool:
        return True

    def time_remaining(self) -> Any:
        return None

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self._callbacks.append(callback)
        return True

    def over(self) -> None:
        """gRPC says so when the call has ended."""
        for callback in self._callbacks:
            callback()


class _Details(grpc.HandlerCallDetails):
    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = ()


def _ask(handler: Any, requests: list[bytes], caller: Caller) -> None:
    """Calls a method as gRPC does it. Raises what a method must not raise."""
    read = handler.request_deserializer or bytes
    try:
        messages = [read(request) for request in requests]
    except DecodeError:  # gRPC's own refusal
        return
    with suppress(Ended):
        if handler.request_streaming:
            answer = (handler.stream_stream or handler.stream_unary)(iter(messages), caller)
        else:
            answer = (handler.unary_stream or handler.unary_unary)(messages[0], caller)
        write = handler.response_serializer or bytes
        for response in islice(answer, MOST_ITEMS) if handler.response_streaming else [answer]:
            write(response)
        if handler.response_streaming:
            answer.close()
    caller.over()


OBJECT_BROKER = [f"/broker.v1.ObjectBroker/{name}" for name in ("Invoke", "InvokeStream", "Lookup")]
OTHERS = ["/grpc.health.v1.Health/Check", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"]
MEMBERS = ["echo", "add", "order", "items", "later", "fail", "total", "call", "tell", "get_level", "set_level", "none"]
TYPED = [f"/shop/{name}" for name in MEMBERS] + ["/visits/visit", "/nothing/nothing"]
_ENDLESS = ("/Watch", "/Connect")


def _take_request(path: str, parts: Parts) -> None:
    at = served()
    if path.endswith(_ENDLESS):
        return
    handler = at.daemon._services.service(_Details(path))
    if handler is None:
        return
    header, *requests = [*parts.pieces()] or [b""]
    caller = Caller((("x-header", header.decode("ascii", "replace")), ("bytes-bin", header)))
    _ask(handler, requests or [b""], caller)
    at.settle()


def take_invoke(data: bytes) -> None:
    """Invoke, InvokeStream and Lookup, health and reflection."""
    parts = Parts(data)
    paths = [*OBJECT_BROKER, *OTHERS]
    _take_request(paths[parts.number(len(paths) - 1)], parts)


def take_typed(data: bytes) -> None:
    """Calls of typed services, and of services that are not there."""
    parts = Parts(data)
    number = parts.number(len(TYPED))
    path = TYPED[number] if number < len(TYPED) else "/" + parts.piece().decode("utf-8", "replace")
    _take_request(path, parts)


REGISTRY: list[wire.Method[Any, Any]] = [
    wire.REGISTER, wire.REMOVE, wire.LOOKUP, wire.LIST, wire.SET_TAGS, wire.COUNT, wire.PING, wire.KEEP_ALIVE,
]  # fmt: skip


def take_registry(data: bytes) -> None:
    """One request after another at a name server that has a few names."""
    parts = Parts(data)
    names = Names(MemoryStore())
    names.own(URI("BROKER:Broker.NameServer@localhost:9090"))
    for number in range(3):
        names.register(f"example.{number}", f"BROKER:o{number}@localhost:1", tags=[f"tag{number}"], lease=b"l" * 16)
    names.register("a" * 60 + "!", "BROKER:o@localhost:1")  # what a regular expression can lose itself in
    handler = generic_handler(names, Door(Identification()))
    while request := parts.rest(1):
        method = REGISTRY[request[0] % len(REGISTRY)]
        _ask(handler.service(_Details(method.path)), [parts.piece()], Caller())
    names.close()

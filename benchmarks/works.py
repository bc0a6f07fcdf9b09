"""The rows: what is measured, where the two processes run, and what has to be reached."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks import clocks
from benchmarks.contestants.client import CannotDo, Client

MIB = 1 << 20
PEERS = ("pyro-serpent", "pyro-msgpack", "rpyc", "ice")
"""Whom the bars are about, where a row names nobody."""


@dataclass(frozen=True)
class Setting:
    """What a measurement is told: how to make a client, for how long, and which process serves."""

    connect: Callable[[], Client]
    seconds: float
    server_pid: int
    package: str


@dataclass(frozen=True)
class Bar:
    """How far ahead of the best of `against` ours has to be (above 1: ahead)."""

    ratio: float
    against: tuple[str, ...] = PEERS


@dataclass(frozen=True)
class Limit:
    """What our figure itself may be at most."""

    most: float


@dataclass(frozen=True)
class Row:
    """One row of the table. `bars` are what has to be reached, the first one first.

    `cores`: `cross` has the server on one core and the client on another, `same` both on one. `fresh` rows have a
    server process of their own, whose memory is measured, and are measured in one round only. `bare` rows need no server,
    and nothing of the contestant imported. `processes` is how many clients are run one after another in a round for one
    figure, their median. `patience` is what a client has, in seconds, besides the time that it measures.
    """

    name: str
    title: str
    unit: str
    measure: Callable[[Setting], float]
    bars: tuple[Bar | Limit, ...] = ()
    cores: Literal["cross", "same"] = "cross"
    lower_is_better: bool = False
    fresh: bool = False
    bare: bool = False
    processes: int = 1
    patience: float = 30.0


# ---- measurements: each runs in a client process of its own


def one_caller(setting: Setting) -> float:
    return clocks.latency(setting.connect().caller(), setting.seconds)


def many_threads(threads: int) -> Callable[[Setting], float]:
    return lambda setting: clocks.threads_rate(setting.connect().caller, threads, setting.seconds)


def futures(setting: Setting) -> float:
    client, count = setting.connect(), 500
    return clocks.rate(lambda: client.futures(count), count, setting.seconds)


def batches(setting: Setting) -> float:
    client, count = setting.connect(), 200
    return clocks.rate(lambda: client.batch(count), count, setting.seconds)


def generator(setting: Setting) -> float:
    client, count = setting.connect(), 2000

    def consume() -> None:
        if sum(client.numbers(count)) != count * (count - 1) // 2:
            raise AssertionError("items were lost")

    return clocks.rate(consume, count, setting.seconds)


def argument(mebibytes: int) -> Callable[[Setting], float]:
    def measure(setting: Setting) -> float:
        length, data = setting.connect().length(), os.urandom(mebibytes * MIB)

        def send() -> None:
            if length(data) != len(data):
                raise AssertionError("bytes were lost")

        return clocks.rate(send, mebibytes, setting.seconds)

    return measure


def array(setting: Setting) -> float:
    import numpy

    same, values = setting.connect().same(), numpy.random.default_rng(1).random(MIB)

    def there_and_back() -> None:
        if same(values)[-1] != values[-1]:
            raise AssertionError("numbers were lost")

    return clocks.rate(there_and_back, 2 * values.nbytes / MIB, setting.seconds)


def exception(setting: Setting) -> float:
    fail = setting.connect().fail()

    def caught() -> None:
        with suppress(ValueError):
            fail()
            raise AssertionError("nothing was raised")

    return clocks.latency(caught, setting.seconds)


def nested_callback(setting: Setting) -> float:
    return clocks.latency(setting.connect().call_back(), setting.seconds)


def first_call(setting: Setting) -> float:
    started = time.perf_counter()
    setting.connect().caller()()
    return (time.perf_counter() - started) * 1e3


def import_time(setting: Setting) -> float:
    started = time.perf_counter()
    __import__(setting.package)
    return (time.perf_counter() - started) * 1e3


IDLE_CLIENTS = 1000
PROXIES = 10_000
PENDING = 1000


def idle_clients(setting: Setting) -> float:
    """MiB that a server has more with so many connected clients than with one, after it served a call of each."""
    client = setting.connect()
    clocks.warm_up(client.caller())
    before = clocks.settled_kib(setting.server_pid)
    calls = client.connections(IDLE_CLIENTS)
    for _ in range(2):
        for call in calls:
            call()
    return (clocks.settled_kib(setting.server_pid) - before) / 1024


def idle_connection(setting: Setting) -> float:
    """KiB of the server for one more connection."""
    return idle_clients(setting) * 1024 / IDLE_CLIENTS


def many_proxies(setting: Setting) -> tuple[float, float]:
    client = setting.connect()
    clocks.warm_up(client.caller())
    before, sockets_before = clocks.settled_kib(os.getpid()), clocks.sockets()
    calls = client.proxies(PROXIES)
    for call in calls:
        call()
    return (clocks.settled_kib(os.getpid()) - before) / PROXIES, clocks.sockets() - sockets_before


def proxy_memory(setting: Setting) -> float:
    return many_proxies(setting)[0]


def proxy_sockets(setting: Setting) -> float:
    """Sockets of the client: the one that is there before, and those that come."""
    return 1 + many_proxies(setting)[1]


def pending_future(setting: Setting) -> float:
    client = setting.connect()
    with suppress(CannotDo):
        client.futures(100)
    before = clocks.settled_kib(os.getpid())
    held: list[Any] = client.pending(PENDING)
    after = clocks.settled_kib(os.getpid())
    return (after - before) / len(held)


# ---- the rows

_FASTER_PEERS = ("pyro-msgpack", "rpyc")
_ALL = (
    Row(
        "call",
        "1 caller, cross",
        "µs",
        one_caller,
        (Bar(1.1, ("pyro-serpent",)), Bar(1.0, ("pyro-msgpack",)), Bar(1.0, ("ice",))),
        lower_is_better=True,
    ),
    Row(
        "call-same",
        "1 caller, same core",
        "µs",
        one_caller,
        (Bar(0.7, ("pyro-serpent",)), Bar(1.0, ("pyro-serpent",)), Bar(1.0, ("rpyc",))),
        cores="same",
        lower_is_better=True,
    ),
    *(
        Row(
            f"threads{threads}",
            f"{threads} threads, one proxy",
            "calls/s",
            many_threads(threads),
            (Bar(1.0, _FASTER_PEERS), Bar(1.0, ("ice",)), Bar(1.5, _FASTER_PEERS)),
        )
        for threads in (8, 32)
    ),
    Row("threads8-same", "8 threads, same core", "calls/s", many_threads(8), cores="same"),
    Row("futures", "futures", "calls/s", futures, (Bar(2.0), Bar(3.0))),
    Row("batch", "batch(200)", "calls/s", batches, (Bar(0.7), Bar(1.2))),
    Row("generator", "generator", "items/s", generator, (Bar(15), Bar(30))),
    Row("1MiB", "1 MiB argument", "MiB/s", argument(1), (Bar(0.9), Bar(2.0))),
    Row("64MiB", "64 MiB argument", "MiB/s", argument(64), (Bar(1.2), Bar(3.0))),
    Row("array", "8 MiB array, both ways", "MiB/s", array),
    Row("exception", "exception", "µs", exception, lower_is_better=True),
    Row("callback", "nested callback", "µs", nested_callback, lower_is_better=True),
    Row("connect", "connect and first call", "ms", first_call, lower_is_better=True, processes=5),
    Row(
        "import",
        "import",
        "ms",
        import_time,
        (Bar(1 / 1.3, ("grpc-unary",)),),
        lower_is_better=True,
        bare=True,
        processes=5,
    ),
    Row(
        "idle",
        "1,000 idle clients: server",
        "MiB",
        idle_clients,
        (Limit(150),),
        lower_is_better=True,
        fresh=True,
    ),
    Row(
        "idle-one",
        "one idle connection: server",
        "KiB",
        idle_connection,
        lower_is_better=True,
        fresh=True,
    ),
    Row("proxies", "10,000 proxies: sockets", "sockets", proxy_sockets, (Limit(1),), lower_is_better=True, fresh=True),
    Row("proxy", "10,000 proxies: each", "KiB", proxy_memory, (Limit(5),), lower_is_better=True, fresh=True),
    Row("future", "pending future: client", "KiB", pending_future, lower_is_better=True, fresh=True),
)
ROWS = {row.name: row for row in _ALL}

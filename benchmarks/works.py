"""The works and their rows: what is measured, where the two processes run, and what has to be reached."""

from __future__ import annotations

import os
import subprocess
import sys
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
    """One row of the table: one figure of a work. `bars` are what has to be reached, the first one first."""

    name: str
    title: str
    unit: str
    bars: tuple[Bar | Limit, ...] = ()
    lower_is_better: bool = False


@dataclass(frozen=True)
class Work:
    """What a client process does, and the rows that its figures are for, in order.

    `cores`: `cross` has the server on one core and the client on another, `same` both on one. A `fresh` work has a
    server process of its own, whose memory is measured, and is done in one round only. A `bare` one needs no server,
    and nothing of the contestant imported. `processes` is how many clients do it one after another in a round for one
    figure, their median. `patience` is what a client has, in seconds, besides the time that it measures.
    """

    rows: tuple[Row, ...]
    measure: Callable[[Setting], float | tuple[float, ...]]
    cores: Literal["cross", "same"] = "cross"
    fresh: bool = False
    bare: bool = False
    processes: int = 1
    patience: float = 30.0

    @property
    def name(self) -> str:
        """That of its first row."""
        return self.rows[0].name


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
    """In an interpreter that has imported nothing else."""
    program = f"import time; t = time.perf_counter(); import {setting.package}; print(time.perf_counter() - t)"
    ran = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True, timeout=30)
    return float(ran.stdout) * 1e3


IDLE_CLIENTS = 1000
PROXIES = 10_000
PENDING = 1000


def idle_clients(setting: Setting) -> tuple[float, float]:
    """What a server has more with so many connected clients than with one, after it served two calls of each."""
    client = setting.connect()
    clocks.warm_up(client.caller())
    before = clocks.settled_kib(setting.server_pid)
    calls = client.connections(IDLE_CLIENTS)
    for _ in range(2):
        for call in calls:
            call()
    more = clocks.settled_kib(setting.server_pid) - before
    return more / 1024, more / IDLE_CLIENTS


def many_proxies(setting: Setting) -> tuple[float, float]:
    """Sockets of the client, with the one that is there before, and its memory for each proxy."""
    client = setting.connect()
    clocks.warm_up(client.caller())
    before, sockets_before = clocks.settled_kib(os.getpid()), clocks.sockets()
    calls = client.proxies(PROXIES)
    for call in calls:
        call()
    return 1 + clocks.sockets() - sockets_before, (clocks.settled_kib(os.getpid()) - before) / PROXIES


def pending_future(setting: Setting) -> float:
    client = setting.connect()
    with suppress(CannotDo):
        client.futures(100)
    before = clocks.settled_kib(os.getpid())
    held: list[Any] = client.pending(PENDING)
    after = clocks.settled_kib(os.getpid())
    return (after - before) / len(held)


# ---- the table

_FASTER_PEERS = ("pyro-msgpack", "rpyc")


def _time(name: str, title: str, unit: str = "µs", *bars: Bar | Limit) -> tuple[Row]:
    return (Row(name, title, unit, bars, lower_is_better=True),)


def _rate(name: str, title: str, unit: str, *bars: Bar | Limit) -> tuple[Row]:
    return (Row(name, title, unit, bars),)


_ALL = (
    Work(
        _time(
            "call",
            "1 caller, cross",
            "µs",
            Bar(1.1, ("pyro-serpent",)),
            Bar(1.0, ("pyro-msgpack",)),
            Bar(1.0, ("ice",)),
        ),
        one_caller,
    ),
    Work(
        _time(
            "call-same",
            "1 caller, same core",
            "µs",
            Bar(0.7, ("pyro-serpent",)),
            Bar(1.0, ("pyro-serpent",)),
            Bar(1.0, ("rpyc",)),
        ),
        one_caller,
        cores="same",
    ),
    *(
        Work(
            _rate(
                f"threads{threads}",
                f"{threads} threads, one proxy",
                "calls/s",
                Bar(1.0, _FASTER_PEERS),
                Bar(1.0, ("ice",)),
                Bar(1.5, _FASTER_PEERS),
            ),
            many_threads(threads),
        )
        for threads in (8, 32)
    ),
    Work(_rate("threads8-same", "8 threads, same core", "calls/s"), many_threads(8), cores="same"),
    Work(_rate("futures", "futures", "calls/s", Bar(2.0), Bar(3.0)), futures),
    Work(_rate("batch", "batch(200)", "calls/s", Bar(0.7), Bar(1.2)), batches),
    Work(_rate("generator", "generator", "items/s", Bar(15), Bar(30)), generator),
    Work(_rate("1MiB", "1 MiB argument", "MiB/s", Bar(0.9), Bar(2.0)), argument(1)),
    Work(_rate("64MiB", "64 MiB argument", "MiB/s", Bar(1.2), Bar(3.0)), argument(64), patience=60),
    Work(_rate("array", "8 MiB array, both ways", "MiB/s"), array),
    Work(_time("exception", "exception"), exception),
    Work(_time("callback", "nested callback"), nested_callback),
    Work(_time("connect", "connect and first call", "ms"), first_call, processes=5),
    Work(_time("import", "import", "ms", Bar(1 / 1.3, ("grpc-unary",))), import_time, bare=True, processes=5),
    Work(
        (
            *_time("idle", "1,000 idle clients: server", "MiB", Limit(150)),
            *_time("idle-one", "an idle client: server", "KiB"),
        ),
        idle_clients,
        fresh=True,
        patience=120,
    ),
    Work(
        (
            *_time("sockets", "10,000 proxies", "sockets", Limit(1)),
            *_time("proxy", "10,000 proxies: each", "KiB", Limit(5)),
        ),
        many_proxies,
        fresh=True,
    ),
    Work(_time("pending", "a pending future", "KiB"), pending_future, fresh=True),
)
WORKS = {work.name: work for work in _ALL}
ROWS = {row.name: row for work in _ALL for row in work.rows}

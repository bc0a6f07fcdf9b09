"""What a thread under stress may do; each method makes calls and checks that every answer is that of its call."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from typing import Any

import numpy

import broker
from benchmarks.stress.books import RETRIED, Books, Wrong
from broker.errors import CallTimeout, CannotConnect, CommunicationError, NamingError

MIB = 1 << 20


def check(found: object, expected: object) -> None:
    if found != expected:
        raise Wrong(f"{str(found)[:200]} instead of {str(expected)[:200]}")


def any_value(draw: random.Random) -> object:
    return draw.choice(
        [
            draw.getrandbits(70),
            draw.random(),
            "ä" * draw.randrange(100),
            draw.randbytes(draw.randrange(3000)),
            {"a": [1, None, True, {"b": (1, 2)}], "c": {1, 2}},
            [draw.random() for _ in range(draw.randrange(50))],
        ]
    )


def all_members(of: object) -> list[tuple[str, Callable[[], Any]]]:
    """The public methods without arguments, with their names."""
    names = [name for name in dir(of) if not name.startswith("_") and callable(getattr(of, name))]
    return [(name, getattr(of, name)) for name in names]


class Calls:
    """Of one thread; the proxy is shared with others."""

    def __init__(self, proxy: Any, books: Books, draw: random.Random) -> None:
        self._proxy = proxy
        self._books = books
        self._draw = draw

    def method(self) -> None:
        value = any_value(self._draw)
        member = self._draw.choice([self._proxy.echo, self._proxy.echo_async])
        with self._books.call() as number:
            check(member(number, value), [number, value])

    def attributes(self) -> None:
        with self._books.call() as number:
            self._proxy.slot = number
        if not isinstance(self._proxy.slot, int):
            raise Wrong("the attribute is no int")

    def special_methods(self) -> None:
        proxy = self._proxy
        with self._books.call() as number:
            check(proxy(number), number + 1)
        with self._books.call() as number:
            check(proxy[number], [number, number * 2])
        with self._books.call() as number:
            proxy[number] = 1
        with self._books.call() as number:
            del proxy[number]
        with self._books.call() as number:
            check(number in proxy, number % 2 == 0)
        check(len(proxy), 7)
        check(list(proxy), [0, 1, 2, 3, 4])

    def error(self) -> None:
        with self._books.call() as number:
            try:
                self._proxy.fail(number)
            except LookupError as error:
                check(error.args, (number,))
            else:
                raise Wrong("no exception came")

    def oneway(self) -> None:
        """It is executed before the next call of this thread, unless the server ended or stood still meanwhile."""
        began, before = time.monotonic(), self._proxy.incarnation()
        numbers = [self._books.number() for _ in range(self._draw.randrange(1, 4))]
        for number in numbers:
            self._proxy.echo.oneway(number, "oneway")
        for number in numbers:
            incarnation, executed = self._proxy.was_executed(number)
            if incarnation == before and not executed and not self._books.was_down_since(began):
                raise Wrong(f"the oneway call {number} was not executed before the next call")

    def futures(self) -> None:
        made: list[tuple[int, Future[Any]]] = []
        for _ in range(self._draw.randrange(1, 20)):
            number = self._books.number()
            made.append((number, self._proxy.echo.future(number, "future")))
        for number, future in made:
            result = future.result(self._books.longest)
            check(result, [number, "future"])
            self._books.answered.append(number)

    def cancelled_future(self) -> None:
        number = self._books.number()
        long = self._draw.random() < 0.5
        future = self._proxy.wait.future(number, 60.0 if long else 0.0)
        if self._draw.random() < 0.5:
            wait_for([future], self._draw.random() * 0.02)
        if future.cancel():
            with suppress(CancelledError):
                raise Wrong(f"a cancelled future has a result: {future.result(self._books.longest)}")
        else:
            check(future.result(self._books.longest), number)
            self._books.answered.append(number)

    def callbacks_of_future(self) -> None:
        """Each is called once, and may make calls."""
        called: list[int] = []
        done = threading.Event()

        def add(future: Future[Any]) -> None:
            try:
                called.append(future.result()[0])
                self._proxy.incarnation()
            except CommunicationError:
                pass  # the thread that waits sees it too
            finally:
                done.set()

        with self._books.call() as number:
            future = self._proxy.echo.future(number, 0)
            future.add_done_callback(add)
            future.result(self._books.longest)
            if not done.wait(self._books.longest):
                raise Wrong("the callback of a future was not called")
            check(called, [number])

    def batch(self) -> None:
        numbers = [self._books.number() for _ in range(self._draw.randrange(1, 30))]
        batch: Any = broker.Batch(self._proxy)
        for number in numbers:
            batch.echo(number, "batch")
        form = self._draw.choice(["results", "future", "oneway"])
        if form == "oneway":
            batch(oneway=True)
            return
        results = batch(future=True).result(self._books.longest) if form == "future" else batch()
        check(list(results), [[number, "batch"] for number in numbers])
        self._books.answered.extend(numbers)

    def batch_with_errors(self) -> None:
        going_on = self._draw.random() < 0.5
        first, failing, last = (self._books.number() for _ in range(3))
        batch: Any = broker.Batch(self._proxy, stop_on_error=not going_on)
        batch.echo(first, 1)
        batch.fail(failing)
        batch.echo(last, 2)
        results = batch()
        check(next(results), [first, 1])
        try:
            next(results)
        except LookupError as error:
            check(error.args, (failing,))
        else:
            raise Wrong("the error of a call of a batch was not raised")
        check(list(results), [[last, 2]] if going_on else [])
        self._books.answered += [first, failing]
        (self._books.answered if going_on else self._books.untouched).append(last)

    def stream(self) -> None:
        count = self._draw.randrange(500)
        member = self._draw.choice([self._proxy.numbers, self._proxy.numbers_async])
        number = self._books.number()
        check(list(member(number, count)), list(range(number, number + count)))
        self._books.answered.append(number)

    def abandoned_stream(self) -> None:
        taken = self._draw.randrange(40)
        number = self._books.number()
        member = self._draw.choice([self._proxy.numbers, self._proxy.numbers_async])
        stream = member(number, 1_000_000)
        for expected in range(number, number + taken):
            check(next(stream), expected)
        if self._draw.random() < 0.5:
            stream.close()

    def iterator_as_argument(self) -> None:
        count = self._draw.randrange(200)
        most = self._draw.choice([count, count // 2])
        with self._books.call() as number:
            check(self._proxy.total(number, iter(_upward(count)), most), [number, sum(range(most))])

    def call_back(self) -> None:
        def back(number: int, depth: int) -> object:
            if depth == 0:
                return number
            with self._books.call() as inner:
                return self._proxy.call_back(inner, broker.export(back), depth - 1)

        depth = self._draw.randrange(4)
        with self._books.call() as number:
            found = self._proxy.call_back(number, broker.export(back), depth)
            check(found[0], number)
            while depth:
                found, depth = found[1], depth - 1
            check(found[1], found[0])

    def call_back_later(self) -> None:
        called = threading.Event()
        numbers: list[int] = []

        def back(number: int) -> None:
            numbers.append(number)
            called.set()

        before = self._proxy.incarnation()
        with self._books.call() as number:
            check(self._proxy.call_later(number, broker.export(back)), number)
        while not called.wait(5.0):
            if self._proxy.incarnation() != before:
                return
        check(numbers, [number])

    def big_value(self) -> None:
        data = self._draw.randbytes(1 << 16) * (self._draw.randrange(1, 5) * 16)
        with self._books.call() as number:
            check(self._proxy.echo(number, data), [number, data])

    def array(self) -> None:
        array = numpy.arange(self._draw.randrange(MIB // 8), dtype="float64")
        with self._books.call() as number:
            if not numpy.array_equal(self._proxy.add(number, array), array + number % 1000):
                raise Wrong("another array came back")

    def timeout(self) -> None:
        number = self._books.number()
        hurried = broker.options(self._proxy, timeout=self._draw.random() * 0.05)
        if self._draw.random() < 0.5:
            try:
                hurried.wait(number, 60.0)
            except (CallTimeout, CannotConnect, NamingError):
                return
            raise Wrong("no timeout came")
        with suppress(CallTimeout, CannotConnect, NamingError):
            check(hurried.echo(number, 1), [number, 1])
            self._books.answered.append(number)

    def retried(self) -> None:
        """May be executed more than once."""
        number = self._books.number() | RETRIED
        check(broker.options(self._proxy, retries=3).echo(number, 1), [number, 1])
        self._books.answered.append(number)

    def session(self) -> None:
        """A proxy of its own, for which the server keeps something."""
        proxy: Any = broker.Proxy(
            self._proxy._broker.uri, timeout=self._books.patience, wait=self._books.patience, local=False
        )
        with proxy, self._books.call() as number:
            check(proxy.track(number), number)


def _upward(count: int) -> Iterator[int]:
    yield from range(count)

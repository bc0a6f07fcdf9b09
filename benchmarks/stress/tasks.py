"""What a task under stress may do."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import broker
from benchmarks.stress.books import Books, Wrong
from benchmarks.stress.calls import any_value, check
from broker.errors import CallTimeout, CannotConnect, NamingError


class Tasks:
    """Of one task; the proxy is shared with others, and its connection with the threads."""

    def __init__(self, proxy: Any, books: Books, draw: random.Random) -> None:
        self._proxy = proxy
        self._books = books
        self._draw = draw

    async def method(self) -> None:
        value = any_value(self._draw)
        member = self._draw.choice([self._proxy.echo, self._proxy.echo_async])
        with self._books.call() as number:
            check(await member(number, value), [number, value])

    async def together(self) -> None:
        numbers = [self._books.number() for _ in range(self._draw.randrange(1, 20))]
        found = await asyncio.gather(*(self._proxy.echo(number, 1) for number in numbers))
        check(found, [[number, 1] for number in numbers])
        self._books.answered.extend(numbers)

    async def attributes(self) -> None:
        with self._books.call() as number:
            await self._proxy.slot.set(number)
        if not isinstance(await self._proxy.slot, int):
            raise Wrong("the attribute is no int")

    async def special_methods(self) -> None:
        proxy = self._proxy
        with self._books.call() as number:
            check(await proxy(number), number + 1)
        with self._books.call() as number:
            check(await proxy[number], [number, number * 2])
        with self._books.call() as number:
            await proxy[number].set(1)
        with self._books.call() as number:
            await proxy[number].delete()
        check(await proxy.__len__(), 7)
        check([item async for item in proxy], [0, 1, 2, 3, 4])

    async def error(self) -> None:
        with self._books.call() as number:
            try:
                await self._proxy.fail(number)
            except LookupError as error:
                check(error.args, (number,))
            else:
                raise Wrong("no exception came")

    async def oneway(self) -> None:
        await self._proxy.echo.oneway(self._books.number(), "oneway")

    async def cancelled(self) -> None:
        """Before the call has gone out, on its way, while it runs, or when it has just been answered."""
        number = self._books.number()
        long = self._draw.random() < 0.5
        task = asyncio.create_task(self._proxy.wait(number, 60.0 if long else 0.0))
        if self._draw.random() < 0.8:
            await asyncio.sleep(self._draw.random() * 0.02)
        cancelled = task.cancel()
        try:
            check(await task, number)
            self._books.answered.append(number)
        except asyncio.CancelledError:
            if not cancelled:
                raise

    async def timeout(self) -> None:
        number = self._books.number()
        if self._draw.random() < 0.5:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._draw.random() * 0.02):
                    await self._proxy.wait(number, 60.0)
                    raise Wrong("no timeout came")
            return
        try:
            await broker.options(self._proxy, timeout=self._draw.random() * 0.02).wait(number, 60.0)
        except (CallTimeout, CannotConnect, NamingError):
            return
        raise Wrong("no timeout came")

    async def batch(self) -> None:
        numbers = [self._books.number() for _ in range(self._draw.randrange(1, 30))]
        batch: Any = broker.Batch(self._proxy)
        for number in numbers:
            batch.echo(number, "batch")
        check(list(await batch()), [[number, "batch"] for number in numbers])
        self._books.answered.extend(numbers)

    async def stream(self) -> None:
        count = self._draw.randrange(300)
        member = self._draw.choice([self._proxy.numbers, self._proxy.numbers_async])
        number = self._books.number()
        check([item async for item in member(number, count)], list(range(number, number + count)))
        self._books.answered.append(number)

    async def abandoned_stream(self) -> None:
        number = self._books.number()
        expected, last = number, number + self._draw.randrange(40)
        async for item in self._proxy.numbers(number, 1_000_000):
            check(item, expected)
            if expected == last:
                break
            expected += 1

    async def call_back(self) -> None:
        async def back(number: int, depth: int) -> object:
            if depth == 0:
                return number
            with self._books.call() as inner:
                return await self._proxy.call_back(inner, broker.export(back), depth - 1)

        depth = self._draw.randrange(3)
        with self._books.call() as number:
            found = await self._proxy.call_back(number, broker.export(back), depth)
            check(found[0], number)
            while depth:
                found, depth = found[1], depth - 1
            check(found[1], found[0])

    async def iterator_as_argument(self) -> None:
        count = self._draw.randrange(100)
        most = self._draw.choice([count, count // 2])
        with self._books.call() as number:
            check(await self._proxy.total(number, (item for item in range(count)), most), [number, sum(range(most))])

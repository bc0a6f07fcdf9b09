"""A web application: pages, remote objects and remote calls, all on one event loop."""

from __future__ import annotations

import asyncio
import html
import signal

import broker


class Stock:
    """What there is. Plain methods: the daemon runs them on its worker threads."""

    def __init__(self) -> None:
        self._items = {"kettle": 3, "cup": 12}

    def items(self) -> dict[str, int]:
        return dict(self._items)

    def sell(self, item: str) -> int:
        if not self._items.get(item):
            raise LookupError(f"there is no {item} left")
        self._items[item] -= 1
        return self._items[item]


class Shop:
    """The application: its methods are `async def`, and run on the loop that also answers the browsers."""

    def __init__(self, stock: broker.AsyncProxy) -> None:
        self._stock = stock
        self._visits = 0
        self.url = ""

    async def address(self) -> str:
        """Where the pages are."""
        return self.url

    async def visits(self) -> int:
        return self._visits

    async def sell(self, item: str) -> str:
        left = await self._stock.sell(item)  # a remote call inside a remote call
        return f"a {item} is sold, {left} left"

    async def page(self) -> str:
        self._visits += 1
        rows = "".join(f"<li>{count} x {html.escape(item)}</li>" for item, count in (await self._stock.items()).items())
        return f"<h1>The shop</h1><ul>{rows}</ul>"

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers a browser. A real application has a web framework here, on the same loop."""
        await reader.readuntil(b"\r\n\r\n")
        body = (await self.page()).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()


async def main() -> None:
    async with broker.Daemon() as daemon:
        shop = Shop(broker.AsyncProxy(daemon.register(Stock(), "example.stock")))
        uri = daemon.register(shop, "example.shop")
        web = await asyncio.start_server(shop.answer, "localhost", 0)
        shop.url = f"http://localhost:{web.sockets[0].getsockname()[1]}/"
        print(f"    uri = {uri}\n    url = {shop.url}\nBroker daemon running.", flush=True)
        told_to_end = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, told_to_end.set)
        async with web:
            await told_to_end.wait()


if __name__ == "__main__":
    asyncio.run(main())

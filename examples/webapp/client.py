"""Buys something, and looks at the page of the shop: `python client.py URI`."""

from __future__ import annotations

import asyncio
import sys
import urllib.request

import broker


def browse(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as page:
        text: str = page.read().decode()
    return text


async def main(uri: str) -> None:
    shop = broker.AsyncProxy(uri)
    url = await shop.address()
    print("the page:", await asyncio.to_thread(browse, url))
    print(await shop.sell("kettle"))
    print(*await asyncio.gather(*(shop.sell("cup") for _ in range(10))), sep="\n")
    try:
        await shop.sell("teapot")
    except LookupError as error:
        print("no sale:", error)

    # Browsers and remote callers at once, all of them on the one loop of the application.
    pages = (asyncio.to_thread(browse, url) for _ in range(10))
    counts = (shop.visits() for _ in range(100))
    answers = await asyncio.gather(*pages, *counts)
    print("the page:", answers[0])
    print("visits:", await shop.visits())


asyncio.run(main(sys.argv[1]))

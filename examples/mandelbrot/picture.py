"""Has a picture made by several workers: `python picture.py FILE.png WIDTH URI URI …`."""

from __future__ import annotations

import asyncio
import struct
import sys
import zlib
from pathlib import Path

import broker


class Picture:
    """Gathers the rows as they come, in whatever order, and shows how far it is."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._rows: dict[int, bytes] = {}

    def add(self, number: int, row: bytes) -> None:
        self._rows[number] = row
        done = len(self._rows) * 40 // self.height
        print(f"\r[{'#' * done}{'.' * (40 - done)}] {len(self._rows)} of {self.height} rows", end="", flush=True)

    def png(self) -> bytes:
        """A PNG file of grey pixels, written by hand."""
        pixels = b"".join(b"\0" + self._rows[number] for number in range(self.height))
        header = struct.pack(">IIBBBBB", self.width, self.height, 8, 0, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )


async def take_rows(worker: broker.AsyncProxy, picture: Picture, first: int, step: int) -> int:
    count = 0
    async for number, row in worker.rows(picture.width, picture.height, first, step):
        picture.add(number, row)
        count += 1
    return count


async def main(file: str, width: str, *uris: str) -> None:
    picture = Picture(int(width), int(width) * 3 // 4)
    workers = [broker.AsyncProxy(uri) for uri in uris]
    shares = (take_rows(worker, picture, first, len(workers)) for first, worker in enumerate(workers))
    counts = await asyncio.gather(*shares)
    print()
    for uri, count in zip(uris, counts, strict=True):
        print(f"{count} rows from {broker.URI(uri).location}")
    await asyncio.to_thread(Path(file).write_bytes, picture.png())
    print(f"{file}: {picture.width} x {picture.height}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""An input cut into parts: numbers, and pieces that stand behind their lengths. Any bytes are an input."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

_LENGTH = struct.Struct("<H")
_LONGEST = 0xFFFF


class Parts:
    """What is left of an input."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, most: int) -> int:
        """From 0 to `most`, which is below 256."""
        taken = self.rest(1)
        return taken[0] % (most + 1) if taken else 0

    def piece(self) -> bytes:
        """As long as it says, or what there is."""
        length = self.rest(_LENGTH.size)
        return self.rest(_LENGTH.unpack(length)[0]) if len(length) == _LENGTH.size else b""

    def pieces(self) -> Iterator[bytes]:
        while self._at < len(self._data):
            yield self.piece()

    def rest(self, most: int | None = None) -> bytes:
        end = len(self._data) if most is None else self._at + most
        taken = self._data[self._at : end]
        self._at += len(taken)
        return taken


def put_together(numbers: Iterable[int], pieces: Iterable[bytes]) -> bytes:
    """The input that `Parts` cuts so. Pieces that are too long are cut off."""
    return bytes(numbers) + b"".join(_LENGTH.pack(len(piece[:_LONGEST])) + piece[:_LONGEST] for piece in pieces)

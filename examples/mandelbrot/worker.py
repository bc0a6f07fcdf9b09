"""Computes rows of the Mandelbrot set: `python worker.py`. Start as many as there are processors."""

from __future__ import annotations

from collections.abc import Iterator

import broker

DEPTH = 255
_ESCAPED = 4.0


def depth_of(x: float, y: float) -> int:
    """How many steps a point takes to escape, at most DEPTH."""
    a = b = aa = bb = 0.0
    for step in range(DEPTH):
        if aa + bb > _ESCAPED:
            return step
        a, b = aa - bb + x, 2 * a * b + y
        aa, bb = a * a, b * b
    return DEPTH


class Worker:
    def rows(self, width: int, height: int, first: int, step: int) -> Iterator[tuple[int, bytes]]:
        """Every so-manieth row of the picture: its number and its pixels, as soon as it is done."""
        for row in range(first, height, step):
            y = 2.4 * row / height - 1.2
            yield row, bytes(DEPTH - depth_of(3.2 * column / width - 2.2, y) for column in range(width))


if __name__ == "__main__":
    broker.serve({Worker(): "example.mandelbrot"}, use_ns=False)

"""Holds what was executed, as the server wrote it down, against what clients were told."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.stress.books import RETRIED, WATCHED
from benchmarks.stress.server import NUMBER


def compare(folder: Path, journal: Path) -> Iterator[str]:
    """What clients found wrong, and what is between the journal and their books, which lie in the folder."""
    for path in folder.glob("wrong-*"):
        yield path.read_text(encoding="utf-8")
    data = journal.read_bytes()
    executed = Counter(number for (number,) in NUMBER.iter_unpack(data[: len(data) // 8 * 8]))
    doubled = [number for number, times in executed.items() if times > 1 and number > WATCHED and not number & RETRIED]
    if doubled:
        yield f"{len(doubled)} calls were executed more than once: {doubled[:5]}"
    lost = [number for number in _read(folder, "answered-*") if not executed[number]]
    if lost:
        yield f"{len(lost)} calls were answered and not executed: {lost[:5]}"
    lied = [number for number in _read(folder, "untouched-*") if executed[number]]
    if lied:
        yield f"{len(lied)} calls were executed of which it was said that they surely were not: {lied[:5]}"


def executed_calls(journal: Path) -> int:
    """How many calls the server has written down."""
    return journal.stat().st_size // NUMBER.size


def verdict(wrong: Sequence[str], well: str) -> int:
    """Prints what is wrong, or that all is well; the exit code."""
    for what in wrong:
        print(f"WRONG: {what}", file=sys.stderr)
    if not wrong:
        print(well)
    return 1 if wrong else 0


def _read(folder: Path, files: str) -> Iterator[int]:
    for path in folder.glob(files):
        yield from (number for (number,) in NUMBER.iter_unpack(path.read_bytes()))

"""What was measured: medians, ratios within a round, verdicts; JSON there and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import inf
from statistics import median
from typing import Any

from benchmarks.works import ROWS, Bar, Limit, Row


@dataclass(frozen=True)
class Cell:
    """One figure of one round: `value`, or what a contestant `cannot` do, or the `error` that came instead.

    `load` is the machine's load average at that time.
    """

    row: str
    contestant: str
    round: int
    value: float | None = None
    cannot: str | None = None
    error: str | None = None
    load: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """Our `figure` in the terms of a bar, and how much of the bar that is; 1 and above: it is reached."""

    figure: float
    share: float

    @property
    def reached(self) -> bool:
        return self.share >= 1


@dataclass(frozen=True)
class Results:
    """All cells of a run; `about` says when, where and with which versions."""

    about: Mapping[str, Any]
    cells: tuple[Cell, ...]

    def value(self, row: Row, contestant: str) -> float | None:
        """The median over the rounds."""
        values = self._by_round(row, contestant).values()
        return median(values) if values else None

    def ratio(self, row: Row, against: Iterable[str], ours: str = "broker") -> float | None:
        """How far ours is ahead (above 1) of the best of `against`: the median of the ratios within each round."""
        mine = self._by_round(row, ours)
        theirs = [self._by_round(row, contestant) for contestant in against]
        ratios = []
        for number, value in mine.items():
            others = [peer[number] for peer in theirs if number in peer]
            if others:
                ratios.append(min(others) / value if row.lower_is_better else value / max(others))
        return median(ratios) if ratios else None

    def verdict(self, row: Row, bar: Bar | Limit, ours: str = "broker") -> Verdict | None:
        """None where there is nothing to compare."""
        if isinstance(bar, Limit):
            value = self.value(row, ours)
            return None if value is None else Verdict(value, bar.most / value if value > 0 else inf)
        ratio = self.ratio(row, bar.against, ours)
        return None if ratio is None else Verdict(ratio, ratio / bar.ratio)

    def failures(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.error is not None]

    def rows(self) -> list[Row]:
        """Those that were measured, in the order of the table."""
        measured = {cell.row for cell in self.cells}
        return [row for row in ROWS.values() if row.name in measured]

    def _by_round(self, row: Row, contestant: str) -> dict[int, float]:
        return {
            cell.round: cell.value
            for cell in self.cells
            if cell.row == row.name and cell.contestant == contestant and cell.value is not None
        }

    # ---- JSON

    def to_dict(self) -> dict[str, Any]:
        return {"about": dict(self.about), "cells": [asdict(cell) for cell in self.cells]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Results:
        """Raises KeyError or TypeError for what is no such file. Rows that are no longer there are left out."""
        cells = (Cell(**cell) for cell in data["cells"])
        return cls(data["about"], tuple(cell for cell in cells if cell.row in ROWS))

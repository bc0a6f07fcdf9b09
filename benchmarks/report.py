"""The table of a run, as text for a terminal and as markdown for the manual."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contestants import CONTESTANTS
from benchmarks.results import Results, Verdict
from benchmarks.works import PEERS, Bar, Limit, Row

DASH = "–"
FAILED = "failed"
BEGIN = "<!-- results: begin -->"
END = "<!-- results: end -->"


def figure(value: float | None) -> str:
    """Three digits that count, and thousands marked: what a reader compares, and no more."""
    if value is None:
        return DASH
    if abs(value) >= 100:
        digits = len(str(int(abs(value)))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cell(results: Results, row: Row, contestant: str) -> str:
    value = results.value(row, contestant)
    failed = any(cell.row == row.name and cell.contestant == contestant for cell in results.failures())
    return FAILED if value is None and failed else figure(value)


def bar_text(bar: Bar | Limit) -> str:
    """What is asked for: `≥ 1.1 × Pyro5 serpent`."""
    if isinstance(bar, Limit):
        return f"≤ {bar.most:g}"
    if bar.against == PEERS:
        return f"≥ {bar.ratio:.3g} × best peer"
    return f"≥ {bar.ratio:.3g} × {' or '.join(CONTESTANTS[name].title for name in bar.against)}"


def verdict_text(verdict: Verdict | None) -> str:
    if verdict is None:
        return DASH
    if verdict.reached:
        return f"reached: {figure(verdict.figure)}"
    return f"missed: {figure(verdict.figure)}, {verdict.figure / verdict.bar:.2f} of the bar"


def header(contestants: Sequence[str]) -> list[str]:
    titles = [CONTESTANTS[name].title for name in contestants]
    return ["work", "", *titles, "ours ÷ best peer", "first bar", "verdict", "then"]


def line(results: Results, row: Row, contestants: Sequence[str]) -> list[str]:
    values = [cell(results, row, name) for name in contestants]
    ratio = figure(results.ratio(row, PEERS))
    if not row.bars:
        return [row.title, row.unit, *values, ratio, DASH, DASH, DASH]
    first, *then = row.bars
    further = "; ".join(f"{bar_text(bar)} {verdict_text(results.verdict(row, bar))}" for bar in then)
    return [
        row.title,
        row.unit,
        *values,
        ratio,
        bar_text(first),
        verdict_text(results.verdict(row, first)),
        further or DASH,
    ]


def columns(results: Results) -> list[str]:
    """The contestants of a run, in their order."""
    measured = {cell.contestant for cell in results.cells}
    return [name for name in CONTESTANTS if name in measured]


def lines(results: Results) -> list[list[str]]:
    names = columns(results)
    return [header(names), *(line(results, row, names) for row in results.rows())]


def text(results: Results) -> str:
    """Aligned columns; figures to the right."""
    table = lines(results)
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    names = len(columns(results))
    shown = []
    for line in table:
        parts = [
            part.rjust(width) if 2 <= column < 3 + names else part.ljust(width)
            for column, (part, width) in enumerate(zip(line, widths, strict=True))
        ]
        shown.append("  ".join(parts).rstrip())
    return "\n".join(shown)

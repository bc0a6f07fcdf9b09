"""The tables of a run, as text for a terminal and as markdown for the manual."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.contestants import CONTESTANTS
from benchmarks.results import Results, Verdict
from benchmarks.works import PEERS, Bar, Limit, Row

DASH = "–"
FAILED = "failed"
BEGIN = "<!-- results: begin -->"
END = "<!-- results: end -->"

Table = list[list[str]]


def figure(value: float | None) -> str:
    """Three digits that count, and thousands marked: what a reader compares, and no more."""
    if value is None:
        return DASH
    if abs(value) >= 100:
        digits = len(str(int(abs(value)))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:.3g}"


def cell_text(results: Results, row: Row, contestant: str) -> str:
    value = results.value(row, contestant)
    failed = any(cell.row == row.name and cell.contestant == contestant for cell in results.failures())
    return FAILED if value is None and failed else figure(value)


def bar_text(bar: Bar | Limit, unit: str) -> str:
    """What is asked for, of which figure: `≥ 1.1 × Pyro5 serpent`."""
    if isinstance(bar, Limit):
        return f"≤ {bar.most:g} {unit}".rstrip()
    if bar.against == PEERS:
        return f"≥ {bar.ratio:.2g} × best peer"
    return f"≥ {bar.ratio:.2g} × {' or '.join(CONTESTANTS[name].title for name in bar.against)}"


def verdict_text(verdict: Verdict | None) -> str:
    if verdict is None:
        return DASH
    if verdict.reached:
        return f"reached: {figure(verdict.figure)}"
    return f"missed: {figure(verdict.figure)}, {verdict.share:.0%} of the bar"


def columns(results: Results) -> list[str]:
    """The contestants of a run, in their order."""
    measured = {cell.contestant for cell in results.cells}
    return [name for name in CONTESTANTS if name in measured]


def figures(results: Results) -> Table:
    """Works down, contestants across: the medians."""
    names = columns(results)
    header = ["work", "unit", *(CONTESTANTS[name].title for name in names)]
    return [
        header,
        *([row.title, row.unit, *(cell_text(results, row, name) for name in names)] for row in results.rows()),
    ]


def verdicts(results: Results) -> Table:
    """How far ahead of the best peer ours is, by default and with the polling switch, and what had to be reached."""
    table = [["work", "ours ÷ best peer", "with the switch", "first bar", "", "then", ""]]
    for row in results.rows():
        start = [row.title, *(figure(results.ratio(row, PEERS, ours)) for ours in ("broker", "broker-switch"))]
        texts = [(bar_text(bar, row.unit), verdict_text(results.verdict(row, bar))) for bar in row.bars]
        first, *then = texts or [(DASH, "")]
        table.append([*start, *first, *((each for each in then[0]) if then else (DASH, ""))])
        table += [["", "", "", "", "", *further] for further in then[1:]]
    return table


def about(results: Results) -> str:
    """When, where, with what: a sentence or two."""
    known = results.about
    versions = {CONTESTANTS[name].distribution: text for name, text in known["versions"].items() if text}
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    before, after = known["load before"][0], known["load after"][0]
    return (
        f"{known['when']}, {known['machine']}, CPython {known['python']}, {shown}. Medians of {known['rounds']} rounds "
        f"of {known['seconds']:g} s; load average {before:.1f} before, {after:.1f} after."
    )


def text(results: Results) -> str:
    """Both tables, aligned; figures to the right."""
    first, second = figures(results), verdicts(results)
    return f"{aligned(first, range(2, len(first[0])))}\n\n{aligned(second, range(1, 3))}\n\n{about(results)}"


def aligned(table: Table, to_the_right: Sequence[int]) -> str:
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join(
            part.rjust(width) if column in to_the_right else part.ljust(width)
            for column, (part, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def markdown(results: Results) -> str:
    first, second = figures(results), verdicts(results)
    return "\n\n".join((about(results), _markdown(first, range(2, len(first[0]))), _markdown(second, range(1, 3))))


def _markdown(table: Table, to_the_right: Sequence[int]) -> str:
    header, *lines = table
    rule = ["---:" if column in to_the_right else "---" for column in range(len(header))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))


def put_into(page: str, results: Results, drawn: str | None = None) -> str:
    """The page with the tables between its two markers, and the picture where there is one (a link, as from the page).

    Raises ValueError if the page has no such place.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END} for the tables to stand in")
    shown = markdown(results) + (f"\n\n![All figures as bars]({drawn})" if drawn is not None else "")
    return f"{before}{BEGIN}\n\n{shown}\n\n{END}{after}"

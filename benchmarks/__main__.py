"""`python -m benchmarks`: measures, prints the table, and writes what was asked for."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.processes import cores
from benchmarks.results import Cell, Results
from benchmarks.runner import Runner
from benchmarks.works import ROWS, Row

QUICK = {"rounds": 1, "seconds": 0.25}
FULL = {"rounds": 3, "seconds": 1.0}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    contestants = [CONTESTANTS[name] for name in options.contestants or CONTESTANTS]
    rows = [ROWS[name] for name in options.only or ROWS]
    for contestant in contestants:
        if not contestant.installed:
            print(f"{contestant.title} is not installed: its column is left out", file=sys.stderr)
    if cores()[0] == "-":
        print("this machine cannot pin processes to two cores: such figures are not to be compared", file=sys.stderr)
    about = describe(contestants, options.rounds, options.seconds)
    cells = Runner(rows, contestants, options.rounds, options.seconds, tell).run()
    about["load after"] = os.getloadavg()
    results = Results(about, tuple(cells))
    print(report.text(results))
    for error, cells_of_it in itertools.groupby(sorted(results.failures(), key=_what_failed), key=_what_failed):
        rows_of_it = ", ".join(cell.row for cell in cells_of_it)
        print(f"\nfailed: {CONTESTANTS[error[0]].title} in {rows_of_it}: {error[1]}", file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(results.to_dict(), indent=1), encoding="utf-8")
    return 0


def _what_failed(cell: Cell) -> tuple[str, str]:
    return cell.contestant, cell.error or ""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measures broker beside its peers.")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=f"rows: {', '.join(ROWS)}")
    parser.add_argument(
        "--contestants", nargs="+", choices=CONTESTANTS, metavar="NAME", help=f"out of {', '.join(CONTESTANTS)}"
    )
    parser.add_argument("--rounds", type=int, help=f"how often each row is measured ({FULL['rounds']})")
    parser.add_argument("--seconds", type=float, help=f"how long one figure is measured ({FULL['seconds']})")
    parser.add_argument("--quick", action="store_true", help="one short round: whether it works, not how fast it is")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes every figure there")
    options = parser.parse_args(arguments)
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, type(value)(value))
    return options


def describe(contestants: Sequence[Contestant], rounds: int, seconds: float) -> dict[str, Any]:
    return {
        "when": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores",
        "cores": cores(),
        "rounds": rounds,
        "seconds": seconds,
        "versions": {each.name: each.version for each in contestants if each.installed},
        "load before": os.getloadavg(),
    }


def tell(row: Row, number: int, cells: list[Cell]) -> None:
    """One line for a row of a round, while the rest is still being measured."""
    figures = [f"{cell.contestant} {report.cell(Results({}, (cell,)), row, cell.contestant)}" for cell in cells]
    print(f"round {number + 1}  {row.title} [{row.unit}]: {', '.join(figures)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

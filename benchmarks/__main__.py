"""`python -m benchmarks`: measures, prints the tables, and writes what was asked for."""

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

from benchmarks import picture, report
from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.processes import cores
from benchmarks.results import Cell, Results
from benchmarks.runner import Runner, profile
from benchmarks.works import ROWS, WORKS, Work

QUICK = {"rounds": 1, "seconds": 0.2}
FULL = {"rounds": 3, "seconds": 1.0}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    contestants = [CONTESTANTS[name] for name in options.contestants or CONTESTANTS]
    works = chosen(options)
    if options.profile:
        profiled = works if options.only else works[:1]
        for contestant in contestants if options.contestants else contestants[:1]:
            print("\n\n".join(profile(work, contestant, options.seconds) for work in profiled))
        return 0
    if options.read is not None:
        results = Results.from_dict(json.loads(options.read.read_text(encoding="utf-8")))
    else:
        results = measure(works, contestants, options)
    print(report.text(results))
    write(results, options)
    return 0


def chosen(options: argparse.Namespace) -> list[Work]:
    """The works that were named, or all; in a hurry without those that need a thousand connections or proxies."""
    if options.only:
        return [WORKS[name] for name in options.only]
    return [work for work in WORKS.values() if not (options.quick and work.fresh)]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measures broker beside its peers.")
    parser.add_argument("--only", nargs="+", choices=WORKS, metavar="WORK", help=f"out of {', '.join(WORKS)}")
    parser.add_argument(
        "--contestants", nargs="+", choices=CONTESTANTS, metavar="NAME", help=f"out of {', '.join(CONTESTANTS)}"
    )
    parser.add_argument("--rounds", type=int, help=f"how often each work is done ({FULL['rounds']})")
    parser.add_argument("--seconds", type=float, help=f"how long it is done ({FULL['seconds']})")
    parser.add_argument("--quick", action="store_true", help="one short round, without memory: whether it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes every figure there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draws them there, as SVG")
    parser.add_argument("--report", type=Path, metavar="FILE", help="writes the tables into this page of the manual")
    parser.add_argument(
        "--from", dest="read", type=Path, metavar="FILE", help="measures nothing: reads what --json wrote"
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="shows instead where the time of a work goes (broker and call if none is named)",
    )
    options = parser.parse_args(arguments)
    for name, value in (QUICK if options.quick else FULL).items():
        if getattr(options, name) is None:
            setattr(options, name, type(value)(value))
    return options


def measure(works: Sequence[Work], contestants: Sequence[Contestant], options: argparse.Namespace) -> Results:
    """Says on stderr what goes on, and what failed."""
    for contestant in contestants:
        if not contestant.installed:
            print(f"{contestant.title} is not installed, and has no column in the table", file=sys.stderr)
    if cores()[0] == "-":
        print("processes cannot be pinned to two cores here: these figures are not to be compared", file=sys.stderr)
    load = os.getloadavg()
    cells = Runner(works, contestants, options.rounds, options.seconds, tell, options.quick).run()
    about: dict[str, Any] = {
        "when": time.strftime("%Y-%m-%d %H:%M"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "cores": cores(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "versions": {each.name: each.version for each in contestants if each.installed},
        "load before": load,
        "load after": os.getloadavg(),
    }
    results = Results(about, tuple(cells))
    for (name, error), cells_of_it in itertools.groupby(sorted(results.failures(), key=_failure), key=_failure):
        rows = ", ".join(dict.fromkeys(cell.row for cell in cells_of_it))
        print(f"failed: {CONTESTANTS[name].title}: {rows}: {error}", file=sys.stderr)
    return results


def _failure(cell: Cell) -> tuple[str, str]:
    """Who failed, and the last line of how: the JSON has all of it."""
    return cell.contestant, (cell.error or "").strip().rpartition("\n")[2]


def tell(work: Work, number: int, cells: list[Cell]) -> None:
    """One line for a row of a round, while the rest is still being measured."""
    results = Results({}, tuple(cells))
    for row in work.rows:
        figures = (f"{name} {report.cell_text(results, ROWS[row.name], name)}" for name in report.columns(results))
        print(f"round {number + 1}  {row.title} [{row.unit}]: {', '.join(figures)}", file=sys.stderr, flush=True)


def write(results: Results, options: argparse.Namespace) -> None:
    """The files that were asked for."""
    if options.report is not None:
        drawn = options.picture and os.path.relpath(options.picture, options.report.parent)
        page = options.report.read_text(encoding="utf-8")
        options.report.write_text(report.put_into(page, results, drawn), encoding="utf-8")
    outputs = ((options.json, json.dumps(results.to_dict(), indent=1) + "\n"), (options.picture, picture.svg(results)))
    for path, content in outputs:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

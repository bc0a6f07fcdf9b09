"""The benchmarks: how figures become ratios, verdicts, tables and a picture, and that the harness runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest

from benchmarks import clocks, picture, profiling, report
from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.contestants.client import Call, CannotDo
from benchmarks.results import Cell, Results
from benchmarks.runner import Runner, profile, together
from benchmarks.works import ROWS, WORKS, Bar, Limit

ROOT = Path(__file__).parent.parent
CALL, BATCH, IDLE = ROWS["call"], ROWS["batch"], ROWS["idle"]
ABOUT: dict[str, Any] = {
    "when": "2020-02-02 12:00",
    "python": "3.11.0",
    "machine": "a machine",
    "cores": ["0", "1"],
    "rounds": 3,
    "seconds": 1.0,
    "versions": {"broker": "1.0", "rpyc": "6.0.2", "socket": ""},
    "load before": [0.5, 0.0, 0.0],
    "load after": [2.0, 0.0, 0.0],
}


def results(**rows: dict[str, list[float | None]]) -> Results:
    """By row, contestant (`_` for `-`) and round; None where a round has no figure."""
    cells = [
        Cell(row, name.replace("_", "-"), number, value)
        for row, contestants in rows.items()
        for name, values in contestants.items()
        for number, value in enumerate(values)
    ]
    return Results(ABOUT, tuple(cells))


# ---- medians, ratios, verdicts


def test_a_figure_is_the_median_of_its_rounds() -> None:
    found = results(call={"broker": [100, 900, 110]})
    assert found.value(CALL, "broker") == 110
    assert found.value(CALL, "rpyc") is None
    assert found.value(BATCH, "broker") is None


def test_ratios_are_taken_within_a_round() -> None:
    # The machine was three times slower in the second round; ours was twice as fast in each.
    found = results(batch={"broker": [200, 66, 210], "pyro_msgpack": [100, 33, 105]})
    assert found.ratio(BATCH, ["pyro-msgpack"]) == 2.0


def test_a_ratio_above_one_is_ahead_also_where_less_is_better() -> None:
    found = results(call={"broker": [50], "pyro_serpent": [100], "rpyc": [80]})
    assert found.ratio(CALL, ["pyro-serpent"]) == 2.0
    assert found.ratio(CALL, ["pyro-serpent", "rpyc"]) == 1.6, "the best of them counts"


def test_a_ratio_needs_both_in_the_same_round() -> None:
    found = results(call={"broker": [None, 50], "rpyc": [70, None]})
    assert found.ratio(CALL, ["rpyc"]) is None
    assert found.verdict(CALL, Bar(1.0, ("rpyc",))) is None


def test_the_polling_switch_is_compared_in_its_own_column() -> None:
    found = results(call={"broker": [100], "broker_switch": [50], "ice": [100]})
    assert found.ratio(CALL, ["ice"]) == 1.0
    assert found.ratio(CALL, ["ice"], "broker-switch") == 2.0


@pytest.mark.parametrize(("ours", "reached", "share"), [(110, True, 1.1), (100, True, 1.0), (50, False, 0.5)])
def test_a_bar_is_reached_or_missed_by_a_share(ours: float, reached: bool, share: float) -> None:
    verdict = results(batch={"broker": [ours], "ice": [200]}).verdict(BATCH, Bar(0.5, ("ice",)))
    assert verdict is not None
    assert verdict.reached == reached
    assert verdict.share == pytest.approx(share)


@pytest.mark.parametrize(("ours", "reached", "share"), [(75, True, 2.0), (300, False, 0.5), (-1, True, inf)])
def test_a_limit_is_for_our_own_figure(ours: float, reached: bool, share: float) -> None:
    verdict = results(idle={"broker": [ours], "rpyc": [1]}).verdict(IDLE, Limit(150))
    assert verdict is not None
    assert (verdict.figure, verdict.reached, verdict.share) == (ours, reached, share)


def test_every_first_bar_is_about_contestants_that_exist() -> None:
    bars = [bar for row in ROWS.values() for bar in row.bars if isinstance(bar, Bar)]
    assert {name for bar in bars for name in bar.against} <= set(CONTESTANTS)
    assert {name for contestant in CONTESTANTS.values() for name in contestant.special} <= set(WORKS)


def test_several_clients_give_their_median_and_the_first_failure_decides() -> None:
    assert together({"values": values} for values in ([1, 10], [3, 30], [2, 20])) == {"values": [2, 20]}
    assert together([{"values": [1]}, {"error": "it broke"}, {"cannot": "that"}]) == {"error": "it broke"}


def test_results_survive_json_and_rows_that_are_no_more_are_left_out() -> None:
    found = results(call={"broker": [1.5, None]}, gone={"broker": [3]})
    again = Results.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again.about == ABOUT
    assert again.cells == found.cells[:2]


# ---- what a reader sees


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.123456, "0.123"),
        (1.0, "1"),
        (9.876, "9.88"),
        (99.95, "100"),
        (123.4, "123"),
        (20_649.0, "20,600"),
        (424_300.0, "424,000"),
        (-3.21, "-3.21"),
    ],
)
def test_figures_have_three_digits(value: float | None, shown: str) -> None:
    assert report.figure(value) == shown


def test_the_tables_have_a_dash_for_what_is_not_there_and_say_what_failed() -> None:
    found = results(
        call={"broker": [110], "pyro_serpent": [220], "rpyc": [None]}, batch={"broker": [5], "rpyc": [None]}
    )
    found = Results(ABOUT, (*found.cells, Cell("batch", "pyro-serpent", 0, error="Traceback …")))
    figures = report.figures(found)
    assert figures[0] == ["work", "unit", "broker", "Pyro5 serpent", "RPyC"]
    assert figures[1:] == [["1 caller, cross", "µs", "110", "220", "–"], ["batch(200)", "calls/s", "5", "failed", "–"]]
    verdicts = report.verdicts(found)
    assert verdicts[1] == ["1 caller, cross", "2", "–", "≥ 1.1 × Pyro5 serpent", "reached: 2", *verdicts[1][5:]]
    assert verdicts[1][5:] == ["≥ 1 × Pyro5 msgpack", "–"]
    assert verdicts[2] == ["", "", "", "", "", "≥ 1 × ZeroC Ice", "–"], "every further bar has a line"


def test_a_missed_bar_says_by_how_much() -> None:
    found = results(call={"broker": [200], "pyro_serpent": [110]}, idle={"broker": [300]})
    texts = {line[0]: line[4] for line in report.verdicts(found)}
    assert texts["1 caller, cross"] == "missed: 0.55, 50% of the bar"
    assert texts["1,000 idle clients: server"] == "missed: 300, 50% of the bar"


def test_the_text_is_aligned_and_says_when_and_where() -> None:
    text = report.text(results(call={"broker": [110], "rpyc": [1220]}))
    first, second = text.splitlines()[:2]
    assert len(first) == len(second)
    assert second.endswith(" 110  1,220")
    assert "2020-02-02 12:00, a machine, CPython 3.11.0, objectbroker 1.0, rpyc 6.0.2." in text
    assert "Medians of 3 rounds of 1 s; load average 0.5 before, 2.0 after." in text


def test_the_report_goes_between_the_markers_of_a_page() -> None:
    page = f"# Page\n\n{report.BEGIN}\nold\n{report.END}\n\nAfter.\n"
    found = results(call={"broker": [110], "rpyc": [220]})
    written = report.put_into(page, found)
    assert written.startswith(f"# Page\n\n{report.BEGIN}\n")
    assert written.endswith(f"{report.END}\n\nAfter.\n")
    assert (
        "\n| work | unit | broker | RPyC |\n| --- | --- | ---: | ---: |\n| 1 caller, cross | µs | 110 | 220 |"
        in written
    )
    assert "old" not in written
    assert report.put_into(written, found) == written
    assert "\n\n![" not in written
    assert "\n\n![All figures as bars](figures.svg)\n\n" in report.put_into(written, found, "figures.svg")
    with pytest.raises(ValueError, match="has no <!-- results: begin -->"):
        report.put_into("# Another page\n", found)


def test_the_picture_has_a_panel_for_each_row_that_compares() -> None:
    found = results(call={"broker": [110], "rpyc": [220]}, batch={"broker": [7]})
    drawn = ET.fromstring(picture.svg(found))
    texts = ["".join(each.itertext()) for each in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["1 caller, cross", "µs, less is better", "broker", "110", "RPyC", "220"]
    widths = [rectangle.get("width") for rectangle in drawn.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths == ["100%", "65.0", "130.0"]


# ---- clocks


def test_a_rate_counts_what_was_done_while_the_clock_ran() -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1

    assert clocks.rate(work, 10, 0.02) > 0
    assert clocks.done == 10 * (calls - clocks.WARM_UP_CALLS - 1)


def test_a_call_that_takes_longer_than_the_clock_is_made_once() -> None:
    calls: list[float] = []

    def work() -> None:
        calls.append(time.perf_counter())
        while time.perf_counter() < calls[0] + 0.02:
            pass

    assert clocks.latency(work, 0.01) >= 20_000
    assert len(calls) == 1


def test_threads_are_counted_together_and_one_that_fails_ends_all() -> None:
    assert clocks.threads_rate(lambda: lambda: None, 4, 0.05) > 0

    def refuse() -> Call:
        raise CannotDo("threads")

    with pytest.raises(CannotDo, match="threads"):
        clocks.threads_rate(refuse, 4, 0.05)


def test_memory_and_sockets_are_those_of_the_process(run_program: Callable[..., Any]) -> None:
    code = """
        import os, socket
        from benchmarks import clocks

        before, sockets_before = clocks.settled_kib(os.getpid()), clocks.sockets()
        held = os.urandom(64 << 20)
        with socket.socket():
            assert clocks.sockets() == sockets_before + 1
        assert 60 << 10 < clocks.settled_kib(os.getpid()) - before < 80 << 10
        assert len(held) == 64 << 20
        """
    program = run_program(code)  # one in which nothing else is let go of meanwhile
    assert program.wait() == 0, program.errors


# ---- the harness, with ours


def test_the_benchmarks_run(tmp_path: Path) -> None:
    what = ["--contestants", "broker", "socket", "--only", "call", "callback"]
    files = ["--json", str(tmp_path / "all.json"), "--picture", str(tmp_path / "all.svg")]
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *what, *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = Results.from_dict(json.loads((tmp_path / "all.json").read_text(encoding="utf-8")))
    assert found.failures() == []
    values = {(cell.row, cell.contestant): cell.value for cell in found.cells}
    assert {key for key, value in values.items() if value is not None} == {
        ("call", "broker"),
        ("call", "socket"),
        ("callback", "broker"),
    }, "a bare socket cannot call back, which is no failure"
    assert "round 1  1 caller, cross [µs]: broker " in ran.stderr
    assert report.text(found) in ran.stdout
    ET.parse(tmp_path / "all.svg")


def test_a_server_that_does_not_start_costs_its_cells_and_no_more() -> None:
    broken = Contestant("broken", "nobody knows it", "none", "json")
    told: list[int] = []
    runner = Runner(
        [WORKS["call"]], [broken, CONTESTANTS["socket"]], 2, 0.05, lambda work, number, cells: told.append(len(cells))
    )
    cells = runner.run()
    failed = [cell for cell in cells if cell.error is not None]
    assert [(cell.contestant, cell.round) for cell in failed] == [("broken", 0)], "and is not tried again"
    assert "KeyError: 'broken'" in (failed[0].error or "")
    assert [cell.contestant for cell in cells if cell.value is not None] == ["socket", "socket"]
    assert told == [2, 1]


def test_a_profile_shows_threads_and_functions_of_both_sides() -> None:
    text = profile(WORKS["call"], CONTESTANTS["broker"], 0.2)
    assert text.startswith("broker, 1 caller, cross: ")
    assert "\nclient, under the profiler" in text
    assert "\nserver, under the profiler" in text
    assert " benchmarks/contestants/ours.py:" in text, "what the client calls"
    assert " dispatch/" in text or "broker/dispatch/" in text, "what the server does with it"


def test_only_what_ran_between_the_marks_counts_in_a_profile() -> None:
    program = """
from benchmarks.profiling import Profilers
import threading

def worked():
    sum(range(100_000))

profilers = Profilers()
profilers.start()
worked()
profilers.mark()
thread = threading.Thread(target=lambda: [worked() for _ in range(7)])
thread.start()
thread.join()
worked()
profilers.mark()
worked()
print(sum(each.calls for each in profilers.functions() if each.where.endswith("worked")))
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=20, check=True
    )
    assert ran.stdout == "8\n"


def test_threads_that_use_little_are_not_shown() -> None:
    used = {1: profiling.Usage(1000.0, 20), 2: profiling.Usage(1.0, 1), 3: profiling.Usage(3000.0, 10)}
    assert profiling.thread_lines("client", used, {1: "one", 3: "three"}, 10) == [
        "client: 400.1 µs of processor time, 3.10 switches",
        "      300.0 µs   1.00 switches  three",
        "      100.0 µs   2.00 switches  one",
    ]

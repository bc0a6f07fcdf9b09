"""Where the time of a work goes: the processor time and the switches of each thread, and the functions that take it."""

from __future__ import annotations

import cProfile
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import NamedTuple

MODE = "BENCHMARKS_PROFILE"
"""The environment variable that tells both processes what to look at: `threads` or `functions`."""
FUNCTIONS = 30
"""How many functions are shown of each side."""
_LITTLE = 0.005  # of the processor time of a process: threads that use less are not shown


class Usage(NamedTuple):
    """What a thread has used: processor time in µs, and how often it gave the processor up, or lost it."""

    microseconds: float
    switches: int

    def since(self, before: Usage) -> Usage:
        return Usage(self.microseconds - before.microseconds, self.switches - before.switches)


class Function(NamedTuple):
    """A function under the profiler: its calls, and the seconds in itself."""

    where: str
    calls: int
    seconds: float


# ---- in the two processes


def usage(pid: int) -> dict[int, Usage]:
    """Of each thread of a process, by its number. Linux says; elsewhere there is nothing."""
    threads: dict[int, Usage] = {}
    tasks = Path(f"/proc/{pid}/task")
    for task in tasks.iterdir() if tasks.exists() else ():
        try:
            nanoseconds = int((task / "schedstat").read_text().split()[0])
            status = (task / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            continue
        switches = sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)
        threads[int(task.name)] = Usage(nanoseconds / 1e3, switches)
    return threads


def thread_names() -> dict[int, str]:
    """What the threads of this process are called: those of Python as there, others as they call themselves."""
    tasks = Path("/proc/self/task")
    names = {int(task.name): (task / "comm").read_text().strip() for task in tasks.iterdir()} if tasks.exists() else {}
    return names | {thread.native_id: thread.name for thread in threading.enumerate() if thread.native_id is not None}


class Observer:
    """Called as the clock starts and as it stops: what the threads of this process and of the server used meanwhile."""

    def __init__(self, server_pid: int) -> None:
        self._pids = {"client": os.getpid(), "server": server_pid}
        self._seen: list[dict[str, dict[int, Usage]]] = []
        self.names: dict[int, str] = {}

    def __call__(self) -> None:
        self._seen.append({side: usage(pid) for side, pid in self._pids.items()})
        self.names = thread_names()

    def used(self) -> dict[str, dict[int, Usage]]:
        before, after = self._seen
        nothing = Usage(0.0, 0)
        return {
            side: {thread: used.since(before[side].get(thread, nothing)) for thread, used in threads.items()}
            for side, threads in after.items()
        }


class Profilers:
    """A profiler in this thread and in each that starts from now on. From CPython 3.12 on there is one for all."""

    def __init__(self) -> None:
        self._profiles: list[cProfile.Profile] = []
        self._marks: list[dict[CodeType | str, tuple[int, float]]] = []

    def start(self) -> None:
        if sys.version_info < (3, 12):
            threading.setprofile(self._in_this_thread)
        self._in_this_thread()

    def _in_this_thread(self, *_: object) -> None:
        profile = cProfile.Profile()
        self._profiles.append(profile)
        profile.enable()

    def mark(self) -> None:
        """Only what runs after the first mark counts, and before the second where there is one."""
        self._marks.append(self._so_far())

    def functions(self) -> list[Function]:
        """Those that took most between the marks, of all threads together."""
        before, after = [*self._marks, self._so_far()][:2] if self._marks else ({}, {})
        nothing = (0, 0.0)
        entries = [
            Function(_where(code), calls - before.get(code, nothing)[0], seconds - before.get(code, nothing)[1])
            for code, (calls, seconds) in after.items()
        ]
        return sorted(entries, key=lambda each: -each.seconds)[:FUNCTIONS]

    def _so_far(self) -> dict[CodeType | str, tuple[int, float]]:
        """Calls and seconds of each function."""
        total: dict[CodeType | str, tuple[int, float]] = {}
        for profile in list(self._profiles):
            for entry in profile.getstats():  # pstats would stop the profiler
                calls, seconds = total.get(entry.code, (0, 0.0))
                total[entry.code] = (calls + entry.callcount, seconds + entry.inlinetime)
        return total


def _where(code: CodeType | str) -> str:
    if isinstance(code, str):
        return code
    return f"{'/'.join(Path(code.co_filename).parts[-3:])}:{code.co_firstlineno} {code.co_name}"


# ---- what is shown


def unit_name(unit: str) -> str:
    """What is counted in a row of this unit: calls, where it has the time of one."""
    return unit.removesuffix("/s").removesuffix("s") if unit.endswith("/s") else "call"


def thread_lines(side: str, used: Mapping[int, Usage], names: Mapping[int, str], done: float) -> list[str]:
    """The threads of one side, the busiest first, with what each uses for one unit of the work."""
    total = sum(each.microseconds for each in used.values())
    switches = sum(each.switches for each in used.values())
    lines = [f"{side}: {total / done:.1f} µs of processor time, {switches / done:.2f} switches"]
    for thread, each in sorted(used.items(), key=lambda item: -item[1].microseconds):
        if each.microseconds > _LITTLE * total:
            name = names.get(thread, "?")
            lines.append(f"  {each.microseconds / done:9.1f} µs {each.switches / done:6.2f} switches  {name}")
    return lines


def function_lines(side: str, functions: Sequence[Function], done: float) -> list[str]:
    """The functions of one side. The profiler makes calls several times slower, Python code more than C code."""
    lines = [f"{side}, under the profiler: µs in the function itself, and calls"]
    return lines + [
        f"  {each.seconds * 1e6 / done:9.1f} µs {each.calls / done:6.2f}  {each.where}" for each in functions
    ]

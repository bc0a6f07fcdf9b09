"""How things are measured: the time of one call, calls in a time, memory of a process."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.contestants.client import Call, CannotDo

WARM_UP_CALLS = 200
WARM_UP_SECONDS = 0.3
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


observe: Callable[[], None] | None = None
"""Called as a clock starts, and as it stops."""
done = 0.0
"""How much was done while the last clock ran."""


@contextmanager
def running() -> Iterator[None]:
    """Around what is timed."""
    if observe is not None:
        observe()
    yield
    if observe is not None:
        observe()


def warm_up(call: Call) -> None:
    """Until everything that is made once is made; not long where one call takes its time."""
    end = time.perf_counter() + WARM_UP_SECONDS
    for _ in range(WARM_UP_CALLS):
        call()
        if time.perf_counter() > end:
            return


def latency(call: Call, seconds: float) -> float:
    """The median time of one call, in microseconds, one after another in this thread."""
    return median(_times(call, seconds)) / 1e3


def rate(work: Call, amount: float, seconds: float) -> float:
    """How much is done in a second by a work that does `amount` at a time: the median of the times it was done."""
    global done
    times = _times(work, seconds)
    done *= amount
    return amount / (median(times) / 1e9)


def _times(call: Call, seconds: float) -> list[int]:
    """How long calls take one after another, in nanoseconds; one call at least."""
    global done
    clock = time.perf_counter_ns
    started = clock()
    call()
    times = [clock() - started]
    if times[0] > seconds * 1e9 and observe is None:
        done = 1
        return times  # so slow that a first time is no different, and a second would take as long again
    times.clear()
    warm_up(call)
    with running():
        end = clock() + int(seconds * 1e9)
        while True:
            before = clock()
            call()
            after = clock()
            times.append(after - before)
            if after > end:
                break
    done = len(times)
    return times


def threads_rate(make_caller: Callable[[], Call], threads: int, seconds: float) -> float:
    """Calls a second of so many threads together, each with what `make_caller` returns to it."""
    crowd = _Crowd(make_caller, threads)
    return crowd.rate(seconds)


class _Crowd:
    def __init__(self, make_caller: Callable[[], Call], threads: int) -> None:
        self._make_caller = make_caller
        self._warm = threading.Barrier(threads + 1)
        self._stop = False
        self._counts = [0] * threads
        self._failure: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)]

    def rate(self, seconds: float) -> float:
        global done
        for thread in self._threads:
            thread.start()
        try:
            self._warm.wait()
        except threading.BrokenBarrierError:
            raise self._failure or RuntimeError("a thread ended early") from None
        with running():
            before, started = sum(self._counts), time.perf_counter()
            time.sleep(seconds)
            done, took = sum(self._counts) - before, time.perf_counter() - started
        self._stop = True
        for thread in self._threads:
            thread.join(10)
        if self._failure is not None:
            raise self._failure
        return done / took

    def _run(self, number: int) -> None:
        try:
            call = self._make_caller()
            warm_up(call)
            self._warm.wait()
            while not self._stop:
                call()
                self._counts[number] += 1
        except threading.BrokenBarrierError:
            return
        except BaseException as error:
            self._failure = error
            self._warm.abort()


def resident_kib(pid: int) -> float:
    """The memory of a process that is in RAM, in KiB. Raises CannotDo where the system does not say."""
    if not Path("/proc").exists():
        raise CannotDo("a figure of memory: it is read from /proc, on Linux")
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * _PAGE / 1024


def sockets() -> int:
    """How many sockets this process has open."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            count += str(entry.readlink()).startswith("socket:")
        except FileNotFoundError:  # the one through which the folder is read
            continue
    return count


def settled_kib(pid: int) -> float:
    """The memory of a process once it has stopped changing; at most two seconds later."""
    gc.collect()
    before = resident_kib(pid)
    for _ in range(20):
        time.sleep(0.1)
        now = resident_kib(pid)
        if abs(now - before) < 64:
            return now
        before = now
    return before

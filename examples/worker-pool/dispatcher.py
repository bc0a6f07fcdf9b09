"""Hands out work to whichever worker asks, and gives back what became of it: `python dispatcher.py`."""

from __future__ import annotations

import functools
import itertools
import queue
from concurrent.futures import Future

import broker


class Dispatcher:
    """Stands between those who have work and those who do it; neither knows the other."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._results: dict[int, Future[list[int]]] = {}
        self._numbers = itertools.count(1)
        self._workers: dict[str, int] = {}

    # ---- for those who have work

    def factorize(self, number: int) -> list[int]:
        """Waits until some worker has found the prime factors."""
        job, result = next(self._numbers), Future[list[int]]()
        self._results[job] = result
        broker.current_context.on_cancel(lambda: self._finish(job, None))  # nobody waits for it any more
        self._waiting.put((job, number))
        return result.result()

    def report(self) -> dict[str, int]:
        """How many numbers each worker has done."""
        return self._workers

    # ---- for those who do it

    def next_job(self, worker: str) -> tuple[int, int] | None:
        """The next number for a worker, with that of its job; None if there was none for a while."""
        self._workers.setdefault(worker, 0)
        while True:
            try:
                job, number = self._waiting.get(timeout=0.2)
            except queue.Empty:
                return None
            if broker.current_context.cancelled:  # this worker died while it waited: the next one gets it
                self._waiting.put((job, number))
                return None
            if job not in self._results:
                continue  # it was withdrawn
            # A worker that dies over its job does not take it along: when its session ends, the job waits again.
            broker.current_context.on_close(functools.partial(self._give_back, job, number))
            return job, number

    def done(self, worker: str, job: int, factors: list[int]) -> None:
        if self._finish(job, factors):
            self._workers[worker] += 1

    def _give_back(self, job: int, number: int) -> None:
        if job in self._results:
            print(f"job {job} waits for another worker", flush=True)
            self._waiting.put((job, number))

    def _finish(self, job: int, factors: list[int] | None) -> bool:
        result = self._results.pop(job, None)  # whoever gets it ends it
        if result is None:
            return False
        if factors is None:
            result.cancel()
        else:
            result.set_result(factors)
        return True


if __name__ == "__main__":
    broker.serve({Dispatcher(): "example.dispatcher"}, use_ns=False)

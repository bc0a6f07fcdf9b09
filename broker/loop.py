"""The event loop on which `async def` methods run where the application has none of its own."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from typing import Any


class LoopThread:
    """An event loop on a daemon thread, started with its first use. Never gRPC's own: one `time.sleep` in a method
    there would stall every connection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._run, args=(self._loop,), name="broker-loop", daemon=True).start()
            return self._loop

    def stop(self) -> None:
        """Cancels what still runs there, and ends the thread."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        finally:
            loop.close()


def run_on(
    loop: asyncio.AbstractEventLoop,
    awaitable: Any,
    variables: contextvars.Context,
    finished: Callable[[object, bool], None],
) -> Callable[[], None]:
    """Runs an awaitable as a task of the loop; returns what cancels it, from any thread.

    Calls `finished(result or exception, whether it is an exception)` once, in the thread of the loop. Raises
    RuntimeError if the loop is closed.
    """
    task: asyncio.Task[tuple[object, bool]] | None = None
    stopped = False

    async def run() -> tuple[object, bool]:
        try:
            return await awaitable, False
        except BaseException as error:  # SystemExit and KeyboardInterrupt would end the loop with all that runs there
            return error, True

    def done(task: asyncio.Task[tuple[object, bool]]) -> None:
        if task.cancelled():  # before its first step
            _close(awaitable)
            finished(asyncio.CancelledError("the call was cancelled"), True)
        else:
            finished(*task.result())

    def start() -> None:
        nonlocal task
        task = loop.create_task(run(), context=variables)
        task.add_done_callback(done)
        if stopped:
            task.cancel()

    def cancel() -> None:
        nonlocal stopped
        stopped = True
        if task is not None:
            task.cancel()

    def stop() -> None:
        try:
            loop.call_soon_threadsafe(cancel)
        except RuntimeError:
            pass  # the loop is closed, and the task over

    try:
        loop.call_soon_threadsafe(start)
    except RuntimeError:
        _close(awaitable)
        raise
    return stop


def _close(awaitable: Any) -> None:
    if inspect.iscoroutine(awaitable):
        awaitable.close()  # else Python warns that it was never awaited

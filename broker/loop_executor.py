"""`LoopExecutor`: methods that run in a loop of the program's own."""

from __future__ import annotations

import queue
import socket
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class LoopExecutor(Executor):
    """Runs what it is given on the thread that calls `run`: for the loop of a GUI, of a device, or a `select`::

        executor = broker.LoopExecutor()
        daemon.register(Panel(), executor=executor)
        while window.is_open:
            window.update()
            executor.run(timeout=0)

    `select` and the like take it as a file: it is readable while something waits. Any thread may submit; one runs.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        future: Future[R] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = function(*args, **kwargs)
                except BaseException as error:  # the future has it, and gives it to who waits
                    future.set_exception(error)
                    if isinstance(error, KeyboardInterrupt):  # Ctrl-C is for the program whose loop this is
                        raise
                else:
                    future.set_result(result)

        self._waiting.put(run)
        try:
            self._writer.send(b"\0")
        except BlockingIOError:  # so many wait that it is readable in any case
            pass
        return future

    def run(self, timeout: float | None = None) -> int:
        """Runs what waits, and returns how much it was; waits for the first for `timeout` seconds, None: for ever."""
        count = 0
        try:
            while True:
                self._waiting.get(timeout=timeout)()
                count, timeout = count + 1, 0
        except queue.Empty:
            pass
        self._drain()
        return count

    def _drain(self) -> None:
        try:
            while self._waiting.empty():
                self._reader.recv(65_536)
        except BlockingIOError:
            pass
        if not self._waiting.empty():  # it came since
            self._writer.send(b"\0")

    def fileno(self) -> int:
        return self._reader.fileno()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Closes the file; what waits is not run any more."""
        self._reader.close()
        self._writer.close()

    def __del__(self) -> None:
        self.shutdown()

"""A printer: callers need not wait while it prints."""

from __future__ import annotations

import threading

import broker


class Printer:
    """Prints on paper, which takes its time."""

    def __init__(self) -> None:
        self._may_print = threading.Event()
        self._printed: list[str] = []
        self._done = threading.Condition()

    @broker.oneway
    def submit(self, page: str) -> None:
        """Prints a page, once the printer is switched on. Nobody waits for this."""
        self._may_print.wait()
        if not page:
            raise ValueError("an empty page")
        print(f"printed {page}", flush=True)
        with self._done:
            self._printed.append(page)
            self._done.notify_all()

    def switch_on(self) -> None:
        self._may_print.set()

    def printed(self, count: int) -> list[str]:
        """Waits until so many pages are printed; returns them in the order in which they were."""
        with self._done:
            self._done.wait_for(lambda: len(self._printed) >= count)
            return list(self._printed)


if __name__ == "__main__":
    broker.serve({Printer(): "example.printer"}, use_ns=False)

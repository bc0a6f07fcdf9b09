"""Threads that wait for sockets, on Linux: `epoll` tells one of them that one is ready, once, until it is armed."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from weakref import WeakSet

from broker.connection.workers import run_safely, start_thread

READABLE: int = getattr(select, "EPOLLIN", 0) | getattr(select, "EPOLLONESHOT", 0)
WRITABLE: int = getattr(select, "EPOLLOUT", 0) | getattr(select, "EPOLLONESHOT", 0)

is_available: bool = hasattr(select, "epoll") and hasattr(os, "eventfd")
"""Whether this system has what is used here."""


class Watch:
    """Threads that wait until file descriptors are ready. Each time one of them is told, once, until it is armed."""

    def __init__(self, name: str, threads: int, more: Callable[[], int] = lambda: 0) -> None:
        """`more` says how many threads there may be at the moment beyond those that there always are."""
        self._name = name
        self._usual = threads
        self._more = more
        self._lock = threading.Lock()
        self._threads = 0
        self._closed = False
        self._ready: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)  # never read: every thread sees it
        _watches.add(self)

    def add(self, descriptor: int, events: int, on_ready: Callable[[], None]) -> None:
        """Calls the function when the descriptor is ready; again only after `arm`."""
        known = descriptor in self._ready
        self._ready[descriptor] = on_ready
        if known:
            self.arm(descriptor, events)
        else:
            self._epoll.register(descriptor, events)
        while self._threads < self._usual and not self._closed:
            self.begin()

    def arm(self, descriptor: int, events: int) -> None:
        self._epoll.modify(descriptor, events)

    def remove(self, descriptor: int) -> None:
        """Before the descriptor is closed."""
        with self._lock:
            if self._ready.pop(descriptor, None) is not None and not self._closed:
                self._epoll.unregister(descriptor)

    def begin(self) -> None:
        """Starts one thread more. Raises Overloaded."""
        with self._lock:
            if self._closed:
                return
            self._threads += 1
        start_thread(self._wait, self._name)

    def close(self) -> None:
        """Lets the threads end."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._threads:
                os.eventfd_write(self._wake, 1)
            else:
                self.forget()

    def forget(self) -> None:
        """Lets go of its descriptors; in a child process, or when no thread is left."""
        self._closed = True
        self._ready.clear()
        self._epoll.close()
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    def _wait(self) -> None:
        while not self._is_surplus():
            for descriptor, _ in self._epoll.poll(None, 1):  # one, so that another thread takes the next
                ready = self._ready.get(descriptor)
                if ready is not None:
                    run_safely(ready)
        with self._lock:
            self._threads -= 1
            if self._closed and not self._threads:
                self.forget()

    def _is_surplus(self) -> bool:
        return self._closed or (self._threads > self._usual and self._threads > self._usual + self._more())


_watches: WeakSet[Watch] = WeakSet()


def _after_fork() -> None:
    for watch in list(_watches):
        watch.forget()
    _watches.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

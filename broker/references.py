"""Which objects of this process are served by a daemon, and under which URI.

Objects are told apart by identity, never by equality: a dataclass need not be hashable. One table for the process,
because an object may be passed as an argument of any call, not only of one to its own daemon.
"""

from __future__ import annotations

import os
import threading

from broker.uri import URI


class ServedObjects:
    """The objects (and classes) that daemons of this process serve. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uris: dict[int, list[tuple[object, URI]]] = {}  # the object is held, so that its id stays its own

    def add(self, served: object, uri: URI) -> None:
        with self._lock:
            self._uris.setdefault(id(served), []).append((served, uri))

    def remove(self, served: object, uri: URI) -> None:
        with self._lock:
            left = [entry for entry in self._uris.get(id(served), ()) if entry[1] != uri]
            if left:
                self._uris[id(served)] = left
            else:
                self._uris.pop(id(served), None)

    def uri_of(self, value: object) -> URI | None:
        """Where the object is served; the place where it was registered first, if there are several."""
        entries = self._uris.get(id(value))
        return entries[0][1] if entries else None

    def forget_after_fork(self) -> None:
        """In a child process: the parent goes on serving. The thread that holds the lock may not be here."""
        self._lock = threading.Lock()


served = ServedObjects()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=served.forget_after_fork)

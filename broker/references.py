"""Which objects of this process are served by a daemon, and under which URI.

Objects are told apart by identity, never by equality: a dataclass need not be hashable. One table for the process,
because an object may be passed as an argument of any call, not only of one to its own daemon.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

from broker.uri import URI


class ServedObjects:
    """The objects (and classes) that daemons of this process serve. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By identity. An object is held, so that its id stays its own; one that is not, for it is registered weakly,
        # is told from its successor at the same place in memory.
        self._uris: dict[int, list[tuple[Callable[[], object], URI]]] = {}

    def add(self, served: object, uri: URI, *, weak: bool = False) -> None:
        holder = weakref.ref(served) if weak else lambda: served
        with self._lock:
            self._uris.setdefault(id(served), []).append((holder, uri))

    def remove(self, served_id: int, uri: URI) -> None:
        """Forgets a URI of the object with that `id()`."""
        with self._lock:
            left = [entry for entry in self._uris.get(served_id, ()) if entry[1] != uri]
            if left:
                self._uris[served_id] = left
            else:
                self._uris.pop(served_id, None)

    def uri_of(self, value: object) -> URI | None:
        """Where the object is served; the place where it was registered first, if there are several."""
        entries = self._uris.get(id(value))
        if not entries:
            return None
        return next((uri for holder, uri in entries if holder() is value), None)

    def forget_after_fork(self) -> None:
        """In a child process: the parent goes on serving. The thread that holds the lock may not be here."""
        self._lock = threading.Lock()


served = ServedObjects()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=served.forget_after_fork)

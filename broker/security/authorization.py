"""Who may: the function that a daemon, or a name server, asks about each call."""

from __future__ import annotations

import logging
from collections.abc import Callable

from broker.context import Client

__all__ = ["Authorize", "is_allowed"]

Authorize = Callable[[Client, str, str], bool]
"""`(client, object, member) -> allowed`: the object by its id, or by its name where nobody has chosen the id; the
member "" where a description is asked for. What has an attribute `decides_at_once` never waits."""
_log = logging.getLogger("broker")


def is_allowed(authorize: Authorize, client: Client, object_name: str, member: str) -> bool:
    """What the function says. Whatever it raises, it has not allowed the call."""
    try:
        return bool(authorize(client, object_name, member))
    except BaseException:
        _log.exception("authorize failed; the call of %r is refused", member)
        return False

"""One line for each refusal, on the logger `broker.audit`: who was refused what, and why. No values, no secrets."""

from __future__ import annotations

import logging

from broker.context import Client

__all__ = ["is_suspicious", "log_refusal", "wants_refusal"]

_SUSPICIOUS = frozenset({"ACCESS_DENIED", "UNAUTHENTICATED", "CODEC_NOT_ACCEPTED"})
_LONGEST = 200  # characters of what a caller wrote
_log = logging.getLogger("broker.audit")


def wants_refusal(reason: str) -> bool:
    """Whether anybody wants to read of such a refusal."""
    return _log.isEnabledFor(_level(reason))


def is_suspicious(reason: str) -> bool:
    """Whether it is what an attacker would do, and so a warning; the rest is the daily business of a server."""
    return reason in _SUSPICIOUS


def _level(reason: str) -> int:
    return logging.WARNING if is_suspicious(reason) else logging.INFO


def log_refusal(client: Client, object_name: str, member: str, reason: str) -> None:
    """Logs a refusal. May wait for handlers.

    What callers wrote is quoted, so that it cannot pass for a line of its own. The record
    has the parts as attributes as well: `identity`, `address`, `object`, `member`, `reason`.
    """
    parts = {
        "identity": client.identity,
        "address": client.address,
        "object": object_name[:_LONGEST],
        "member": member[:_LONGEST],
        "reason": reason,
    }
    what = f"{parts['object']!r}, member {parts['member']!r}" if object_name else "the connection"
    _log.log(_level(reason), "refused %s: %s, to %s", reason, what, client, extra=parts)

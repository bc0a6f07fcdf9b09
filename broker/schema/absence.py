"""Fields that do not arrive: what their values are then, and what the comment of a field says about it."""

from __future__ import annotations

import collections
import enum
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from broker.codecs.interface import Fault
from broker.hints import safe_repr
from broker.schema.kinds import Kind, Null
from broker.schema.messages import ABSENT, Field, Mapping, MessageType, Plural, Repeated, field_of
from broker.schema.records import UNTOLD

__all__ = [
    "ABSENT_FOR_NONE",
    "KEYS", "DEFAULT", "EMPTY", "REQUIRED", "STREAMED", "is_empty", "missing", "notes_of", "part_of",
    "parts_of", "shown_default", "when_absent",
]  # fmt: skip

EMPTY = (list, dict, set, frozenset, tuple, collections.deque)
_LONGEST_DEFAULT = 200


def is_empty(default: Any) -> bool:
    return isinstance(default, EMPTY) and not default


def part_of(message: MessageType, name: str, kind: Kind | Plural, comment: str = "") -> Field:
    """Adds a field that is part of a value, and must be there."""
    absent = when_absent(kind, nullable=False)
    comment = comment or (REQUIRED if absent is missing else "")
    field = field_of(message, name, kind, None, "\n".join([*filter(None, [comment]), *notes_of(kind)]))
    field.absent = absent
    return field


def when_absent(kind: Kind | Plural, nullable: bool) -> Callable[[], Any]:
    if nullable or kind is Null:
        return lambda: None
    return partial(nothing_of, kind) if isinstance(kind, Plural) else missing


def nothing_of(kind: Plural) -> Any:
    return {} if isinstance(kind, Mapping) else kind.build(())


def missing() -> Any:
    raise Fault("a value is required, and none came")


def shown_default(default: Any) -> list[str]:
    """What a comment says of a default: nothing of None, which is what an absent field stands for anyway."""
    if default is None or default is ABSENT or default is UNTOLD:
        return []
    text = default.name if isinstance(default, enum.Enum) else safe_repr(default)[:_LONGEST_DEFAULT]
    return [f"{DEFAULT}{text}"]


REQUIRED = "Required."
"""Stands in the comment of a field that must be there."""
KEYS = "Keys: "
"""Begins the line that says what the keys of a map are."""
DEFAULT = "Default: "
"""Begins the line that says what a field is that does not come."""
ABSENT_FOR_NONE = "Absent for None."
"""Stands in the comment of a field that may be None."""
STREAMED = "Streamed: at most one in each message; whatever else there is comes in the first."
"""Stands in the comment of a parameter that is an iterator."""


def notes_of(kind: Kind | Plural) -> Iterator[str]:
    """What the type of a field does not say."""
    if isinstance(kind, Repeated) and kind.cls not in (list, dict):
        yield f"A {kind.cls.__name__}"
    if isinstance(kind, Mapping) and kind.key.note:
        yield f"{KEYS}{kind.key.note}"
    held = kind.value if isinstance(kind, Mapping) else kind.item if isinstance(kind, Repeated) else kind
    if held.note:
        yield held.note


def parts_of(kind: Kind | Plural) -> tuple[Kind, ...]:
    if isinstance(kind, Mapping):
        return (kind.key, kind.value)
    return (kind.item,) if isinstance(kind, Repeated) else (kind,)

"""Values that were made to have one hash: a set or dict of n of them takes n² steps, with the whole process held up.

Texts and bytes cannot be made so, for Python hashes them with a secret; numbers, and what is made of them, can.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

__all__ = ["check_hashes"]

_FEW = 1_000
"""Of these nobody waits long, whatever their hashes are."""
_ALIKE = 100
"""So many different values with one hash are not found, but made."""


def check_hashes(values: Sequence[Hashable]) -> None:
    """Before a set or a dict is made of values that arrived.

    Raises ValueError for those that would take quadratic time, and TypeError for what cannot be hashed.
    """
    if len(values) <= _FEW:
        return
    frequent = {found for found, times in Counter(map(hash, values)).items() if times > _ALIKE}
    if not frequent:
        return
    first: dict[int, Hashable] = {}
    others: Counter[int] = Counter()
    for value in values:
        found = hash(value)
        if found in frequent and first.setdefault(found, value) != value:
            others[found] += 1
            if others[found] > _ALIKE:
                raise ValueError(f"more than {_ALIKE} of {len(values)} values have the same hash: send them as a list")

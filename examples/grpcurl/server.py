"""A notebook, for callers that are not Python: see calls.sh."""

from __future__ import annotations

import datetime

import broker


class Notebook:
    """Keeps notes by name."""

    def __init__(self) -> None:
        self._notes: dict[str, str] = {}

    def write(self, name: str, text: str, *, append: bool = False) -> int:
        """Writes a note; returns how long it is now."""
        self._notes[name] = (self._notes.get(name, "") if append else "") + text
        return len(self._notes[name])

    def read(self, name: str) -> str:
        """The text of a note. Raises KeyError for an unknown one."""
        return self._notes[name]

    def bounds(self) -> tuple[datetime.date, datetime.date]:
        """The first and the last day of this notebook: values that JSON does not know."""
        return datetime.date(2024, 1, 1), datetime.date(2024, 12, 31)

    @property
    def names(self) -> list[str]:
        """The names of all notes."""
        return sorted(self._notes)


if __name__ == "__main__":
    broker.serve({Notebook(): "example.notebook"}, use_ns=False)

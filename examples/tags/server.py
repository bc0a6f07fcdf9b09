"""A printing office: `python server.py NAME TAG…` enters one printer in the name server, with its tags."""

from __future__ import annotations

import sys

import broker


class Printer:
    """Prints, and says where."""

    def __init__(self, name: str) -> None:
        self._name = name

    def submit(self, page: str) -> str:
        return f"{page} is in the tray of {self._name}"


if __name__ == "__main__":
    name, *tags = sys.argv[1:]
    broker.serve({Printer(name): f"example.printer.{name}"}, tags=tags)

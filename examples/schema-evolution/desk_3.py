"""The desk as it must not become: python desk_3.py [PORT]. `python -m broker.schema --check` says why."""

import sys
from dataclasses import dataclass
from enum import Enum

import broker


class State(Enum):
    """How far an order is."""

    OPEN = "open"  # before the others, whose numbers move
    PLACED = "placed"
    SENT = "sent"


@dataclass
class Order:
    """What somebody wants."""

    number: str  # it was an int
    item: str
    state: State = State.OPEN


class Desk:
    """Takes orders."""

    # `customer` takes the number of `item`, and nobody sends it.
    def place(self, customer: str, item: str, count: int = 1) -> list[Order]:
        """Places as many orders."""
        return [Order(f"{customer}-{number}", item) for number in range(1, count + 1)]


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    broker.serve({Desk(): "example.desk"}, port=port, use_ns=False)

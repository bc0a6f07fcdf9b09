"""An order desk, as it was when its first customers came: python desk_1.py [PORT]."""

import sys
from dataclasses import dataclass
from enum import Enum

import broker


class State(Enum):
    """How far an order is."""

    PLACED = "placed"
    SENT = "sent"


@dataclass
class Order:
    """What somebody wants."""

    number: int
    item: str
    state: State = State.PLACED


class Desk:
    """Takes orders."""

    def __init__(self) -> None:
        self._orders: dict[int, Order] = {}

    def place(self, item: str, count: int = 1) -> list[Order]:
        """Places as many orders."""
        first = len(self._orders) + 1
        placed = [Order(number, item) for number in range(first, first + count)]
        self._orders |= {order.number: order for order in placed}
        return placed

    def find(self, number: int) -> Order | None:
        """The order of that number, if there is one."""
        return self._orders.get(number)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    broker.serve({Desk(): "example.desk"}, port=port, use_ns=False)

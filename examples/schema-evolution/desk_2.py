"""The desk a year later. Nothing that an old customer does has changed: python desk_2.py [PORT]."""

import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated

import broker
from broker import FieldNumber


class State(Enum):
    """How far an order is."""

    PLACED = "placed"
    SENT = "sent"
    RETURNED = "returned"  # the last one: the numbers of the others stay


@dataclass
class Order:
    """What somebody wants."""

    number: int
    item: str
    state: State = State.PLACED
    note: str = ""
    placed: datetime | None = None


class Desk:
    """Takes orders."""

    def __init__(self) -> None:
        self._orders: dict[int, Order] = {}

    # `customer` comes first for whoever reads this. Old customers send the item as 1 and the count as 2, and no name.
    def place(
        self,
        customer: Annotated[str, FieldNumber(3)] = "somebody",
        item: Annotated[str, FieldNumber(1)] = "lamp",
        count: Annotated[int, FieldNumber(2)] = 1,
    ) -> list[Order]:
        """Places as many orders."""
        first = len(self._orders) + 1
        now = datetime.now(UTC)
        placed = [Order(number, item, note=f"for {customer}", placed=now) for number in range(first, first + count)]
        self._orders |= {order.number: order for order in placed}
        return placed

    def find(self, number: int) -> Order | None:
        """The order of that number, if there is one."""
        return self._orders.get(number)

    def send_back(self, number: int) -> None:
        """Takes an order back."""
        self._orders[number].state = State.RETURNED


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    broker.serve({Desk(): "example.desk"}, port=port, use_ns=False)

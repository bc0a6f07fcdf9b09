"""An order desk for callers in any language: an ordinary class with hints, and no .proto anywhere."""

from __future__ import annotations

import datetime
import enum
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import broker


class Status(enum.Enum):
    PLACED = "placed"
    PACKED = "packed"
    SHIPPED = "shipped"


@dataclass
class Item:
    name: str
    count: int = 1


@dataclass
class Order:
    number: int
    customer: str
    items: list[Item]
    status: Status = Status.PLACED
    placed: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))


class OutOfStock(Exception):
    """There are not enough of what was ordered."""

    grpc_code = "FAILED_PRECONDITION"


class OrderDesk:
    """Takes orders, and tells how they fare."""

    def __init__(self) -> None:
        self._stock = {"chair": 4, "couch": 1}
        self._orders: dict[int, Order] = {}
        self._lock = threading.Lock()

    def place(self, customer: str, items: list[Item]) -> Order:
        """Places an order. Raises OutOfStock."""
        with self._lock:
            for item in items:
                if item.count > self._stock.get(item.name, 0):
                    raise OutOfStock(f"{item.count} × {item.name} ordered, {self._stock.get(item.name, 0)} here")
            for item in items:
                self._stock[item.name] -= item.count
            number = len(self._orders) + 1
            order = self._orders[number] = Order(number, customer, items)
        return order

    def find(self, number: int) -> Order:
        """The order of that number. Raises KeyError."""
        return self._orders[number]

    def follow(self, number: int) -> Iterator[Status]:
        """Each status of an order until it is shipped."""
        order = self.find(number)
        for status in Status:
            order.status = status
            yield status

    def restock(self, deliveries: Iterator[Item]) -> dict[str, int]:
        """Takes in a stream of deliveries; returns the stock afterwards."""
        for item in deliveries:
            with self._lock:
                self._stock[item.name] = self._stock.get(item.name, 0) + item.count
        return self._stock

    def count(self, seconds: float) -> int:
        """Counts the stock, which takes so long; gives up with its caller."""
        broker.current_context.wait_cancelled(seconds)
        return sum(self._stock.values())

    @property
    def open_orders(self) -> int:
        """How many orders are not shipped."""
        return sum(order.status is not Status.SHIPPED for order in self._orders.values())


if __name__ == "__main__":
    broker.serve({OrderDesk(): "example.orders"}, use_ns=False, port=int(sys.argv[1]) if sys.argv[1:] else 0)

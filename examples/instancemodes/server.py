"""One class for each way in which a daemon makes the instances of a class."""

from __future__ import annotations

import threading

import broker

_made: dict[str, int] = {}
_lock = threading.Lock()


def _number(kind: str) -> int:
    """Numbers the instances of each kind, from 1."""
    with _lock:
        _made[kind] = _made.get(kind, 0) + 1
        return _made[kind]


class Basket:
    """What the three classes have in common."""

    kind = "basket"

    def __init__(self) -> None:
        self._number = _number(self.kind)
        self._items: list[str] = []

    def put(self, item: str) -> str:
        """Puts something in; says what is in which basket now."""
        self._items.append(item)
        return f"{self.kind} {self._number} holds {', '.join(self._items)}"


@broker.behavior(instance_mode="session")
class SessionBasket(Basket):
    """Every client has one of its own."""

    kind = "session basket"


@broker.behavior(instance_mode="single")
class SingleBasket(Basket):
    """All clients share one."""

    kind = "single basket"


@broker.behavior(instance_mode="percall")
class PercallBasket(Basket):
    """Every call gets a new one."""

    kind = "percall basket"


def _labelled(cls: type[LabelledBasket]) -> LabelledBasket:
    return cls("a basket from the creator")


@broker.behavior(instance_mode="session", instance_creator=_labelled)
class LabelledBasket(Basket):
    """Is made by a function, because its constructor wants an argument."""

    def __init__(self, label: str) -> None:
        self.kind = label
        super().__init__()


if __name__ == "__main__":
    daemon = broker.Daemon()
    classes = {cls.__name__: cls for cls in (SessionBasket, SingleBasket, PercallBasket, LabelledBasket)}
    broker.serve(classes, daemon=daemon, use_ns=False)

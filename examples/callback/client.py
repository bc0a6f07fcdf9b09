"""A guest of the kitchen, with functions and an object that the kitchen calls: `python client.py URI`."""

from __future__ import annotations

import sys
import threading

import broker

kitchen = broker.Proxy(sys.argv[1])


def show(cake: str, percent: int) -> None:
    where = "the main thread" if threading.current_thread() is threading.main_thread() else "another thread"
    print(f"{cake}: {percent} % (told on {where})")


# While this thread waits for bake(), it runs what bake() calls back: a lock that it holds is no obstacle.
print("baked:", kitchen.bake("cheesecake", broker.export(show)))

rung = threading.Event()
kitchen.remind(0.1, broker.export(rung.set))
print("the alarm rang:", rung.wait(10))


class Guest:
    """Exported as an object: its public methods and properties can be called, and nothing else of it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._note = ""

    @property
    def name(self) -> str:
        return self._name

    @property
    def note(self) -> str:
        return self._note

    @note.setter
    def note(self, text: str) -> None:
        self._note = text

    def choose(self, dishes: list[str]) -> str:
        print("the choice is", " or ".join(dishes))
        return dishes[-1]


print(kitchen.serve(broker.export(Guest("Janet"))))


def complain(cake: str, percent: int) -> None:
    raise ValueError(f"I ordered no {cake}")


try:
    kitchen.bake("fruitcake", broker.export(complain))
except ValueError as error:
    print("it came back through the kitchen:", error)

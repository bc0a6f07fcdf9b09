"""Phase 2: visitors in a process of their own: `python visit.py URI`, with the URI that the warehouse printed."""

from __future__ import annotations

import sys

import broker


class Person:
    """Somebody who brings one thing to the warehouse and leaves with another."""

    def __init__(self, name: str) -> None:
        self.name = name

    def visit(self, warehouse: broker.Proxy, brings: str, wants: str) -> None:
        print(f"This is {self.name}.")
        print(f"    The warehouse has: {', '.join(warehouse.list_contents())}.")
        warehouse.store(self.name, brings)
        try:
            warehouse.take(self.name, wants)
        except ValueError:
            print(f"    There is no {wants} for {self.name}.")
        else:
            print(f"    {self.name} brought a {brings} and leaves with the {wants}.")


if __name__ == "__main__":
    uri = sys.argv[1] if len(sys.argv) > 1 else input("The URI of the warehouse: ").strip()
    warehouse = broker.Proxy(uri)
    Person("Janet").visit(warehouse, brings="lamp", wants="couch")
    Person("Henry").visit(warehouse, brings="teapot", wants="couch")
    print(f"In the end the warehouse has: {', '.join(warehouse.list_contents())}.")

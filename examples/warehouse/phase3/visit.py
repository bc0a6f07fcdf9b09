"""Phase 3: visitors find the warehouse by its name, wherever it runs."""

from __future__ import annotations

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
    warehouse = broker.Proxy("BROKERNAME:example.warehouse")
    Person("Janet").visit(warehouse, brings="lamp", wants="couch")
    Person("Henry").visit(warehouse, brings="teapot", wants="couch")
    print(f"In the end the warehouse has: {', '.join(warehouse.list_contents())}.")

"""Phase 1: a warehouse and two people who visit it, in one process. Plain Python; nothing is remote yet."""

from __future__ import annotations


class Warehouse:
    """Keeps things until somebody takes them."""

    def __init__(self) -> None:
        self.contents = ["chair", "bicycle", "couch", "ladder", "radio"]

    def list_contents(self) -> list[str]:
        """What is there now."""
        return list(self.contents)

    def take(self, name: str, item: str) -> None:
        """Hands an item over. Raises ValueError if it is not there."""
        self.contents.remove(item)
        print(f"{name} took the {item}.", flush=True)

    def store(self, name: str, item: str) -> None:
        """Puts an item on the shelf."""
        self.contents.append(item)
        print(f"{name} stored the {item}.", flush=True)


class Person:
    """Somebody who brings one thing to the warehouse and leaves with another."""

    def __init__(self, name: str) -> None:
        self.name = name

    def visit(self, warehouse: Warehouse, brings: str, wants: str) -> None:
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
    warehouse = Warehouse()
    Person("Janet").visit(warehouse, brings="lamp", wants="couch")
    Person("Henry").visit(warehouse, brings="teapot", wants="couch")
    print(f"In the end the warehouse has: {', '.join(warehouse.list_contents())}.")

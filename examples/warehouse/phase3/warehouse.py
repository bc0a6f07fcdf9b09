"""Phase 3: the warehouse enters itself in the name server, as `example.warehouse`."""

from __future__ import annotations

import broker


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


if __name__ == "__main__":
    broker.serve({Warehouse(): "example.warehouse"})

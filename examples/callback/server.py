"""A kitchen that calls its guests back: while it works for them, later, and to ask them something."""

from __future__ import annotations

import threading
from typing import Any

import broker


class Kitchen:
    """Bakes to order. What it is given to call may be anywhere: here it is a function, or an object, as any other."""

    def bake(self, cake: str, progress: Any) -> str:
        """Tells how far it is, while the caller waits."""
        for percent in (0, 50, 100):
            progress(cake, percent)
        return cake

    def remind(self, seconds: float, alarm: Any) -> None:
        """Returns at once, and calls the alarm when the time has come, from a thread of its own."""
        threading.Timer(seconds, alarm).start()

    def serve(self, guest: Any) -> str:
        """Asks the guest, and then talks about what was said."""
        dish = guest.choose(["soup", "pie"])
        guest.note = f"one {dish}, no salt"
        return f"{guest.name} gets {guest.note}"


if __name__ == "__main__":
    broker.serve({Kitchen(): "example.kitchen"}, use_ns=False)

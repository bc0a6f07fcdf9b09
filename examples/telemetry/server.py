"""A bakery that asks its mill for flour: two objects at one daemon, each call a span."""

from __future__ import annotations

from printing import print_spans
from tracing import trace_client, trace_server

import broker


class Mill:
    def grind(self, kilograms: int) -> str:
        if kilograms > 100:
            raise ValueError(f"{kilograms} kg are too much for this mill")
        return f"{kilograms} kg of flour"


class Bakery:
    def __init__(self, mill: broker.Proxy) -> None:
        self._mill = mill

    def bake(self, loaves: int) -> str:
        flour = self._mill.grind(loaves // 2)
        return f"{loaves} loaves of {flour}"


if __name__ == "__main__":
    print_spans()
    daemon = broker.Daemon(around=[trace_server])
    mill = broker.Proxy(daemon.register(Mill(), "example.mill"), around=[trace_client])
    broker.serve({Bakery(mill): "example.bakery"}, daemon=daemon, use_ns=False)

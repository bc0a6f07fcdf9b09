"""What a typed call costs beside a generic one with the same values, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from broker._pb.broker_pb2 import InvokeRequest, InvokeResponse
from tests.services.stranger import Stranger

ROUNDS, CALLS = 40, 12


class Desk:
    def take(self, name: str, item: str) -> str:
        return f"{name} took the {item}"

    def stock(self, counts: dict[str, int], tags: list[str]) -> dict[str, int]:
        return counts


def _microseconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - started) / CALLS * 1e6


def test_a_typed_call_costs_little_more_than_a_generic_one(serve: Callable[..., Stranger]) -> None:
    stranger = serve({"desk": Desk()})
    invoke: Any = stranger.channel.unary_unary(
        "/broker.v1.ObjectBroker/Invoke", InvokeRequest.SerializeToString, InvokeResponse.FromString
    )
    for name, fields in (
        ("take", {"name": "Janet", "item": "couch"}),
        ("stock", {"counts": {f"thing {number}": number for number in range(20)}, "tags": ["new", "old"]}),
    ):
        method = stranger.method(f"desk/{name}")
        typed, generic = method.message(fields), InvokeRequest(object="desk", method=name)
        generic.kwargs.update(fields)  # type: ignore[arg-type]  # nested lists and dicts, as JSON has them
        # In turns, so that whatever else the machine does hits both; the best of each, for the same reason.
        costs = [
            (_microseconds(lambda: method.start(typed)), _microseconds(lambda: invoke(generic)))  # noqa: B023
            for _ in range(ROUNDS)
        ]
        best_typed, best_generic = map(min, zip(*costs, strict=True))
        assert best_typed < 1.3 * best_generic, f"{name}: {best_typed:.0f} µs against {best_generic:.0f} µs"

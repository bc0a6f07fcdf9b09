"""Traces of calls for OpenTelemetry: two functions for `around=`, one for each side."""

from __future__ import annotations

from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind

import broker
from broker.around import Next

tracer = trace.get_tracer("example.broker")


def trace_client(call: broker.Call, next: Next) -> Any:
    """A span for each call of a proxy, and its context in the metadata, for the span of the other side."""
    with tracer.start_as_current_span(str(call), kind=SpanKind.CLIENT, attributes=attributes_of(call)):
        propagate.inject(call.metadata)
        return next(call)  # what this raises is recorded in the span, and raised


def trace_server(call: broker.Call, next: Next) -> Any:
    """A span for each call that a daemon carries out, below that of its caller."""
    above = propagate.extract({key: value for key, value in call.metadata.items() if isinstance(value, str)})
    with tracer.start_as_current_span(str(call), above, SpanKind.SERVER, attributes_of(call)):
        return next(call)


def attributes_of(call: broker.Call) -> dict[str, str]:
    return {
        "rpc.system": "broker",
        "rpc.service": call.object,
        "rpc.method": call.member,
        "server.address": call.location,
        "broker.correlation_id": str(call.correlation_id),
    }

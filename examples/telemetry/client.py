"""Orders bread, and prints the spans of this side: `python client.py URI`."""

from __future__ import annotations

import sys

from opentelemetry import trace
from printing import print_spans
from tracing import trace_client

import broker

print_spans()
bakery = broker.Proxy(sys.argv[1], around=[trace_client])

with trace.get_tracer("example.client").start_as_current_span("breakfast"):
    print(bakery.bake(20))
    try:
        bakery.bake(2000)
    except ValueError as error:
        print("no bread:", error)

"""Prints the spans of a program as they end, where a real program exports them to a collector."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult


class Printer(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            above = f"below {span.parent.span_id:016x}" if span.parent is not None else "at the top"
            context = span.get_span_context()
            assert context is not None
            failed = "" if span.status.is_ok or span.status.is_unset else f" failed: {span.status.description}"
            name = f"{span.kind.name} {span.name} is {context.span_id:016x}"
            print(f"trace {context.trace_id:032x}: {name} {above}{failed}", flush=True)
        return SpanExportResult.SUCCESS


def print_spans() -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(Printer()))
    trace.set_tracer_provider(provider)

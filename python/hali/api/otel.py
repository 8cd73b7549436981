"""Requests as spans for an OpenTelemetry collector. Imported only where one is configured: off costs nothing.

A span is made when its request is over, from what was measured anyway (`timing.py`), and waits in a bounded queue for a
thread of its own. A collector that is slow or gone costs spans, never a request.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hali._version import __version__
from hali.api.origins import RawHeaders
from hali.api.timing import Exchange, Generation
from hali.runtime.log import get_logger

log = get_logger(__name__)

WAITING = 2048  # spans; five a request, so 400 requests: 2 MB at most while the collector is away
BATCH = 256  # spans a message, 100 KB
EVERY_MS = 2000  # between two messages; a trace is looked at later anyway
PATIENCE_S = 5.0  # for the collector to take a message
LAST_S = 2.0  # for what waits when the daemon ends
NS = 1_000_000_000
_CONTEXT = (b"traceparent", b"tracestate")  # W3C Trace Context


class Spans:
    """Tells the collector at `endpoint` (a base URL, as OTEL_EXPORTER_OTLP_ENDPOINT) of each request."""

    def __init__(self, endpoint: str, node: str) -> None:
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it logs each lost batch; `_Told` says it once
        resource = Resource.create(
            {"service.name": "hali", "service.version": __version__, "service.instance.id": node}
        )
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=PATIENCE_S)
        batches = BatchSpanProcessor(
            _Told(exporter, endpoint),
            max_queue_size=WAITING,
            schedule_delay_millis=EVERY_MS,
            max_export_batch_size=BATCH,
        )
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(batches)
        self._tracer = self._provider.get_tracer("hali", __version__)
        self._context = TraceContextTextMapPropagator()

    def answered(self, exchange: Exchange, status: int | None, seconds: float, headers: RawHeaders) -> None:
        """A request ended `seconds` after it began; `status` None where the client left. The trace is the client's if it sent one."""
        carrier = {name.decode(): value.decode("latin-1") for name, value in headers if name in _CONTEXT}
        parent = self._context.extract(carrier, Context())
        zero = time.time_ns() - round(time.monotonic() * NS)  # of the monotonic clock, as Unix time
        route = exchange.route or "none"
        span = self._tracer.start_span(
            f"{exchange.method} {route}",
            parent,
            SpanKind.SERVER,
            attributes={"http.request.method": exchange.method, "http.route": route},
            start_time=zero + round(exchange.began * NS),
        )
        if not span.is_recording():  # the client's trace is not sampled
            return
        if status is None:
            span.set_attribute("hali.client_left", True)
        else:
            span.set_attribute("http.response.status_code", status)
        if status is None or status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        context = set_span_in_context(span, Context())
        for number, generation in enumerate(exchange.generations):
            self._stages(context, zero, number, generation)
        span.end(zero + round((exchange.began + seconds) * NS))

    def _stages(self, context: Context, zero: int, number: int, generation: Generation) -> None:
        """The stages one after the other; the engine's own queue counts to `queue`, although a model loads before it."""
        at, used = zero + round(generation.began * NS), generation.used
        for name, seconds in generation.stages().items():
            span = self._tracer.start_span(name, context, attributes={"hali.generation": number}, start_time=at)
            if name == "decode" and used is not None:
                span.set_attribute("gen_ai.usage.output_tokens", used.completion_tokens)
            if name == "prefill" and used is not None:
                span.set_attribute("gen_ai.usage.input_tokens", used.prompt_tokens)
                span.set_attribute("hali.cached_tokens", used.cached_tokens)
            at += round(seconds * NS)
            span.end(at)

    def close(self) -> None:
        """Send what waits, for at most `LAST_S`; what the collector does not take by then is lost. Blocks."""
        ending = threading.Thread(target=self._provider.shutdown, name="tracing.end", daemon=True)
        ending.start()
        ending.join(LAST_S)


class _Told(SpanExporter):
    """An exporter that says once that its collector is lost, and once that it is back."""

    def __init__(self, inner: SpanExporter, endpoint: str) -> None:
        self._inner, self._endpoint = inner, endpoint
        self._lost = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """As the inner one."""
        result = self._inner.export(spans)
        lost = result is not SpanExportResult.SUCCESS
        if lost and not self._lost:
            log.warning("tracing.collector_lost", endpoint=self._endpoint, spans=len(spans))
        elif self._lost and not lost:
            log.info("tracing.collector_found", endpoint=self._endpoint)
        self._lost = lost
        return result

    def shutdown(self) -> None:
        """As the inner one."""
        self._inner.shutdown()

"""A collector of OpenTelemetry spans: OTLP over HTTP, read by the protocol's own messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Span(NamedTuple):
    """What was told of one; times in seconds since 1970, ids in hex."""

    name: str
    trace: str
    id: str
    parent: str
    began: float
    ended: float
    attributes: dict[str, Any]
    failed: bool
    resource: dict[str, Any]


class Collector:
    """`status` is what it answers; `held` while it answers nobody."""

    def __init__(self, url: str) -> None:
        self.url, self.status = url, 200
        self.spans: list[Span] = []
        self.messages = 0
        self.held = threading.Event()
        self.held.set()

    def take(self, path: str, body: bytes) -> None:
        """One message."""
        assert path == "/v1/traces"
        self.messages += 1
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _attributes(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [_span(span, resource) for span in scope.spans]


def _attributes(found: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in found}


def _span(span: Any, resource: dict[str, Any]) -> Span:
    times = span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9
    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    return Span(span.name, *ids, *times, _attributes(span.attributes), span.status.code == 2, resource)


@contextmanager
def collector() -> Iterator[Collector]:
    """One that listens on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.held.wait()
            if made.status == 200:
                made.take(self.path, body)
            self.send_response(made.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield made
        finally:
            made.held.set()
            server.shutdown()
            thread.join()

"""Counters and histograms of the API, and GET /metrics. No label ever holds what a client sent, only words and templates of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Literal

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from hali._version import __version__
from hali.api import dialects
from hali.api.routes import Endpoint
from hali.api.timing import Exchange, Generation

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series of its own for each counter's beginning, which nobody asks for

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OPENMETRICS = "application/openmetrics-text"
CLIENT_LEFT = "499"  # nginx's number for a client that closed before the answer was whole; no server sends it
# Seconds. From a cached prompt on a small model to a long prompt on a slow CPU.
WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
PACES = (0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1, 2.5)  # one token: 500 a second to 0.4 a second


Label = str | tuple[str, ...] | None


class Measure(msgspec.Struct, frozen=True):
    """A number that is read when it is asked for; `value` by values of `label` (one, several), or one with the label None."""

    name: str
    about: str
    value: Mapping[Label, float]
    label: Label = None
    kind: Literal["gauge", "counter"] = "gauge"


class Metrics:
    """All that is counted since the daemon began. Not per process: a test may have several."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # CPU, memory and open files, under the names all boards know
        version = Gauge("hali_build_info", "Always 1; the version is its label.", ("version",), registry=registry)
        version.labels(__version__).set(1)
        self._requests = Counter(
            "hali_requests",
            "HTTP requests that ended. Status 499: the client left before the answer was whole.",
            ("dialect", "method", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "hali_request_seconds",
            "From a request to the end of its answer.",
            ("route",),
            buckets=WAITS,
            registry=registry,
        )
        self._tokens = Counter(
            "hali_tokens",
            "Tokens: of prompts, of those found in the KV cache, of replies.",
            ("kind",),
            registry=registry,
        )
        self._generations = Counter("hali_generations", "Generations that ended.", ("outcome",), registry=registry)
        self._queue = Histogram(
            "hali_queue_seconds", "Waiting for a turn to compute.", buckets=WAITS, registry=registry
        )
        self._load = Histogram("hali_load_seconds", "Waiting for a model to load.", buckets=WAITS, registry=registry)
        self._first = Histogram(
            "hali_time_to_first_token_seconds", "From the request to the first event.", buckets=WAITS, registry=registry
        )
        self._pace = Histogram(
            "hali_time_per_output_token_seconds", "Mean between tokens of one reply.", buckets=PACES, registry=registry
        )

    def answered(self, exchange: Exchange, status: int | None, seconds: float) -> None:
        """Count a request; `status` None where the client left before the whole answer was sent."""
        route = exchange.route or "none"
        method = exchange.method if exchange.method in METHODS else "other"
        code = CLIENT_LEFT if status is None else str(status)
        self._requests.labels(dialect_of(route), method, route, code).inc()
        self._seconds.labels(route).observe(seconds)

    def generated(self, generation: Generation, since: float | None) -> None:
        """Count a generation that ended, and what it used."""
        outcome = "finished" if generation.done else "failed" if generation.failed else "cancelled"
        self._generations.labels(outcome).inc()
        used = generation.used
        prompt, cached = generation.prompt_tokens()
        self.computed(prompt)
        self._tokens.labels("cached").inc(cached)
        self._tokens.labels("completion").inc(used.completion_tokens if used else generation.tokens)
        stages = generation.trace.seconds
        if "queue" in stages:
            self._queue.observe(generation.queue_s())
        if "load" in stages:
            self._load.observe(stages["load"])
        if (first := None if since is None else generation.first_token_s(since)) is not None:
            self._first.observe(first)
        if (pace := generation.per_token_s()) is not None:
            self._pace.observe(pace)

    def computed(self, prompt_tokens: int) -> None:
        """Count tokens of a prompt."""
        self._tokens.labels("prompt").inc(prompt_tokens)

    def families(self, measures: Iterable[Measure]) -> list[Metric]:
        """Everything, `measures` too."""
        return [*self._registry.collect(), *map(_family, measures)]

    def text(self, measures: Iterable[Measure], *, as_openmetrics: bool = False) -> tuple[bytes, str]:
        """Everything as OpenMetrics or in Prometheus' text format, and its media type."""
        found = _Joined(self.families(measures))
        if as_openmetrics:
            encoded: bytes = openmetrics.generate_latest(found, version="1.0.0")  # type: ignore[no-untyped-call]
            return encoded, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(found), CONTENT_TYPE_PLAIN_0_0_4


class _Joined(Collector):
    """Families that are there already, as `generate_latest` wants them."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """All of them."""
        return self._families


def _family(measure: Measure) -> Metric:
    kind = CounterMetricFamily if measure.kind == "counter" else GaugeMetricFamily
    family = kind(measure.name, measure.about, labels=_several(measure.label))
    for label, value in measure.value.items():
        family.add_metric(_several(label), value)
    return family


def _several(label: Label) -> tuple[str, ...]:
    if label is None:
        return ()
    return (label,) if isinstance(label, str) else label


@cache  # of routes there are some sixty
def dialect_of(route: str) -> str:
    """Whose words a route speaks; `hali` for those that are of no API in particular."""
    spoken = dialects.dialect_of(route).name
    return spoken if spoken != "openai" or route.startswith("/v1/") else "hali"


async def metrics(request: Request) -> Response:
    """GET /metrics."""
    deps = request.app.state.deps
    wanted = OPENMETRICS in request.headers.get("accept", "")  # Prometheus itself names it first
    text, media_type = deps.metrics.text(await deps.measures(), as_openmetrics=wanted)
    return Response(text, media_type=media_type)


ROUTES = (Endpoint("/metrics", metrics, summary="What is counted, as Prometheus reads it", media="text/plain"),)

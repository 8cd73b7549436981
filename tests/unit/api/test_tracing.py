"""Requests as OpenTelemetry spans, told to a real collector's end of the protocol; and what a lost collector costs: nothing."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import httpx
import pytest

from hali._version import __version__
from hali.api import otel
from hali.api.tracing import open_spans
from hali.model.errors import EngineCrashed
from hali.model.generation import Chunk, Done, Usage
from hali.runtime.trace import stage
from tests.fakes.otlp_collector import Collector, Span, collector
from tests.unit.api.conftest import TINY

CHAT = "/v1/chat/completions"
ASK = {"model": TINY.id, "messages": [{"role": "user", "content": "a secret word"}]}
TRACE, PARENT = "ab" * 16, "cd" * 8


class Traced:
    """A client of an application that tells a collector, and what the collector heard once the application has ended."""

    def __init__(self, client: httpx.AsyncClient, heard: Collector, spans: otel.Spans) -> None:
        self.client, self.heard, self._spans = client, heard, spans

    async def told(self) -> list[Span]:
        """Everything, by when it began."""
        await anyio.to_thread.run_sync(self._spans.close)
        return sorted(self.heard.spans, key=lambda span: span.began)


@pytest.fixture
def traced(deps, client_of):
    @asynccontextmanager
    async def make() -> AsyncIterator[Traced]:
        with collector() as heard:
            spans = await anyio.to_thread.run_sync(open_spans, heard.url, "node-1")
            assert spans is not None
            try:
                yield Traced(client_of(dataclasses.replace(deps, spans=spans)), heard, spans)
            finally:
                heard.held.set()
                await anyio.to_thread.run_sync(spans.close)

    return make


async def test_a_request_is_a_span_with_its_stages_one_after_the_other(traced, router) -> None:
    plain = router.generate

    async def generate(*args, **options):
        for name in ("queue", "load"):
            with stage(name):
                await anyio.sleep(0.001)
        async for event in plain(*args, **options):
            yield event

    router.generate, router.script = generate, [Chunk("a", 1), Done("stop", Usage(7, 1, 0.1, 0.1, cached_tokens=4))]
    async with traced() as t:
        assert (await t.client.post(CHAT, json=ASK)).status_code == 200
        whole, *stages = await t.told()
    assert (whole.name, whole.parent, whole.failed) == (f"POST {CHAT}", "", False)
    assert whole.attributes == {"http.request.method": "POST", "http.route": CHAT, "http.response.status_code": 200}
    assert whole.resource["service.name"] == "hali" and whole.resource["service.version"] == __version__
    assert whole.resource["service.instance.id"] == "node-1"
    assert [span.name for span in stages] == ["queue", "load", "prefill", "decode"]
    assert all((span.trace, span.parent) == (whole.trace, whole.id) for span in stages)
    for before, after in itertools.pairwise(stages):
        assert before.began < before.ended == pytest.approx(after.began, abs=1e-6)
    assert whole.began <= stages[0].began and stages[-1].ended <= whole.ended + 1e-3
    assert stages[2].attributes["gen_ai.usage.input_tokens"] == 7 and stages[2].attributes["hali.cached_tokens"] == 4
    assert stages[3].attributes["gen_ai.usage.output_tokens"] == 1
    assert "secret" not in repr([whole, *stages])


async def test_a_client_that_traces_finds_our_spans_in_its_own_trace(traced) -> None:
    async with traced() as t:
        await t.client.get("/health", headers={"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "x=1"})
        await t.client.get("/health", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})  # not sampled
        (span,) = await t.told()
    assert (span.trace, span.parent) == (TRACE, PARENT)


@pytest.mark.parametrize("hostile", ["", "00-zz-1-1", "\xff", "00-" + "0" * 32 + "-" + PARENT + "-01", "0" * 5000])
async def test_a_malformed_traceparent_begins_a_trace_of_our_own(traced, hostile: str) -> None:
    async with traced() as t:
        sent = [(b"traceparent", hostile.encode("latin-1"))]
        assert (await t.client.get("/health", headers=sent)).status_code == 200
        (span,) = await t.told()
    assert span.parent == "" and span.trace != TRACE


async def test_what_fails_is_told_as_failed_and_unknown_paths_by_no_word_of_the_client(traced, router) -> None:
    router.script = [EngineCrashed("died")]
    async with traced() as t:
        await t.client.post(CHAT, json=ASK)
        await t.client.get("/zqx7")
        failed, unknown = [span for span in await t.told() if not span.parent]
    assert failed.failed and failed.attributes["http.response.status_code"] == 503
    assert not unknown.failed and unknown.name == "GET none" and "zqx7" not in repr(unknown)


async def test_a_collector_that_hangs_delays_no_request_and_its_queue_is_bounded(traced, monkeypatch) -> None:
    monkeypatch.setattr(otel, "WAITING", 20)
    monkeypatch.setattr(otel, "BATCH", 10)
    async with traced() as t:
        t.heard.held.clear()
        for _ in range(100):  # each would wait for ever if it waited for the collector
            assert (await t.client.get("/health")).status_code == 200
        t.heard.held.set()
        told = await t.told()
    assert 20 <= len(told) <= 20 + 2 * 10  # what waited, and what was under way: the rest gave way


async def test_a_dead_collector_is_told_of_once_and_costs_nothing_else(deps, client_of, caplog, monkeypatch) -> None:
    monkeypatch.setattr(otel, "PATIENCE_S", 0.2)
    monkeypatch.setattr(otel, "BATCH", 2)
    with collector() as gone:
        url = gone.url
    spans = await anyio.to_thread.run_sync(open_spans, url, "node-1")
    with caplog.at_level(logging.WARNING):
        client = client_of(dataclasses.replace(deps, spans=spans))
        for _ in range(6):
            assert (await client.get("/health")).status_code == 200
        await anyio.to_thread.run_sync(spans.close)
    assert [record.message for record in caplog.records] == ["tracing.collector_lost"]


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported() -> None:
    code = "import sys, hali.daemon.node, hali.api.tracing as t; t.open_spans('', ''); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [name for name in done.stdout.split() if name.startswith("opentelemetry")]


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch, caplog) -> None:
    monkeypatch.delitem(sys.modules, "hali.api.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert open_spans("http://127.0.0.1:1", "node") is None
    (line,) = caplog.records
    assert line.message == "tracing.off" and line.hali_fields["hint"] == "pip install 'hali[otel]'"

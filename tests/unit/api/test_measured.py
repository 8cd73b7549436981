"""Server-Timing and /metrics: what is told, to whom, and never a client's own words."""

from __future__ import annotations

import dataclasses
import re
import types
from collections import Counter

import anyio
import httpx
import openai
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from hali.api import ApiDeps, ApiKey, build_app
from hali.api.app import ROUTES
from hali.api.metrics import CLIENT_LEFT, METHODS, OPENMETRICS, Measure
from hali.api.scopes import METRICS
from hali.api.timing import Generation
from hali.model.errors import EngineCrashed
from hali.model.generation import Chunk, Done, ToolCall, ToolCalled, Usage
from hali.runtime.trace import stage
from tests.unit.api.conftest import TINY, leave

CHAT = "/v1/chat/completions"
ASK = {"model": TINY.id, "messages": [{"role": "user", "content": "hi"}]}
SPAN = re.compile(r"([a-z]+);dur=(\d+\.\d)")


def spans(timing: str) -> dict[str, float]:
    """Milliseconds by stage."""
    parts = [SPAN.fullmatch(part) for part in timing.split(", ")]
    return {part[1]: float(part[2]) for part in parts if part}


async def scraped(client: httpx.AsyncClient, **headers: str) -> Counter[tuple[str, ...]]:
    """Every sample: its name, then its labels as `name=value`; parsed by prometheus' own reader."""
    response = await client.get("/metrics", headers=headers)
    assert (response.status_code, response.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    found: Counter[tuple[str, ...]] = Counter()
    for family in text_string_to_metric_families(response.text):
        for sample in family.samples:
            found[(sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items())))] = sample.value  # type: ignore[assignment]
    return found


def slow(router):
    """The router, with a queue and a load that are measured as the real ones are."""
    plain = router.generate

    async def generate(*args, **options):
        for name in ("queue", "load"):
            with stage(name):
                pass
        async for event in plain(*args, **options):
            yield event

    router.generate = generate
    return router


async def test_a_whole_reply_tells_every_stage_and_they_are_within_the_total(deps, client_of, router) -> None:
    client = client_of(dataclasses.replace(deps, router=slow(router)))
    found = spans((await client.post(CHAT, json=ASK)).headers["server-timing"])
    assert list(found) == ["gate", "queue", "load", "prefill", "decode", "total"]
    assert sum(found.values()) - found["total"] <= found["total"] + 0.5  # each is rounded to a tenth


async def test_what_the_engine_says_of_its_queue_is_queue_and_no_prefill(deps, client_of, router) -> None:
    router.script = [Done("stop", Usage(7, 0, 0.1, 0.2, queue_s=1.5))]
    found = spans((await client_of(deps).post(CHAT, json=ASK)).headers["server-timing"])
    assert (found["queue"], found["prefill"]) == (1500.0, 0.0)


async def test_a_stream_tells_at_its_head_what_is_known_and_the_rest_only_when_asked(deps, client_of, router) -> None:
    client = client_of(dataclasses.replace(deps, router=slow(router)))
    plain = await client.post(CHAT, json=ASK | {"stream": True})
    assert list(spans(plain.headers["server-timing"])) == ["gate", "queue", "load", "prefill", "total"]
    assert plain.text.endswith("data: [DONE]\n\n") and "\n:" not in plain.text
    asked = await client.post(CHAT, json=ASK | {"stream": True}, headers={"x-hali-timing": "1"})
    body, _, comment = asked.text.partition("data: [DONE]\n\n")
    prefix, end = ": server-timing ", "\n\n"
    assert body and comment.startswith(prefix) and comment.endswith(end)
    assert list(spans(comment[len(prefix) : -len(end)])) == ["gate", "queue", "load", "prefill", "decode", "total"]


async def test_the_official_client_skips_the_comment(client: httpx.AsyncClient) -> None:
    headers = {"x-hali-timing": "1"}
    asking = openai.AsyncOpenAI(
        base_url=f"{client.base_url}/v1", api_key="none", http_client=client, default_headers=headers
    )
    stream = await asking.chat.completions.create(**ASK, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "Hello"


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [("GET", "/health", {}), ("GET", "/no", {}), ("GET", "/", {"origin": "null"}), ("POST", CHAT, {})],
)
async def test_every_answer_tells_at_least_the_gate_and_the_total(client, method, path, headers) -> None:
    assert list(spans((await client.request(method, path, headers=headers)).headers["server-timing"])) == [
        "gate",
        "total",
    ]


def test_a_call_that_is_told_as_a_whole_began_with_its_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = types.SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("hali.api.timing.time", clock)
    generation = Generation()
    clock.now = 105.0
    generation.saw(ToolCalled(0, ToolCall("1", "f", "{}"), 41))
    assert generation.stages() == {"prefill": 5.0}
    generation.saw(Done("tool_calls", Usage(7, 41, 1.0, 5.0)))
    assert generation.stages() == {"prefill": 1.0, "decode": 4.0}
    assert generation.per_token_s() == pytest.approx(0.1)
    assert generation.first_token_s(99.0) == 2.0


async def test_several_replies_to_one_prompt_count_it_once_and_take_no_longer_than_all(deps, client_of, router) -> None:
    client = client_of(deps)
    router.script = [Chunk("a", 1), Done("stop", Usage(7, 2, 0.1, 0.2, cached_tokens=4))]
    response = await client.post(CHAT, json=ASK | {"n": 3})
    stages = spans(response.headers["server-timing"])
    assert all(stages[name] <= stages["total"] for name in ("prefill", "decode"))
    found = await scraped(client)
    assert response.json()["usage"]["prompt_tokens"] == found["hali_tokens_total", "kind=prompt"] == 7
    assert found["hali_tokens_total", "kind=cached"] == 4
    assert response.json()["usage"]["completion_tokens"] == found["hali_tokens_total", "kind=completion"] == 6


async def test_replies_are_counted_by_how_they_ended_and_what_they_used(deps, client_of, router) -> None:
    client = client_of(dataclasses.replace(deps, router=slow(router)))
    done = Done("stop", Usage(7, 2, 0.1, 0.2, cached_tokens=4))
    for script in (
        [Chunk("a", 1), Chunk("b", 1), done],
        [Chunk("a", 1), EngineCrashed("died")],
        [EngineCrashed("died")],
    ):
        router.script = script
        await client.post(CHAT, json=ASK)
    found = await scraped(client)
    assert found["hali_generations_total", "outcome=finished"] == 1
    assert found["hali_generations_total", "outcome=failed"] == 2
    assert found["hali_tokens_total", "kind=prompt"] == 7
    assert found["hali_tokens_total", "kind=cached"] == 4
    assert found["hali_tokens_total", "kind=completion"] == 3
    labels = ("dialect=openai", "method=POST", f"route={CHAT}")
    assert found["hali_requests_total", *labels, "status=200"] == 1
    assert found["hali_requests_total", *labels, "status=503"] == 2
    assert found[("hali_queue_seconds_count",)] == found[("hali_load_seconds_count",)] == 3
    assert found[("hali_time_to_first_token_seconds_count",)] == 2
    assert found[("hali_time_per_output_token_seconds_count",)] == 1


async def test_no_word_of_a_client_becomes_a_label(deps, client_of, router) -> None:
    word = "zqx7"
    client = client_of(deps)
    for path in (f"/{word}", f"/v1/models/{word}", f"/v1/{word}", f"/metrics/{word}", f"/?{word}=1"):
        for method in ("GET", "POST", word.upper(), "DELETE"):
            await client.request(method, path, headers={"authorization": f"Bearer {word}", "user-agent": word})
    await client.post(CHAT, json={"model": word, "messages": [{"role": word, "content": word}], "user": word})
    await client.get("/health", headers={"host": f"{word}.example", "origin": f"http://{word}.example"})
    found = await scraped(client)
    assert not [key for key in found if word in " ".join(key).lower()]
    routes = {route.path for route in build_app(deps).routes} | {"none"}
    of_requests = [key for key in found if key[0] == "hali_requests_total"]
    for _, dialect, method, route, status in of_requests:
        assert dialect.removeprefix("dialect=") in {endpoint.tag for endpoint in ROUTES}
        assert method.removeprefix("method=") in METHODS | {"other"}
        assert route.removeprefix("route=") in routes
        assert status.removeprefix("status=").isdigit()
    assert {key[2] for key in of_requests} > {"method=other"} and {key[3] for key in of_requests} > {"route=none"}


async def test_metrics_are_behind_their_scope_where_a_key_is_required(deps: ApiDeps, client_of) -> None:
    keys = (ApiKey("prom", "sk-prom", scopes=METRICS), ApiKey("ann", "sk-ann", scopes=frozenset({"inference"})))
    client = client_of(dataclasses.replace(deps, keys=keys, require_key=True))
    status = [
        (await client.get("/metrics", headers={"authorization": f"Bearer {s}"})).status_code for s in ("x", "sk-ann")
    ]
    assert status == [401, 403]
    assert await scraped(client, authorization="Bearer sk-prom")


async def test_what_the_daemon_measures_is_told_too(deps: ApiDeps, client_of) -> None:
    async def measures() -> list[Measure]:
        return [
            Measure("hali_queue_length", "Waiting.", {None: 3}),
            Measure(
                "hali_torrent_bytes", "Payload.", {"sent": 5.0, "received": 6.0}, label="direction", kind="counter"
            ),
        ]

    found = await scraped(client_of(dataclasses.replace(deps, measures=measures)))
    assert found[("hali_queue_length",)] == 3
    assert found["hali_torrent_bytes_total", "direction=received"] == 6


async def test_who_left_is_counted_as_left(deps: ApiDeps, client_of, router) -> None:
    for stream in (True, False):
        router.script = [Chunk("a", 1), anyio.Event()]
        await leave(deps, router, ASK | {"stream": stream})
    found = await scraped(client_of(deps))
    labels = ("dialect=openai", "method=POST", f"route={CHAT}", f"status={CLIENT_LEFT}")
    assert found["hali_requests_total", *labels] == 2
    assert found["hali_generations_total", "outcome=cancelled"] == 2
    assert found["hali_tokens_total", "kind=completion"] == 2


async def test_whoever_asks_for_openmetrics_gets_it_whatever_else_stands_there(client: httpx.AsyncClient) -> None:
    for accept in (
        "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
        "application/openmetrics-text;version=x",
    ):
        answer = await client.get("/metrics", headers={"accept": accept})
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, OPENMETRICS)
        assert answer.text.endswith("# EOF\n") and list(parse_openmetrics(answer.text))

"""What hali says it did, against what the client saw: real server, router and engine with SmolLM2. And what a client that leaves frees."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hali.api import ApiDeps, ApiServer, Bind
from hali.engine.pool import EnginePool
from hali.model.errors import NotFound
from hali.pipeline import InferenceRouter, RouterLimits, ServedModel
from tests.waiting import until

pytestmark = pytest.mark.model

PATIENCE_S = 120  # loading and a few hundred tokens of a 135M model on a busy machine
CHAT = "/v1/chat/completions"
EACH = 6  # requests of each kind
COUNT = {"model": "smol", "messages": [{"role": "user", "content": "Count from 1 to 200, in words."}], "temperature": 0}
LONG = {
    "model": "smol",
    "messages": [{"role": "user", "content": "word " * 3500}],
    "max_tokens": 1,
}  # seconds of prefill
ENDLESS = COUNT | {"logit_bias": {"0": -100, "2": -100}}  # no end of text, no end of turn: on until the context is full
USAGE = {"stream": True, "stream_options": {"include_usage": True}}


class OneFile:
    """The catalogue: SmolLM2 alone."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self.model = ServedModel("smollm2", sha256, path, 1_700_000_000, path.stat().st_size, ("smol",))

    def list(self) -> list[ServedModel]:
        return [self.model]

    def find(self, name: str) -> ServedModel:
        if name not in ("smollm2", "smol"):
            raise NotFound(f"no model is called {name}")
        return self.model


@dataclass
class Stack:
    """All parts of one serving node."""

    client: httpx.AsyncClient
    router: InferenceRouter
    pool: EnginePool
    statuses: Counter[str] = field(default_factory=Counter)

    def in_hand(self) -> tuple[int, int, int]:
        """Permits held, requests queued, requests that the pool counts."""
        stats = self.router.stats()
        return stats.running, stats.queued, sum(engine.active for engine in self.pool.list())

    async def metrics(self) -> Counter[str]:
        """Values by the name and the label values of each sample, one space between."""
        text = (await self.client.get("/metrics")).text
        samples = (s for family in text_string_to_metric_families(text) for s in family.samples)
        return Counter({" ".join((s.name, *s.labels.values())): s.value for s in samples})


@pytest.fixture(scope="module")
def catalog(smollm2: Path) -> OneFile:
    return OneFile(smollm2)


@asynccontextmanager
async def serving(catalog: OneFile, limits: RouterLimits | None = None) -> AsyncIterator[Stack]:
    """Everything as the daemon joins it. Whatever the test does, nothing is left in hand at the end."""
    async with EnginePool() as pool:
        router = InferenceRouter(catalog, pool, limits)
        server = ApiServer(dataclasses.replace(ApiDeps(catalog=catalog, router=router)), Bind(port=0))
        async with anyio.create_task_group() as group:
            await group.start(lambda task_status: router.run(task_status=task_status))
            await group.start(lambda task_status: server.run(task_status=task_status))
            async with httpx.AsyncClient(base_url=server.address or "", timeout=PATIENCE_S) as client:
                with anyio.fail_after(PATIENCE_S):
                    stack = Stack(client, router, pool)
                    yield stack
                    await until(lambda: stack.in_hand() == (0, 0, 0))
            group.cancel_scope.cancel()


def spans(timing: str) -> dict[str, float]:
    """Seconds by stage."""
    parts = (part.split(";dur=") for part in timing.split(", "))
    return {name: float(milliseconds) / 1000 for name, milliseconds in parts}


@dataclass
class Seen:
    """What the client counted."""

    prompt: int = 0
    completion: int = 0
    left: int = 0
    left_seen: int = 0
    statuses: Counter[str] = field(default_factory=Counter)


async def whole(stack: Stack, seen: Seen, tokens: int) -> None:
    began = time.monotonic()
    response = await stack.client.post(CHAT, json=COUNT | {"max_tokens": tokens})
    elapsed, usage, told = time.monotonic() - began, response.json()["usage"], spans(response.headers["server-timing"])
    seen.prompt, seen.completion = seen.prompt + usage["prompt_tokens"], seen.completion + usage["completion_tokens"]
    seen.statuses[str(response.status_code)] += 1
    assert usage["completion_tokens"] == tokens
    assert {"gate", "queue", "load", "prefill", "decode", "total"} == told.keys()
    assert told["total"] <= elapsed + 0.001 and sum(told.values()) - told["total"] <= told["total"] + 0.001


async def streamed(stack: Stack, seen: Seen, tokens: int) -> None:
    response = await stack.client.post(
        CHAT, json=COUNT | USAGE | {"max_tokens": tokens}, headers={"x-hali-timing": "1"}
    )
    *_, last, done, comment, end = response.text.split("\n\n")
    usage = json.loads(last.removeprefix("data: "))["usage"]
    seen.prompt, seen.completion = seen.prompt + usage["prompt_tokens"], seen.completion + usage["completion_tokens"]
    seen.statuses[str(response.status_code)] += 1
    assert (done, end) == ("data: [DONE]", "") and comment.startswith(": server-timing gate;dur=")


async def left(stack: Stack, seen: Seen, tokens: int) -> None:
    """Read `tokens` events with text, then go away."""
    async with stack.client.stream("POST", CHAT, json=COUNT | {"stream": True, "max_tokens": 60}) as response:
        texts = 0
        async for line in response.aiter_lines():
            texts += '"content":"' in line and '"content":""' not in line
            if texts == tokens:
                break
    seen.left, seen.left_seen = seen.left + 1, seen.left_seen + tokens
    seen.statuses["499"] += 1


async def wrong(stack: Stack, seen: Seen, tokens: int) -> None:
    response = await stack.client.post(CHAT, json=COUNT | {"model": "nosuch", "max_tokens": tokens})
    seen.statuses[str(response.status_code)] += 1


async def test_metrics_usage_and_timing_agree_with_what_the_client_counted(catalog: OneFile) -> None:
    """Two dozen requests, eight at a time: whole, streamed, left midway, wrong."""
    seen = Seen()
    async with serving(catalog) as stack:
        kinds: list[Callable[[Stack, Seen, int], Awaitable[None]]] = [whole, streamed, left, wrong]
        room = anyio.CapacityLimiter(8)

        async def one(number: int) -> None:
            async with room:
                await kinds[number % 4](stack, seen, 2 + number % 5)

        async with anyio.create_task_group() as group:
            for number in range(4 * EACH):
                group.start_soon(one, number)
        await until(lambda: stack.in_hand() == (0, 0, 0))
        while (found := await stack.metrics())["hali_generations_total cancelled"] < seen.left:
            await anyio.sleep(0.002)  # a cancelled engine tells what it used a moment later
        sampled = stack.pool.list()[0].stats.completion_tokens
    prompt = seen.prompt // (2 * EACH)  # all have the same
    assert (found["hali_generations_total finished"], found["hali_generations_total cancelled"]) == (2 * EACH, EACH)
    assert found["hali_tokens_total prompt"] == seen.prompt + EACH * prompt
    assert found["hali_tokens_total completion"] == sampled >= seen.completion + seen.left_seen
    for status, count in seen.statuses.items():
        assert found[f"hali_requests_total openai POST {CHAT} {status}"] == count
    assert found["hali_queue_seconds_count"] == found["hali_load_seconds_count"] == 3 * EACH
    assert found["hali_time_to_first_token_seconds_count"] == 3 * EACH
    assert stack.router.stats().finished == 2 * EACH


async def in_queue(stack: Stack) -> None:
    await until(lambda: stack.router.stats().queued == 1)


async def in_load(stack: Stack) -> None:
    await until(lambda: any(engine.state == "loading" and engine.active for engine in stack.pool.list()))


async def in_prefill(stack: Stack) -> None:
    await until(lambda: any(engine.stats.sessions == 1 for engine in stack.pool.list()))


async def in_decode(stack: Stack) -> None:
    await until(lambda: any(e.stats.sessions == 1 and e.stats.completion_tokens > 3 for e in stack.pool.list()))


async def ask(stack: Stack, body: dict[str, object], scope: anyio.CancelScope) -> None:
    """A client that goes away when `scope` is cancelled."""
    with scope:
        async with stack.client.stream("POST", CHAT, json=body) as response:
            async for _ in response.aiter_lines():
                pass


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("stage", ["queue", "load", "prefill", "decode"])
async def test_who_leaves_frees_everything_in_every_stage(catalog: OneFile, stage: str, stream: bool) -> None:
    reached = {"queue": in_queue, "load": in_load, "prefill": in_prefill, "decode": in_decode}[stage]
    other, leaver = anyio.CancelScope(), anyio.CancelScope()
    async with serving(catalog, RouterLimits(running=1)) as stack, anyio.create_task_group() as group:
        if stage != "load":
            await stack.client.post(CHAT, json=COUNT | {"max_tokens": 1})
        if stage == "queue":  # somebody else computes meanwhile
            group.start_soon(ask, stack, ENDLESS, other)
            await until(lambda: stack.router.stats().running == 1)
        group.start_soon(ask, stack, (LONG if stage == "prefill" else ENDLESS) | {"stream": stream}, leaver)
        await reached(stack)
        leaver.cancel()
        if stage == "queue":
            await until(lambda: stack.in_hand() == (1, 0, 1))
            other.cancel()
        await until(lambda: stack.in_hand() == (0, 0, 0) and all(e.state == "ready" for e in stack.pool.list()))
        await until(lambda: all(e.stats.sessions == e.stats.queued == 0 for e in stack.pool.list()))
        (engine,) = stack.pool.list()
        assert engine.info is not None and engine.stats.sequences_free == engine.info.n_seq_max
        assert stack.router.stats().cancelled == (2 if stage == "queue" else 1)

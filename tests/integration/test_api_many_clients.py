"""Many clients at once on the real model, most of them ill-behaved: the others are served whole and nothing leaks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.fakes.api_process import MODEL_ID
from tests.integration.test_api_attacks import Api, api, wait_for

pytestmark = [pytest.mark.model, pytest.mark.blocking_ok, pytest.mark.alone]  # eight sequences fill the cores

SLOTS = 8
LIMITS = {"router": {"running": SLOTS, "queued": 16, "queued_per_key": 32}}
TOKENS = 6
FLAT = 16 * 1024 * 1024  # bytes that memory may differ between two rounds: allocators keep some
SLOW_S = 0.02  # a slow reader takes one event in this time; the model makes one in less
DEADLINE_S = 300.0


def body(number: int) -> dict[str, Any]:
    ask = {"role": "user", "content": f"Tell me a story about the number {number}."}
    options = {"max_tokens": TOKENS, "temperature": 0, "stream_options": {"include_usage": True}}
    return {"model": MODEL_ID, "messages": [ask], "stream": True, **options}


class Round:
    """`count` clients: of three one leaves midway, one reads slowly, one is good. All honour Retry-After."""

    def __init__(self, address: str, count: int) -> None:
        self._address, self._count = address, count
        self.ended: Counter[str] = Counter()
        self.refused = 0

    async def run(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self._address, timeout=DEADLINE_S, limits=limits) as client:
            with anyio.fail_after(DEADLINE_S):
                async with anyio.create_task_group() as group:
                    for number in range(self._count):
                        group.start_soon(self._client, client, number)

    async def _client(self, client: httpx.AsyncClient, number: int) -> None:
        while True:
            async with client.stream("POST", "/v1/chat/completions", json=body(number)) as response:
                if response.status_code == 200:
                    self.ended[await self._read(response, number % 3)] += 1
                    return
                assert response.status_code == 503
                wait = int(response.headers["retry-after"])
                assert 1 <= wait <= 60
            self.refused += 1
            await anyio.sleep(wait)

    async def _read(self, response: httpx.Response, kind: int) -> str:
        events: list[str] = []
        async for line in response.aiter_lines():
            if line:
                events.append(line)
            if kind == 0 and len(events) == 3:
                return "left"
            if kind == 1:
                await anyio.sleep(SLOW_S)
        assert events[-1] == "data: [DONE]"
        usage = json.loads(events[-2].removeprefix("data: "))["usage"]
        return "whole" if 1 <= usage["completion_tokens"] <= TOKENS else "cut"


def at_rest(server: Api) -> dict[str, Any] | None:
    """What the server says once nothing is in hand any more; None until then."""
    state = server.state()
    (engine,) = state["engines"]
    busy = [state["connections"], state["running"], state["queued"], engine["active"], engine["sessions"]]
    return None if any(busy) or engine["queued"] or engine["samplers"] else state


async def survives(count: int, model: Path) -> None:
    """See the tests."""
    with api("real", LIMITS, model) as server:
        await Round(server.address, 3).run()  # the engine is loaded
        wait_for(lambda: at_rest(server), "the first replies are over")
        before = server.footprint()
        memory = []
        for _ in range(2):
            round_ = Round(server.address, count)
            await round_.run()
            assert round_.ended == {"left": -(-count // 3), "whole": count - -(-count // 3)}
            assert round_.refused > 0  # the queue was full, and who was told so came again
            wait_for(lambda: at_rest(server), "everything is given back")
            wait_for(lambda: server.footprint() == before, f"threads and descriptors are those of before: {before}")
            memory.append(server.memory())
        first, second = memory
        assert [late - early <= FLAT for early, late in zip(first, second, strict=True)] == [True] * len(first), memory
        assert at_rest(server)["engines"][0]["sequences_free"] == SLOTS  # type: ignore[index]


async def test_forty_clients_that_leave_or_read_slowly_leak_nothing_and_the_rest_is_served(smollm2: Path) -> None:
    await survives(40, smollm2)


@pytest.mark.long
async def test_two_hundred_clients_that_leave_or_read_slowly_leak_nothing(smollm2: Path) -> None:
    await survives(200, smollm2)

"""The pool with real engines."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from hali.engine.options import EngineOptions
from hali.engine.pool import EnginePool, PoolLimits
from hali.model.errors import EngineCrashed, ModelLoadFailed
from hali.model.generation import Chunk, Done, GenerateRequest, GenerationEvent, SamplingParams
from hali.runtime.processes import is_alive

pytestmark = pytest.mark.model

DEADLINE_S = 60.0
OPTIONS = EngineOptions(n_ctx=512)
HELLO = GenerateRequest(prompt="Hello", sampling=SamplingParams(temperature=0, max_tokens=6))
LONG = GenerateRequest(prompt="Once upon a time", sampling=SamplingParams(temperature=0, max_tokens=400))


async def text_of(pool: EnginePool, path: Path, request: GenerateRequest = HELLO) -> str:
    events = [event async for event in pool.generate("smol", path, request)]
    assert isinstance(events[-1], Done)
    return "".join(event.text for event in events if isinstance(event, Chunk))


async def drain(replies: AsyncIterator[GenerationEvent]) -> None:
    async for _ in replies:
        pass


async def test_first_requests_together_start_one_process_and_get_the_same_text(smollm2: Path) -> None:
    texts: list[str] = []

    async def ask(pool: EnginePool) -> None:
        texts.append(await text_of(pool, smollm2))

    with anyio.fail_after(DEADLINE_S):
        async with EnginePool(OPTIONS) as pool:
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(ask, pool)
            (status,) = pool.list()
            assert status.state == "ready" and status.info is not None
            assert status.info.model_id == "smol"
            assert status.stats.rss_bytes is not None and status.stats.rss_bytes > 90e6
        assert not is_alive(status.info.pid)
    assert len(set(texts)) == 1


async def test_kill_9_during_a_reply_and_the_next_request_works(smollm2: Path) -> None:
    with anyio.fail_after(DEADLINE_S):
        async with EnginePool(OPTIONS) as pool:
            before = await text_of(pool, smollm2)
            info = pool.info("smol")
            assert info is not None
            replies = pool.generate("smol", smollm2, LONG)
            await anext(replies)
            os.kill(info.pid, signal.SIGKILL)
            with pytest.raises(EngineCrashed):
                await drain(replies)
            assert await text_of(pool, smollm2) == before
            again = pool.info("smol")
            assert again is not None and again.pid != info.pid


async def test_a_damaged_model_fails_alone(smollm2: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(smollm2.read_bytes()[:1_000_000])
    with anyio.fail_after(DEADLINE_S):
        async with EnginePool(OPTIONS, PoolLimits(max_engines=2)) as pool:
            await pool.load("smol", smollm2)
            with pytest.raises(ModelLoadFailed):
                await pool.load("bad", bad)
            assert await text_of(pool, smollm2)
            assert [status.model_id for status in pool.list()] == ["smol"]

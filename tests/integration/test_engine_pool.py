"""The pool with real engines."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from hali.engine import pages
from hali.engine.estimate import PROCESS
from hali.engine.fitting import fitted
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


@pytest.mark.skipif(not pages.huge_pages(), reason="SKIPPED: this kernel gives no huge pages")
async def test_weights_are_copied_into_huge_pages_where_memory_is_plenty(
    smollm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def maps(*, plenty: bool) -> tuple[bool, int]:
        """(whether the file is mapped, the largest piece of memory for which huge pages were asked)."""
        monkeypatch.setattr(pages, "worth_copying", lambda weights, free: plenty)
        async with EnginePool(OPTIONS) as pool:
            texts.append(await text_of(pool, smollm2))
            (status,) = pool.list()
            assert status.info is not None
            smaps = Path(f"/proc/{status.info.pid}/smaps").read_text()
        blocks = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) .*\n(?:\w+:.*\n)*?VmFlags:(.*)", smaps, re.MULTILINE)
        asked = [int(end, 16) - int(start, 16) for start, end, flags in blocks if "hg" in flags.split() or always]
        return str(smollm2.resolve()) in smaps, max(asked, default=0)

    always, texts = "[always]" in pages.THP.read_text(), list[str]()
    with anyio.fail_after(DEADLINE_S):
        mapped, largest = await maps(plenty=True)
        assert not mapped and largest > smollm2.stat().st_size * 9 // 10
        mapped, _ = await maps(plenty=False)
        assert mapped
    assert texts[0] == texts[1]


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


def renamed(model: Path, to: Path, letter: bytes) -> Path:
    """A copy with another `general.name`, so another file with another SHA-256."""
    data = bytearray(model.read_bytes())
    at = data.index(b"general.name") + len(b"general.name") + 4 + 8  # key, type, length
    data[at : at + 1] = letter
    to.write_bytes(data)
    return to


async def test_two_models_with_memory_for_one_are_both_served_and_none_is_refused(
    smollm2: Path, tmp_path: Path
) -> None:
    paths = {name: renamed(smollm2, tmp_path / f"{name}.gguf", name.encode()) for name in ("a", "b")}
    one = (await fitted(paths["a"], OPTIONS, None)).bytes
    texts: list[tuple[str, str]] = []
    most = 0

    async def client(pool: EnginePool, name: str) -> None:
        nonlocal most
        for _ in range(2):
            events = [event async for event in pool.generate(name, paths[name], HELLO)]
            texts.append((name, "".join(event.text for event in events if isinstance(event, Chunk))))
            most = max(most, sum(status.reserved_bytes or 0 for status in pool.list()))

    with anyio.fail_after(DEADLINE_S):
        limits = PoolLimits(max_engines=2, memory_bytes=one * 3 // 2)
        async with EnginePool(OPTIONS, limits) as pool, anyio.create_task_group() as group:
            for name in ("a", "b"):
                group.start_soon(client, pool, name)
    assert sorted(name for name, _ in texts) == ["a", "a", "b", "b"]
    assert len({text for _, text in texts}) == 1 and texts[0][1]
    assert 0 < most <= one * 3 // 2


async def test_where_a_whole_context_does_not_fit_a_shorter_one_is_chosen(smollm2: Path) -> None:
    room = (await fitted(smollm2, EngineOptions(n_ctx=2048, n_kv=2048), None)).bytes + 1_000_000
    with anyio.fail_after(DEADLINE_S):
        async with EnginePool(EngineOptions(), PoolLimits(memory_bytes=room)) as pool:
            assert (await pool.load("smol", smollm2)).n_ctx == 2048
            assert 0 < (pool.list()[0].reserved_bytes or 0) <= room
            assert await text_of(pool, smollm2)


async def test_a_projector_and_adapters_are_counted_with_their_model(smollm2: Path, tmp_path: Path) -> None:
    beside = tmp_path / "beside.gguf"
    beside.write_bytes(bytes(5000))
    alone = (await fitted(smollm2, EngineOptions(n_ctx=512, n_kv=512), None)).bytes
    more = EngineOptions(n_ctx=512, n_kv=512, projector=str(beside), lora=((str(beside), 1.0),))
    assert (await fitted(smollm2, more, None)).bytes == alone + 10_000
    assert not (await fitted(smollm2, more, alone + 9_999)).whole


async def test_a_draft_model_is_counted_with_its_model_and_its_own_cache(smollm2: Path, tmp_path: Path) -> None:
    options = EngineOptions(n_ctx=512, n_kv=1024, prefix_cache=False)
    alone = (await fitted(smollm2, options, None)).bytes
    with_draft = replace(options, draft=str(smollm2))
    assert (await fitted(smollm2, with_draft, None)).bytes == 2 * alone - PROCESS, "twice, in one process"
    assert not (await fitted(smollm2, with_draft, 2 * alone - PROCESS - 1)).whole
    for never_loaded in (replace(with_draft, speculation="off"), replace(options, draft=str(tmp_path / "gone.gguf"))):
        assert (await fitted(smollm2, never_loaded, None)).bytes == alone

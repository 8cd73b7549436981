"""Damaged models in real workers: the pool says what is wrong with each, and goes on with the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import hali.engine.process
from hali.engine.options import EngineOptions
from hali.engine.pool import EnginePool, PoolLimits
from hali.model.errors import HaliError, ModelLoadFailed, UsageError
from hali.model.generation import (
    MEDIA,
    Done,
    GenerateRequest,
    Message,
    Render,
    SamplingParams,
    Tokenize,
    Tokens,
)
from tests.fakes import tiny_models
from tests.fakes.gguf_image import Image, text, unpack
from tests.fakes.gguf_mutants import DAMAGES, mutant
from tests.fakes.pictures import png

DEADLINE_S = 120.0  # a dozen workers, half a second each on an idle machine
OPTIONS = EngineOptions(n_ctx=128, n_seq_max=2)
HELLO = GenerateRequest(messages=(Message("user", "hello"),), sampling=SamplingParams(temperature=0, max_tokens=4))


@pytest.fixture
def whole(tmp_path: Path) -> Image:
    return unpack(tiny_models.llama().write(tmp_path / "whole.gguf").read_bytes())


async def _end(pool: EnginePool, path: Path) -> str:
    """`answered`, or the class of the error."""
    try:
        events = [event async for event in pool.generate(path.stem, path, HELLO)]
    except HaliError as error:
        assert str(error) and error.code != "internal"
        return type(error).__name__
    assert isinstance(events[-1], Done)
    return "answered"


async def test_the_pool_lives_through_damaged_models_and_answers_with_the_whole_one(
    whole: Image, tmp_path: Path
) -> None:
    ends: list[str] = []
    with anyio.fail_after(DEADLINE_S):
        async with EnginePool(OPTIONS, PoolLimits(max_engines=1)) as pool:
            for seed in range(len(DAMAGES)):
                path = tmp_path / f"mutant-{seed}.gguf"
                path.write_bytes(mutant(whole, seed)[1])
                ends.append(await _end(pool, path))
            assert await _end(pool, tmp_path / "whole.gguf") == "answered"
    assert set(ends) <= {"answered", "ModelLoadFailed", "UsageError", "EngineFailed"}, ends  # the last of NaN weights
    assert ends.count("answered") >= 3 and ends.count("ModelLoadFailed") >= 3, ends


async def test_a_model_that_is_refused_never_reaches_a_process(
    whole: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hali.engine.process, "spawn", None)
    whole.key("llama.attention.head_count").value = (6).to_bytes(4, "little")
    path = tmp_path / "six.gguf"
    path.write_bytes(whole.pack())
    async with EnginePool(OPTIONS) as pool:
        with pytest.raises(ModelLoadFailed, match=r"six\.gguf is not a model that can be loaded: 6 heads") as caught:
            await pool.load("six", path)
    assert caught.value.details["reason"] == "hparam"


async def test_a_model_that_kills_its_worker_in_spite_of_the_check_costs_that_worker_only(
    whole: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hali.engine.process.ggufcheck, "check", lambda paths: None)
    whole.key("llama.block_count").value = bytes(4)
    path = tmp_path / "none.gguf"
    path.write_bytes(whole.pack())
    with anyio.fail_after(DEADLINE_S):
        async with EnginePool(OPTIONS) as pool:
            with pytest.raises(ModelLoadFailed, match=r"died of SIGABRT .* while loading none\.gguf") as caught:
                await pool.load("none", path)
            assert caught.value.details["signal"] == "SIGABRT"
            assert await _end(pool, tmp_path / "whole.gguf") == "answered"


async def test_a_template_of_another_kind_of_lie_is_told_from_a_broken_file(whole: Image, tmp_path: Path) -> None:
    whole.key("tokenizer.chat_template").value = text(b"{{ (" * 3000)
    path = tmp_path / "deep.gguf"
    path.write_bytes(whole.pack())
    with anyio.fail_after(DEADLINE_S):
        async with EnginePool(OPTIONS) as pool:
            with pytest.raises(ModelLoadFailed, match="chat template"):
                await pool.load("deep", path)


async def test_a_text_of_nothing_but_special_tokens_is_refused_before_llama_cpp_looks_for_them(tmp_path: Path) -> None:
    path = tiny_models.llama().write(tmp_path / "whole.gguf")
    with anyio.fail_after(DEADLINE_S):  # a hundred thousand take llama.cpp a minute, a million an hour and a half
        async with EnginePool(OPTIONS) as pool:
            with pytest.raises(UsageError, match="special tokens"):
                await pool.ask("tiny", path, Tokenize("<s>" * 21_000))  # as many as are short enough
            tokens = await pool.ask("tiny", path, Tokenize("<s>" * 2000 + "<" * 20_000))
    assert isinstance(tokens, Tokens) and tokens.tokens[:2000] == (1,) * 2000


async def test_a_projector_that_is_no_whole_file_reaches_no_process_and_costs_the_images_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[EngineOptions] = []
    real = hali.engine.process.spawn

    async def spawn(path: Path, options: EngineOptions, *more: Any) -> Any:
        started.append(options)
        return await real(path, options, *more)

    monkeypatch.setattr(hali.engine.process, "spawn", spawn)
    path = tiny_models.llama().write(tmp_path / "whole.gguf")
    projector = tmp_path / "mmproj.gguf"
    projector.write_bytes(path.read_bytes()[:-100_000])
    options = EngineOptions(n_ctx=128, projector=str(projector))
    shown = GenerateRequest(messages=(Message("user", MEDIA, images=(png(2, 2),)),))
    async with EnginePool(options) as pool:
        with pytest.raises(UsageError, match=r"mmproj\.gguf is not a projector that can be loaded: .* beyond the end"):
            await pool.ask("tiny", path, Render(shown))
        assert isinstance(await pool.ask("tiny", path, Tokenize("a")), Tokens)
    assert [one.projector for one in started] == [None]

"""LoRA adapters in real workers."""

from __future__ import annotations

from pathlib import Path

import anyio
import httpx
import numpy as np
import pytest

from hali.engine.options import EngineOptions
from hali.engine.process import EngineProcess
from hali.model.errors import ModelLoadFailed, UsageError
from hali.model.generation import Chunk, Embed, Embeddings, GenerateRequest, SamplingParams
from tests.fakes import tiny_models
from tests.fakes.gguf_image import F32, text, unpack
from tests.nodes import node

DEADLINE_S = 60.0
REQUEST = GenerateRequest(prompt="hello", sampling=SamplingParams(temperature=0, max_tokens=24))


async def said(model: Path, *lora: tuple[Path, float]) -> tuple[str, np.ndarray]:
    """(the reply to REQUEST, the vector of a text) with these adapters."""
    engine = EngineProcess("test")
    with anyio.fail_after(DEADLINE_S):
        await engine.start(model, EngineOptions(n_ctx=128, lora=tuple((str(path), scale) for path, scale in lora)))
        try:
            events = [event async for event in engine.generate(REQUEST)]
            answer = await engine.ask(Embed(("hello",)))
        finally:
            await engine.stop()
    assert isinstance(answer, Embeddings)
    reply = "".join(event.text for event in events if isinstance(event, Chunk))
    return reply, np.frombuffer(answer.vectors[0], "<f4")


async def test_an_adapter_changes_replies_and_vectors_by_its_scale(tmp_path: Path) -> None:
    model = tiny_models.llama().write(tmp_path / "model.gguf")
    adapter, other = tiny_models.lora(tmp_path / "a.gguf"), tiny_models.lora(tmp_path / "b.gguf", seed=3)
    plain, plain_vector = await said(model)
    nothing, nothing_vector = await said(model, (adapter, 0.0))
    assert nothing == plain and np.array_equal(nothing_vector, plain_vector), "none of it is nothing"
    replies = [plain]
    for chosen in ([(adapter, 1.0)], [(adapter, -1.0)], [(adapter, 1.0), (other, 1.0)]):
        reply, vector = await said(model, *chosen)
        assert np.abs(vector - plain_vector).max() > 0.01
        replies.append(reply)
    assert len(set(replies)) == len(replies)


async def test_an_adapter_of_another_model_is_refused_in_llama_cpps_words(tmp_path: Path) -> None:
    model = tiny_models.llama().write(tmp_path / "model.gguf")
    for adapter, why in (
        (tiny_models.lora(tmp_path / "wide.gguf", width=2 * tiny_models.WIDTH), "incorrect shape"),
        (tiny_models.lora(tmp_path / "other.gguf", arch="qwen2"), "arch mismatch"),
    ):
        with pytest.raises(ModelLoadFailed, match=f"adapter {adapter.name} does not fit this model: .*{why}"):
            await said(model, (adapter, 1.0))


async def test_an_adapter_that_would_kill_the_worker_never_reaches_it(tmp_path: Path) -> None:
    model = tiny_models.llama().write(tmp_path / "model.gguf")
    for name, change in (
        ("general.type", lambda image: setattr(image.key("general.type"), "kind", 9)),
        ("adapter.lora.alpha", lambda image: setattr(image.key("adapter.lora.alpha"), "kind", 4)),
        ("adapter.type", lambda image: setattr(image.key("adapter.type"), "value", text(b"none"))),
        ("one half only", lambda image: image.tensors.pop()),
        ("do not fit", lambda image: setattr(image.tensors[0], "shape", [128, 2])),
    ):
        image = unpack(tiny_models.lora(tmp_path / "bad.gguf").read_bytes())
        assert image.key("adapter.lora.alpha").kind == F32
        change(image)
        (tmp_path / "bad.gguf").write_bytes(image.pack())
        with pytest.raises(ModelLoadFailed, match=r"bad\.gguf is not an adapter that can be loaded") as caught:
            await said(model, (tmp_path / "bad.gguf", 1.0))
        assert name in str(caught.value) or name == "general.type"
    with pytest.raises(ModelLoadFailed, match=r"missing\.gguf cannot be read"):
        await said(model, (tmp_path / "missing.gguf", 1.0))
    with pytest.raises(UsageError, match="the scale nan"):
        await said(model, (tmp_path / "bad.gguf", float("nan")))


def test_a_node_gives_a_model_the_adapters_that_its_settings_name(tmp_path: Path) -> None:
    model = tiny_models.llama().write(tmp_path / "Tiny-1M-F32.gguf")
    adapter = tiny_models.lora(tmp_path / "pirate.gguf")
    said: dict[str, str] = {}
    for name, setting in (("plain", ""), ("of another", f"huge={adapter}"), ("its own", f"tiny:1m={adapter}@1.0")):
        with node(tmp_path / name, engine_lora=setting, engine_n_ctx="128") as one:
            added = one.add(model)
            request = {"model": added["model_id"], "prompt": "hello", "max_tokens": 24, "temperature": 0}
            said[name] = httpx.post(f"{one.status()['http']}/v1/completions", json=request, timeout=60).json()[
                "choices"
            ][0]["text"]
    assert said["plain"] == said["of another"] != said["its own"]


def test_an_adapter_that_is_gone_is_named_with_the_model_that_wants_it(tmp_path: Path) -> None:
    model = tiny_models.llama().write(tmp_path / "Tiny-1M-F32.gguf")
    with node(tmp_path / "home", engine_lora=f"tiny={tmp_path}/gone.gguf") as one:
        added = one.add(model)
        request = {"model": added["model_id"], "prompt": "hello", "max_tokens": 1}
        answer = httpx.post(f"{one.status()['http']}/v1/completions", json=request, timeout=60)
        assert answer.status_code >= 500
        assert "gone.gguf cannot be read" in answer.json()["error"]["message"]

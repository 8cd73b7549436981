"""Vectors and scores from real workers, compared with what llama-cpp-python itself computes."""

from __future__ import annotations

import re
from pathlib import Path

import anyio
import llama_cpp
import numpy as np
import pytest

from hali.engine.options import EngineOptions
from hali.engine.process import EngineProcess
from hali.model.errors import ModelLoadFailed, UsageError
from hali.model.generation import (
    Chunk,
    Done,
    Embed,
    Embeddings,
    GenerateRequest,
    Message,
    Query,
    Rerank,
    SamplingParams,
    Scores,
    Tokenize,
    Tokens,
)
from hali.runtime.trace import Trace, tracing
from tests.engines import running
from tests.fakes import tiny_models
from tests.fakes.gguf_image import text, unpack

TEXTS = ("the cat sat on the mat", "hello world", "dogs", "naïve 詩 \U0001f999", "the dog")
# Of numbers near 1/8: batches of another shape round differently in the last bits of a float32, and random weights,
# which nobody trained to be stable, make more of it. Different texts are 1,000 times as far apart.
CLOSE = 1e-5


async def put(engine: EngineProcess, what: GenerateRequest | Query) -> None:
    """Whatever it is: until its first answer."""
    if isinstance(what, GenerateRequest):
        await anext(engine.generate(what))
    else:
        await engine.ask(what)


async def reply(engine: EngineProcess, request: GenerateRequest) -> str:
    return "".join([event.text async for event in engine.generate(request) if isinstance(event, Chunk)])


async def vectors(engine: EngineProcess, query: Embed) -> np.ndarray:
    answer = await engine.ask(query)
    assert isinstance(answer, Embeddings)
    return np.array([np.frombuffer(vector, "<f4") for vector in answer.vectors])


def expected(path: Path, **options: object) -> np.ndarray:
    """What llama-cpp-python makes of TEXTS, each of length 1."""
    llama = llama_cpp.Llama(str(path), embedding=True, verbose=False, n_ctx=512, **options)
    try:
        return np.array(llama.embed(list(TEXTS), normalize=True))
    finally:
        llama.close()


@pytest.mark.parametrize("pooling", [1, 2, 3])
async def test_a_bert_makes_the_vectors_that_llama_cpp_python_makes(pooling: int, tmp_path: Path) -> None:
    path = tiny_models.bert(pooling=pooling).write(tmp_path / "bert.gguf")
    async with running(path) as engine:
        assert engine.info is not None and (engine.info.kind, engine.info.n_ctx) == ("embedding", 512)
        found = await vectors(engine, Embed(TEXTS))
        tokens = [await engine.ask(Tokenize(text, add_special=True, parse_special=False)) for text in TEXTS]
        ids = tuple(one.tokens for one in tokens if isinstance(one, Tokens))
        assert np.allclose(await vectors(engine, Embed(ids)), found, atol=CLOSE), "tokens stand for their text"
    assert np.allclose(found, expected(path), atol=CLOSE)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=CLOSE)
    assert np.abs(found[0] - found[1]).max() > 0.01, "different texts have different vectors"


@pytest.mark.model
async def test_a_chat_model_makes_vectors_by_the_mean_and_goes_on_chatting(smollm2: Path) -> None:
    chat = GenerateRequest(messages=(Message("user", "Hi"),), sampling=SamplingParams(temperature=0, max_tokens=4))
    async with running(smollm2, EngineOptions(n_ctx=1024)) as engine:
        assert engine.info is not None and engine.info.kind == "chat"
        before = await reply(engine, chat)
        found = await vectors(engine, Embed(TEXTS))
        assert await reply(engine, chat) == before != ""
    assert np.allclose(found, expected(smollm2, pooling_type=llama_cpp.LLAMA_POOLING_TYPE_MEAN), atol=CLOSE)


async def test_many_texts_are_each_their_own_whatever_they_are_computed_with(tmp_path: Path) -> None:
    path = tiny_models.bert().write(tmp_path / "bert.gguf")
    many = tuple(f"{'the cat ' * (number % 40)}{number}" for number in range(60))
    async with running(path, EngineOptions(n_seq_max=4)) as engine:
        together = await vectors(engine, Embed(many))
        alone = np.concatenate([await vectors(engine, Embed((text,))) for text in many[::7]])
    assert np.allclose(together[::7], alone, atol=CLOSE)


@pytest.mark.parametrize("rows", [61, 62, 63])
async def test_any_length_of_texts_and_any_number_of_them_together_works(rows: int, tmp_path: Path) -> None:
    for make in (tiny_models.bert, tiny_models.llama):
        path = make().write(tmp_path / f"{make.__name__}.gguf")
        async with running(path, EngineOptions(n_ctx=rows, n_batch=rows, n_seq_max=5)) as engine:
            assert (await vectors(engine, Embed(("the",) * 7))).shape == (7, 64)


async def test_a_model_without_a_vocabulary_is_not_loaded(tmp_path: Path) -> None:
    path = tiny_models.llama().write(tmp_path / "model.gguf")
    image = unpack(path.read_bytes())
    image.key("tokenizer.ggml.model").value = text(b"none")
    path.write_bytes(image.pack())
    with pytest.raises(ModelLoadFailed, match="has no vocabulary"):
        await EngineProcess("test").start(path)


async def test_without_normalising_the_length_is_the_models_own(tmp_path: Path) -> None:
    path = tiny_models.bert().write(tmp_path / "bert.gguf")
    async with running(path) as engine:
        raw = await vectors(engine, Embed(TEXTS, normalize=False))
        unit = await vectors(engine, Embed(TEXTS))
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert (np.abs(lengths - 1) > 0.01).all() and np.allclose(raw / lengths, unit, atol=CLOSE)


async def test_a_ranking_model_scores_each_document_by_itself(tmp_path: Path) -> None:
    path = tiny_models.bert(pooling=4, ranks=True).write(tmp_path / "ranks.gguf")
    documents = ("the cat sat", "the dog", "hello world")
    async with running(path) as engine:
        assert engine.info is not None and engine.info.kind == "rerank"
        answer = await engine.ask(Rerank("the cat", documents))
        assert isinstance(answer, Scores) and len(set(answer.scores)) == 3
        backwards = await engine.ask(Rerank("the cat", documents[::-1]))
        assert isinstance(backwards, Scores) and np.allclose(backwards.scores[::-1], answer.scores, atol=1e-4)
        # [CLS] query [SEP] document [SEP], as BERT was trained
        lengths = [await engine.ask(Tokenize(text)) for text in ("the cat", *documents)]
        query, *rest = [len(one.tokens) for one in lengths if isinstance(one, Tokens)]
        assert answer.prompt_tokens == sum(query + length + 3 for length in rest)


async def test_each_kind_of_model_says_what_it_cannot_do(tmp_path: Path) -> None:
    chat = GenerateRequest(messages=(Message("user", "hello"),))
    for path, wrong in (
        (tiny_models.bert().write(tmp_path / "bert.gguf"), (Rerank("a", ("b",)), chat)),
        (tiny_models.bert(pooling=4, ranks=True).write(tmp_path / "ranks.gguf"), (Embed(("a",)), chat)),
        (tiny_models.llama().write(tmp_path / "llama.gguf"), (Rerank("a", ("b",)),)),
    ):
        async with running(path, EngineOptions(n_ctx=128)) as engine:
            for query in wrong:
                with pytest.raises(UsageError) as caught:
                    await put(engine, query)
                assert caught.value.code == "unsupported"
            assert isinstance(await engine.ask(Tokenize("a")), Tokens), "and goes on"


async def test_inputs_that_are_none_or_too_long_are_refused_by_their_number(tmp_path: Path) -> None:
    path = tiny_models.bert().write(tmp_path / "bert.gguf")
    async with running(path, EngineOptions(n_ctx=64)) as engine:
        with pytest.raises(
            UsageError, match=re.escape("input 1 has 202 tokens; this model takes at most 64")
        ) as caught:
            await engine.ask(Embed(("the", "the " * 200)))
        assert caught.value.code == "context_length"
        with pytest.raises(UsageError, match="input 0 is empty"):
            await engine.ask(Embed(((),)))
        with pytest.raises(UsageError, match="input 2049 is empty"):
            await engine.ask(Embed(("a", ()), first=2048))
        with pytest.raises(UsageError, match="there is no token 9999"):
            await engine.ask(Embed(((9999,),)))
        with pytest.raises(UsageError, match="2049 inputs"):
            await engine.ask(Embed(("a",) * 2049))
        assert (await vectors(engine, Embed(("the " * 62,)))).shape == (1, 64)


async def test_a_reply_does_not_wait_for_the_vectors_of_many_texts_and_nobody_computes_unwanted_ones(smollm2: Path):
    many = Embed(tuple(f"{number} " + "word " * 40 for number in range(300)))
    ended: list[str] = []
    trace: Trace[object] = Trace()
    async with running(smollm2, EngineOptions(n_ctx=512, n_batch=64, threads=1, threads_batch=1)) as engine:
        async with anyio.create_task_group() as group:

            async def embed() -> None:
                with tracing(trace):
                    await engine.ask(many)
                ended.append("vectors")

            group.start_soon(embed)
            await anyio.wait_all_tasks_blocked()  # it is on its way
            request = GenerateRequest(messages=(Message("user", "hi"),), sampling=SamplingParams(max_tokens=2))
            assert isinstance([event async for event in engine.generate(request)][-1], Done)
            assert ended == []
            group.cancel_scope.cancel()
        over = anyio.Event()
        trace.when_over(over.set)
        await over.wait()  # the worker has told the end of what nobody waits for
        await engine.stop(drain=True)  # which would compute the rest first
        assert ended == []

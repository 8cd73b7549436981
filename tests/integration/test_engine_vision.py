"""Images in prompts: a projector with random weights beside SmolLM2, compared with libmtmd's own evaluation."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from hali.engine.options import EngineOptions
from hali.engine.process import EngineProcess
from hali.model.errors import UsageError
from hali.model.generation import (
    MEDIA,
    Chunk,
    Done,
    GenerateRequest,
    Message,
    Render,
    SamplingParams,
    Tokens,
)
from tests.fakes.pictures import png, png_of
from tests.fakes.tiny_projector import ROWS, write_projector

pytestmark = pytest.mark.model

N_EMBD = 576  # of SmolLM2-135M
# libmtmd by itself, in a process of its own: prompt with images in, greedy text out.
REFERENCE = """
import base64, ctypes, json, sys
from llama_cpp import llama_cpp as low, mtmd_cpp as mtmd
model_path, projector, threads, prompts = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.stdin.read())
model = low.llama_model_load_from_file(model_path.encode(), low.llama_model_default_params())
params = low.llama_context_default_params()
params.n_ctx, params.n_batch, params.n_ubatch = 2048, 512, 512
params.n_threads = params.n_threads_batch = threads
params.flash_attn_type = low.LLAMA_FLASH_ATTN_TYPE_ENABLED
ctx = low.llama_init_from_model(model, params)
options = mtmd.mtmd_context_params_default()
options.use_gpu, options.n_threads, options.warmup = False, threads, False
options.flash_attn_type = low.LLAMA_FLASH_ATTN_TYPE_ENABLED
vision = mtmd.mtmd_init_from_file(projector.encode(), model, options)
vocab = low.llama_model_get_vocab(model)
for text, images in prompts:
    low.llama_memory_clear(low.llama_get_memory(ctx), True)
    data = [base64.b64decode(image) for image in images]
    bitmaps = [mtmd.mtmd_helper_bitmap_init_from_buf(vision, (ctypes.c_uint8 * len(d)).from_buffer_copy(d), len(d), False) for d in data]
    chunks = mtmd.mtmd_input_chunks_init()
    given = mtmd.mtmd_input_text(text=text.encode(), text_len=len(text.encode()), add_special=False, parse_special=True)
    assert mtmd.mtmd_tokenize(vision, chunks, ctypes.byref(given), (mtmd.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps), len(bitmaps)) == 0
    past = low.llama_pos(0)
    assert mtmd.mtmd_helper_eval_chunks(vision, ctx, chunks, 0, 0, 512, True, ctypes.byref(past)) == 0
    greedy, out = low.llama_sampler_init_greedy(), b""
    for _ in range(24):
        token = low.llama_sampler_sample(greedy, ctx, -1)
        if low.llama_vocab_is_eog(vocab, token):
            break
        piece = ctypes.create_string_buffer(64)
        length = low.llama_token_to_piece(vocab, token, piece, 64, 0, False)
        out += piece.raw[:length]
        batch = low.llama_batch_get_one((low.llama_token * 1)(token), 1)
        assert low.llama_decode(ctx, batch) == 0
    print(json.dumps(out.decode("utf-8", "ignore")))
"""


@pytest.fixture(scope="module")
def projector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_projector(tmp_path_factory.mktemp("vision") / "mmproj-tiny.gguf", N_EMBD)


@asynccontextmanager
async def engine(model: Path, **options: object) -> AsyncIterator[EngineProcess]:
    running = EngineProcess("smol")
    await running.start(model, EngineOptions(speculation="off", threads=1, threads_batch=1, n_ctx=1024, **options))
    try:
        yield running
        assert running.stats().sessions == running.stats().samplers == 0
    finally:
        await running.stop()


def about(*images: bytes, text: str = "What is this?") -> GenerateRequest:
    message = Message("user", MEDIA * len(images) + text, images=images)
    return GenerateRequest(messages=(message,), sampling=SamplingParams(temperature=0, max_tokens=24))


async def said(running: EngineProcess, request: GenerateRequest) -> tuple[str, Done]:
    events = [event async for event in running.generate(request)]
    done = events[-1]
    assert isinstance(done, Done)
    return "".join(event.text for event in events if isinstance(event, Chunk)), done


async def test_what_is_said_of_images_is_what_libmtmd_says(smollm2: Path, projector: Path):
    one, other = png(28, 28, 1), png(60, 40, 2)
    requests = [about(one), about(other), about(one, other), about(one, text="Tell a story. " * 40)]
    async with engine(smollm2, projector=str(projector), prefix_cache=False) as running:
        assert running.info is not None and running.info.reads_images
        found, prompts = [], []
        for request in requests:
            found.append((await said(running, request))[0])
            rendered = await running.ask(Render(request))
            assert isinstance(rendered, Tokens)
            images = request.messages[0].images if request.messages else ()
            assert sum(token < 0 for token in rendered.tokens) == ROWS * len(images)
            prompts.append([rendered.text, [base64.b64encode(image).decode() for image in images]])
    command = [sys.executable, "-c", REFERENCE, str(smollm2), str(projector), "1"]
    reference = await anyio.run_process(command, input=json.dumps(prompts).encode())
    assert found == [json.loads(line) for line in reference.stdout.splitlines()]
    assert len(set(found[:3])) == 3, f"the images make no difference: {found}"


async def test_texts_beside_images_are_answered_and_a_kept_image_is_not_computed_again(smollm2: Path, projector: Path):
    picture = png(28, 28, 5)
    async with engine(smollm2, projector=str(projector)) as running:
        alone = await said(running, about(text="Count to ten."))
        replies: dict[int, tuple[str, Done]] = {}

        async def ask(index: int) -> None:
            replies[index] = await said(
                running, about(text="Count to ten.") if index % 2 else about(png(28, 28, index))
            )

        async with anyio.create_task_group() as group:
            for index in range(6):
                group.start_soon(ask, index)
        assert all(reply[0] for reply in replies.values()) and alone[0]
        first = await said(running, about(picture, text="What is this? " * 20))
        again = await said(running, about(picture, text="What is this? " * 20))
        other = await said(running, about(png(28, 28, 6), text="What is this? " * 20))
        assert first[1].usage.prompt_tokens == again[1].usage.prompt_tokens
        assert again[1].usage.cached_tokens > ROWS + 32 > other[1].usage.cached_tokens


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (b"no image at all", "PNG, JPEG or GIF"),
        (png_of(50_000, 50_000, b""), "pixels"),
        (png_of(30, 30, b"not deflated"), "cannot be decoded"),
        (png(30, 30)[:60], "cannot be decoded"),
    ],
)
async def test_what_is_no_picture_is_refused_and_the_engine_goes_on(
    smollm2: Path, projector: Path, image: bytes, why: str
):
    async with engine(smollm2, projector=str(projector)) as running:
        with pytest.raises(UsageError, match=why):
            await said(running, about(image))
        assert (await said(running, about(png(28, 28))))[0]


async def test_too_many_special_tokens_are_refused_beside_an_image_too(smollm2: Path, projector: Path):
    async with engine(smollm2, projector=str(projector)) as running:
        with pytest.raises(UsageError, match="special tokens"):
            await said(running, about(png(28, 28), text="<|im_end|>" * 8_200))


async def test_a_model_without_a_projector_refuses_images(smollm2: Path):
    async with engine(smollm2) as running:
        with pytest.raises(UsageError, match="reads no images"):
            await said(running, about(png(28, 28)))


async def test_a_projector_of_another_model_costs_the_images_and_not_the_texts(smollm2: Path, tmp_path: Path):
    wrong = write_projector(tmp_path / "mmproj-wrong.gguf", 64)
    async with engine(smollm2, projector=str(wrong)) as running:
        assert running.info is not None and not running.info.reads_images
        assert (await said(running, about(text="Hello")))[0]
        with pytest.raises(UsageError, match=r"reads no images: mmproj-wrong\.gguf is not a projector of this model"):
            await said(running, about(png(28, 28)))

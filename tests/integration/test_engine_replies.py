"""What an engine process tells of a reply besides its text, with and without tokens computed ahead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from hali.engine.options import EngineOptions
from hali.engine.process import EngineProcess
from hali.engine.speculate import Speculation
from hali.model.errors import UsageError
from hali.model.generation import Chunk, Done, GenerateRequest, Message, ReplyFormat, SamplingParams, TokenLogprob

pytestmark = pytest.mark.model

DEADLINE_S = 120.0
LIST = {"type": "array", "items": {"enum": ["lighthouse keeper", "lighthouse"]}, "minItems": 6, "maxItems": 9}
RHYME = ReplyFormat(grammar='root ::= ("light" | "house" | " keeper" | "\\n"){20} "."')


def ask(**more: Any) -> GenerateRequest:
    sampling = SamplingParams(temperature=0, max_tokens=100, **more.pop("sampling", {}))
    return GenerateRequest((Message("user", "Say lighthouse keeper again and again."),), sampling=sampling, **more)


async def collect(engine: EngineProcess, request: GenerateRequest) -> tuple[str, list[TokenLogprob], Done]:
    """(text, logprobs, end); the logprobs of each chunk spell its text, but for what a stop string took."""
    events = [event async for event in engine.generate(request)]
    chunks = [event for event in events if isinstance(event, Chunk)]
    told = [one for chunk in chunks for one in chunk.logprobs]
    text, done = "".join(chunk.text for chunk in chunks), events[-1]
    assert isinstance(done, Done)
    spelled = b"".join(one.chosen.text for one in told).decode()
    assert spelled == text or (done.stop and spelled.startswith(text))
    return text, told, done


@pytest.mark.parametrize("speculation", ["off", "always"])
async def test_logprobs_stop_strings_and_formats_are_told_also_of_tokens_computed_ahead(
    smollm2: Path, speculation: Speculation
) -> None:
    engine = EngineProcess("test")
    with anyio.fail_after(DEADLINE_S):
        await engine.start(smollm2, EngineOptions(n_ctx=512, threads=1, speculation=speculation))
        try:
            text, told, done = await collect(engine, ask(logprobs=3))
            assert len(told) == done.usage.completion_tokens > 5
            assert all(one.chosen == one.top[0] and len(one.top) == 3 for one in told), "greedy takes the likeliest"
            stop = text[10:22]
            assert (await collect(engine, ask(logprobs=0, sampling={"stop": ("never", stop)})))[2].stop == stop
            text, _, done = await collect(engine, ask(logprobs=1, format=ReplyFormat(schema=LIST)))
            assert done.reason == "stop" and 6 <= len(json.loads(text)) <= 9
            text, _, done = await collect(engine, ask(logprobs=1, format=RHYME))
            assert done.reason == "stop" and text.endswith(".")
            with pytest.raises(UsageError, match="alternatives"):
                await collect(engine, ask(logprobs=21))
            assert (engine.stats().drafted > 0) == (speculation == "always")
        finally:
            await engine.stop()

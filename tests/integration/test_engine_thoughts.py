"""A format that holds from the end of the thoughts on, with a small model that has tokens for their marks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from hali.engine.options import EngineOptions
from hali.engine.process import EngineProcess
from hali.model.generation import Chunk, Done, GenerateRequest, Message, ReplyFormat, SamplingParams, Tool, ToolCalled
from tests.fakes import tiny_models

DEADLINE_S = 120.0
MARKS = ("<think>", "</think>")
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
)
BEGIN, END = 263, 264  # behind 256 letters and 7 merges
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
LIKELY = 6.0
TOOLS = (Tool("f", parameters=SCHEMA),)


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EngineProcess]:
    tiny = tiny_models.llama(vocabulary=partial(tiny_models.bpe, marks=MARKS, template=TEMPLATE))
    engine = EngineProcess("test")
    with anyio.fail_after(DEADLINE_S):
        await engine.start(tiny.write(tmp_path / "m.gguf"), EngineOptions(n_ctx=512, threads=1))
        try:
            yield engine
        finally:
            await engine.stop()


async def reply(
    engine: EngineProcess, *, ends: float, think: bool | None = True, **more: Any
) -> tuple[str, str, Any, Done]:
    """(thoughts, answer, calls, end); `ends` is how much likelier the end of the thoughts is made."""
    sampling = SamplingParams(seed=1, max_tokens=120, logit_bias={END: ends, BEGIN: -100})
    kwargs = {} if think is None else {"enable_thinking": think}
    request = GenerateRequest((Message("user", "hello"),), sampling=sampling, template_kwargs=kwargs, **more)
    events = [event async for event in engine.generate(request)]
    chunks = [event for event in events if isinstance(event, Chunk)]
    calls = [event.call for event in events if isinstance(event, ToolCalled)]
    done = events[-1]
    assert isinstance(done, Done)
    said = ["".join(chunk.text for chunk in chunks if chunk.reasoning is thought) for thought in (True, False)]
    return said[0], said[1], calls, done


async def test_thoughts_that_were_asked_for_come_before_an_answer_in_the_format(engine: EngineProcess) -> None:
    thoughts, answer, _, done = await reply(engine, ends=LIKELY, format=ReplyFormat(schema=SCHEMA))
    assert thoughts and done.reason == "stop" and done.usage.reasoning_tokens > 1
    assert json.loads(answer)["a"] in (True, False)
    thoughts, answer, calls, done = await reply(engine, ends=LIKELY, tools=TOOLS, tool_choice="required")
    assert done.usage.reasoning_tokens and not answer and done.reason == "tool_calls"
    assert [(call.name, json.loads(call.arguments)["a"] in (True, False)) for call in calls] == [("f", True)]


async def test_thoughts_do_not_end_the_reply_and_others_are_not_waited_for(engine: EngineProcess) -> None:
    thoughts, answer, _, done = await reply(engine, ends=-100.0, format=ReplyFormat(schema=SCHEMA))
    assert (answer, done.reason) == ("", "length") and thoughts
    for think in (False, None):
        thoughts, answer, _, done = await reply(engine, ends=-100.0, think=think, format=ReplyFormat(schema=SCHEMA))
        assert not thoughts and json.loads(answer)["a"] in (True, False) and done.reason == "stop"

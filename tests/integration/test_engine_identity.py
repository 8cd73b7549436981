"""Alone, at temperature 0 and with nothing guessed ahead, the engine's text is llama-cpp-python's own, byte for byte."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from hali.engine.options import EngineOptions
from hali.engine.process import EngineProcess
from hali.model.generation import Done, GenerateRequest, Message, SamplingParams

pytestmark = pytest.mark.model

# The whole reference is llama-cpp-python's documented front door, in a process of its own.
REFERENCE = """
import json, sys, llama_cpp
path, n_ctx = sys.argv[1], int(sys.argv[2])
llm = llama_cpp.Llama(path, n_ctx=n_ctx, n_threads=1, n_threads_batch=1, flash_attn=True, verbose=False)
for line in sys.stdin:
    case = json.loads(line)
    llm.reset()  # a new conversation each time: no prefix of the last one is reused
    if "messages" in case:
        answer = llm.create_chat_completion(case["messages"], **case["args"])
        text = answer["choices"][0]["message"]["content"]
    else:
        answer = llm.create_completion(case["prompt"], **case["args"])
        text = answer["choices"][0]["text"]
    print(json.dumps([text, answer["choices"][0]["finish_reason"], answer["usage"]]), flush=True)
"""
WORDS = "The quick brown fox, number {}, jumps over the lazy dog and remembers the colour {} for later.\n"
COLOURS = ("red", "green", "blue", "ochre", "teal")


def _story(lines: int) -> str:
    return "".join(WORDS.format(i, COLOURS[i % 5]) for i in range(lines))


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


GREEDY: dict[str, dict[str, Any]] = {
    "short": {"messages": _user("Count to 30"), "args": {"max_tokens": 40}},
    "to the end": {"messages": _user("What is the capital of France? Answer with one word."), "args": {}},
    "longer than a batch": {"messages": _user(_story(24) + "Which animal jumps?"), "args": {"max_tokens": 32}},
    "three batches": {"messages": _user(_story(44) + "Sum it up."), "args": {"max_tokens": 16}},
    "many turns": {
        "messages": [
            {"role": "system", "content": "You are a pirate."},
            {"role": "user", "content": "Who are you?"},
            {"role": "assistant", "content": "Arr, Captain Blue."},
            {"role": "user", "content": "Where is your ship?"},
        ],
        "args": {"max_tokens": 40},
    },
    "not ASCII": {"messages": _user("Réponds en français : où est la 🦙 ? 日本語でも。"), "args": {"max_tokens": 40}},
    "emoji": {"messages": _user("Write ten different emoji: 😀 😎"), "args": {"max_tokens": 40}},
    "ends inside a character": {"messages": _user("Write ten different emoji: 😀 😎"), "args": {"max_tokens": 9}},
    "and one token later": {"messages": _user("Write ten different emoji: 😀 😎"), "args": {"max_tokens": 10}},
    "Japanese": {"messages": _user("次の文を続けて: 昔々、あるところに"), "args": {"max_tokens": 11}},
    "Japanese again": {"messages": _user("次の文を続けて: 昔々、あるところに"), "args": {"max_tokens": 12}},
    "stop strings": {"messages": _user("Count to 30"), "args": {"max_tokens": 40, "stop": ["4.", "never"]}},
    "stop inside a token": {"messages": _user("Tell me about the sea."), "args": {"max_tokens": 40, "stop": ["cean"]}},
    "penalties": {
        "messages": _user("Repeat the word hello many times."),
        "args": {"max_tokens": 40, "repeat_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.2},
    },
    "raw prompt": {"prompt": "Once upon a time", "args": {"max_tokens": 40}},
    "empty content": {"messages": _user(""), "args": {"max_tokens": 24}},
    "no reply wanted but one": {"messages": _user("Hi"), "args": {"max_tokens": 1}},
}
SEEDED = {"max_tokens": 40, "temperature": 0.9, "top_p": 0.9, "top_k": 50, "min_p": 0.02, "seed": 1234}


async def _reference(path: Path, n_ctx: int, cases: list[dict[str, Any]]) -> list[list[Any]]:
    command = [sys.executable, "-c", REFERENCE, str(path), str(n_ctx)]
    text = "".join(json.dumps(case) + "\n" for case in cases)
    with anyio.fail_after(300):
        done = await anyio.run_process(command, input=text.encode(), check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _request(case: dict[str, Any]) -> GenerateRequest:
    args = dict(case["args"])
    args["stop"] = tuple(args.pop("stop", ()))
    messages = tuple(Message(**message) for message in case["messages"]) if "messages" in case else None
    return GenerateRequest(messages=messages, prompt=case.get("prompt"), sampling=SamplingParams(**args))


async def _ours(engine: EngineProcess, case: dict[str, Any]) -> list[Any]:
    events = [event async for event in engine.generate(_request(case))]
    done = events[-1]
    assert isinstance(done, Done)
    usage = {
        "prompt_tokens": done.usage.prompt_tokens,
        "completion_tokens": done.usage.completion_tokens,
        "total_tokens": done.usage.prompt_tokens + done.usage.completion_tokens,
    }
    return ["".join(event.text for event in events[:-1]), done.reason, usage]


async def _compare(smollm2: Path, options: EngineOptions, n_ctx: int, cases: dict[str, dict[str, Any]]) -> None:
    expected: list[list[Any]] = []
    got: list[list[Any]] = []

    async def theirs() -> None:
        expected.extend(await _reference(smollm2, n_ctx, list(cases.values())))

    engine = EngineProcess("smollm2")
    await engine.start(smollm2, options)
    try:
        async with anyio.create_task_group() as group:  # side by side: the text does not depend on the time it takes
            group.start_soon(theirs)
            for case in cases.values():
                got.append(await _ours(engine, case))
    finally:
        await engine.stop()
    assert dict(zip(cases, got, strict=True)) == dict(zip(cases, expected, strict=True))


async def test_alone_and_greedy_the_text_is_llama_cpp_pythons_own(smollm2: Path) -> None:
    cases = {name: {**case, "args": {**case["args"], "temperature": 0}} for name, case in GREEDY.items()}
    await _compare(smollm2, EngineOptions(threads=1, speculation="off"), 4096, cases)


async def test_the_same_seed_draws_the_same_text_as_llama_cpp_python(smollm2: Path) -> None:
    await _compare(
        smollm2,
        EngineOptions(threads=1, speculation="off"),
        4096,
        {"seeded": {"messages": _user("Tell me a tale."), "args": SEEDED}},
    )


async def test_a_full_context_ends_the_reply_where_llama_cpp_python_ends_it(smollm2: Path) -> None:
    case = {"messages": _user("Write a very long story."), "args": {"temperature": 0}}
    await _compare(smollm2, EngineOptions(n_ctx=256, threads=1, speculation="off"), 256, {"full": case})

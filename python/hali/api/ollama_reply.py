"""What Ollama's /api/chat and /api/generate answer: lines of JSON, and the whole reply folded from the very same lines."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from hali.api.dialects import ollama_body
from hali.api.endings import ended, unfinished
from hali.api.openai_reply import finite
from hali.model.errors import HaliError
from hali.model.generation import Candidate, Chunk, Done, GenerationEvent, ToolCalled

Line = dict[str, Any]
Shape = Literal["chat", "generate"]


def ndjson(line: Any) -> bytes:
    """One line; JSON from msgspec has no line break."""
    return msgspec.json.encode(line) + b"\n"


async def encoded(lines: AsyncGenerator[Line, None]) -> AsyncGenerator[bytes, None]:
    """Lines of JSON."""
    async with aclosing(lines):
        async for line in lines:
            yield ndjson(line)


def failed(error: HaliError) -> bytes:
    """An error in the middle of a stream."""
    return ndjson(ollama_body(error))


def rfc3339(seconds: float) -> str:
    """UTC, as Go's clients parse it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


async def reply_lines(
    events: AsyncGenerator[GenerationEvent, None], model: str, shape: Shape, *, thoughts: bool
) -> AsyncGenerator[Line, None]:
    """The reply to a request for `model`, as named there. Without `thoughts` those of the model are left out."""
    began, last = time.monotonic(), None
    async with aclosing(events):
        async for item in events:
            last = item
            if isinstance(item, Done):
                yield _line(model, shape, {}) | _end(item, time.monotonic() - began)
            elif isinstance(item, ToolCalled):
                yield _line(model, shape, {"tool_calls": [_called(item)]})
            elif item.reasoning and thoughts and item.text:
                yield _line(model, shape, {"thinking": item.text}) | _logprobs(item)
            elif not item.reasoning and (item.text or item.logprobs):
                yield _line(model, shape, {"content": item.text}) | _logprobs(item)
    if not isinstance(last, Done):
        raise unfinished()


def _line(model: str, shape: Shape, said: Line) -> Line:
    head = {"model": model, "created_at": rfc3339(time.time()), "done": False}
    if shape == "chat":
        return {**head, "message": {"role": "assistant", "content": "", **said}}
    text = said.pop("content", "")
    return {**head, "response": text, **said}


def _called(item: ToolCalled) -> Line:
    call = item.call
    arguments = msgspec.Raw((call.arguments or "{}").encode())
    return {"id": call.id, "function": {"index": item.index, "name": call.name, "arguments": arguments}}


def _end(done: Done, wall_s: float) -> Line:
    """Durations in nanoseconds; what went by before the engine took the request was loading and waiting."""
    usage = ended(done).usage
    first = usage.ttft_s if usage.ttft_s is not None else usage.total_s
    return {
        "done": True,
        "done_reason": "length" if done.reason == "length" else "stop",
        "total_duration": _ns(max(wall_s, usage.total_s)),
        "load_duration": _ns(max(wall_s - usage.total_s, 0)),
        "prompt_eval_count": usage.prompt_tokens,
        "prompt_eval_duration": _ns(first),
        "eval_count": usage.completion_tokens,
        "eval_duration": _ns(max(usage.total_s - first, 0)),
    }


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _logprobs(chunk: Chunk) -> Line:
    found = [{**_token(each.chosen), "top_logprobs": [_token(other) for other in each.top]} for each in chunk.logprobs]
    return {"logprobs": found} if found else {}


def _token(candidate: Candidate) -> Line:
    text = candidate.text
    return {"token": text.decode(errors="replace"), "logprob": finite(candidate.logprob), "bytes": list(text)}


async def whole(lines: AsyncIterator[Line], shape: Shape) -> Line:
    """The whole reply: the last line with all that was said in those before."""
    said: dict[str, list[Any]] = {}
    last: Line = {}
    async for last in lines:
        part = last["message"] if shape == "chat" else {**last, "content": last["response"]}
        for name in ("content", "thinking", "tool_calls"):
            said.setdefault(name, []).extend([part[name]] if isinstance(part.get(name), str) else part.get(name, []))
        said.setdefault("logprobs", []).extend(last.get("logprobs", []))
    return _folded(last, said, shape)


def _folded(last: Line, said: dict[str, list[Any]], shape: Shape) -> Line:
    text, thinking = "".join(said["content"]), "".join(said["thinking"])
    extra = {"thinking": thinking} if thinking else {}
    calls = {"tool_calls": said["tool_calls"]} if said["tool_calls"] else {}
    logprobs = {"logprobs": said["logprobs"]} if said["logprobs"] else {}
    if shape == "chat":
        return {**last, **logprobs, "message": {"role": "assistant", "content": text, **extra, **calls}}
    return {**last, **logprobs, "response": text, **extra, **calls}

"""What POST /v1/chat/completions answers: one JSON object, or the same as server-sent events, field for field as
OpenAI sends them.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from hali.api.endings import ended
from hali.api.openai_replies import Indexed, Reply, gathered
from hali.api.openai_reply import DONE, Frame, event, logprobs_of, usage_of
from hali.model.generation import Chunk, Done, ToolCall, ToolCalled

WHOLE, CHUNK = "chat.completion", "chat.completion.chunk"


class ChatShape:
    """How one request wants its replies: with logprobs, with calls in the old form, with usage in the stream."""

    def __init__(self, frame: Frame, *, replies: int, logprobs: bool, functions: bool, include_usage: bool) -> None:
        self.frame, self.replies = frame, replies
        self._logprobs, self._functions, self._include_usage = logprobs, functions, include_usage

    async def whole(self, events: Indexed) -> dict[str, Any]:
        """All replies in one object."""
        replies = await gathered(events, self.replies)
        choices = [self._choice(index, reply, done) for index, (reply, done) in enumerate(replies)]
        usage = usage_of([done for _, done in replies], per_prompt=self.replies)
        return {**self.frame.object(WHOLE, choices), "usage": usage}

    async def stream(self, events: Indexed) -> AsyncGenerator[bytes, None]:
        """Of each reply the role first, then what it says, then why it ended; then (if asked) the usage, then [DONE].

        Nothing is yielded before the engine's first event, so that an early failure still can have an HTTP status.
        """
        finished: dict[int, Done] = {}
        begun: set[int] = set()
        async with aclosing(events):
            async for index, item in events:
                if index not in begun:
                    begun.add(index)
                    yield self._chunk(index, {"role": "assistant", "content": "", "refusal": None})
                if isinstance(item, Done):
                    finished[index] = ended(item)
                    yield self._chunk(index, {}, reason=self._reason(item))
                elif (said := self._said(index, item)) is not None:
                    yield said
        usages = [ended(finished.get(index)) for index in range(self.replies)]
        if self._include_usage:
            yield event({**self.frame.object(CHUNK, []), "usage": usage_of(usages, per_prompt=self.replies)})
        yield DONE

    def _choice(self, index: int, reply: Reply, done: Done) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None}
        if reply.thought:
            message["reasoning_content"] = reply.thought
        if reply.calls:
            message |= self._calls([_call(call) for call in reply.calls])
            message["content"] = reply.text or None
        logprobs = {"content": logprobs_of(reply.logprobs), "refusal": None} if self._logprobs else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": self._reason(done)}

    def _said(self, index: int, item: Chunk | ToolCalled) -> bytes | None:
        if isinstance(item, ToolCalled):
            return self._chunk(index, self._calls([{"index": item.index, **_call(item.call)}]))
        if item.reasoning:
            return self._chunk(index, {"reasoning_content": item.text}) if item.text else None
        logprobs = {"content": logprobs_of(item.logprobs), "refusal": None} if self._logprobs else None
        if item.text or (self._logprobs and item.logprobs):  # a token may be half of a character
            return self._chunk(index, {"content": item.text}, logprobs=logprobs)
        return None

    def _chunk(self, index: int, delta: dict[str, Any], *, logprobs: Any = None, reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        extra: dict[str, Any] = {"usage": None} if self._include_usage else {}
        return event({**self.frame.object(CHUNK, [choice]), **extra})

    def _calls(self, calls: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {"function_call": calls[0]["function"]} if self._functions else {"tool_calls": calls}

    def _reason(self, done: Done) -> str:
        return "function_call" if self._functions and done.reason == "tool_calls" else done.reason


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}

"""A response in the making: generation events in, OpenAI's numbered events out, and the object as it is now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from hali.api.endings import ended
from hali.api.openai_reply import logprobs_of, new_id
from hali.api.problems import body_of
from hali.model.errors import HaliError
from hali.model.generation import Chunk, Done, GenerationEvent, TokenLogprob, ToolCalled, Usage

_ENDS = ("completed", "incomplete", "failed", "cancelled")
# OpenAI's clients know few names of failures; the text tells the rest
_ERROR_CODES = {"invalid_request_error": "invalid_prompt", "rate_limit_error": "rate_limit_exceeded"}


class _Open:
    """The item being written: a message or a thought, of one part."""

    def __init__(self, index: int, thought: bool) -> None:
        self.index, self.thought = index, thought
        self.id = new_id("rs_" if thought else "msg_")
        self.texts: list[str] = []
        self.logprobs: list[TokenLogprob] = []

    def item(self, status: str, *content: dict[str, Any]) -> dict[str, Any]:
        """The item with these parts."""
        own: dict[str, Any] = (
            {"type": "reasoning", "summary": []} if self.thought else {"type": "message", "role": "assistant"}
        )
        return {"id": self.id, **own, "status": status, "content": list(content)}

    def part(self) -> dict[str, Any]:
        """The part as far as it was said."""
        text = "".join(self.texts)
        if self.thought:
            return {"type": "reasoning_text", "text": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs_of(self.logprobs)}

    @property
    def place(self) -> dict[str, Any]:
        """Where its events belong."""
        return {"item_id": self.id, "output_index": self.index, "content_index": 0}


class ResponseWriter:
    """Each call returns the events, as bytes, that follow from it; `response` is the object up to the last whole item."""

    def __init__(self, head: dict[str, Any]) -> None:
        self.response = head
        self._sequence = 0
        self._open: _Open | None = None

    @property
    def ended(self) -> bool:
        """Nothing more will happen."""
        return self.response["status"] in _ENDS

    def begin(self) -> bytes:
        """The response exists; in the background it waits first."""
        state = "queued" if self.response["status"] == "queued" else "in_progress"
        return self._state("created") + self._state(state)

    def proceed(self) -> bytes:
        """A response that waited is being made."""
        if self.response["status"] != "queued":
            return b""
        self.response["status"] = "in_progress"
        return self._state("in_progress")

    def take(self, event: GenerationEvent) -> bytes:
        """What the engine said; `EngineFailed` if the model was stopped there."""
        match event:
            case Chunk():
                return b"".join(self._said(event))
            case ToolCalled():
                return b"".join(self._called(event))
            case Done():
                return b"".join(self._done(ended(event)))

    def fail(self, error: HaliError) -> bytes:
        """The end by an error; what was said before it is kept."""
        told = body_of(error)["error"]
        code = _ERROR_CODES.get(told["type"], "server_error")
        self.response["error"] = {**told, "code": code}
        return b"".join(self._end("failed"))

    def cancel(self) -> bytes:
        """The end by a wish; what was said before it is kept."""
        return b"".join(self._end("cancelled"))

    def _said(self, chunk: Chunk) -> Iterator[bytes]:
        if not chunk.text and not chunk.logprobs:
            return
        if self._open is None or self._open.thought != chunk.reasoning:
            yield from self._close("completed")
            yield from self._begin(chunk.reasoning)
        assert self._open is not None
        self._open.texts.append(chunk.text)
        self._open.logprobs += chunk.logprobs
        logprobs = {} if self._open.thought else {"logprobs": logprobs_of(chunk.logprobs)}
        yield self._event(f"{self._words}.delta", **self._open.place, delta=chunk.text, **logprobs)

    @property
    def _words(self) -> str:
        assert self._open is not None
        return "response.reasoning_text" if self._open.thought else "response.output_text"

    def _begin(self, thought: bool) -> Iterator[bytes]:
        self._open = _Open(len(self.response["output"]), thought)
        yield self._item_event("added", self._open.index, self._open.item("in_progress"))
        yield self._event("response.content_part.added", **self._open.place, part=self._open.part())

    def _close(self, status: str) -> Iterator[bytes]:
        if (now := self._open) is None:
            return
        part, words = now.part(), self._words
        logprobs = {} if now.thought else {"logprobs": part["logprobs"]}
        yield self._event(f"{words}.done", **now.place, text=part["text"], **logprobs)
        yield self._event("response.content_part.done", **now.place, part=part)
        yield from self._finish(now.index, now.item(status, part))
        self._open = None

    def _called(self, called: ToolCalled) -> Iterator[bytes]:
        yield from self._close("completed")
        index, call = len(self.response["output"]), called.call
        item = {"id": new_id("fc_"), "type": "function_call", "call_id": call.id, "name": call.name}
        place = {"item_id": item["id"], "output_index": index}
        yield self._item_event("added", index, {**item, "status": "in_progress", "arguments": ""})
        yield self._event("response.function_call_arguments.delta", **place, delta=call.arguments)
        yield self._event("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments)
        yield from self._finish(index, {**item, "status": "completed", "arguments": call.arguments})

    def _done(self, done: Done) -> Iterator[bytes]:
        if self._open is None and not self.response["output"]:  # clients look for a message, be it empty
            yield from self._begin(thought=False)
        self.response["usage"] = _usage(done.usage)
        if done.reason == "length":
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
            yield from self._end("incomplete")
        else:
            yield from self._end("completed")

    def _end(self, status: str) -> Iterator[bytes]:
        yield from self._close("completed" if status == "completed" else "incomplete")
        self.response["status"] = status
        if status != "cancelled":  # of which OpenAI has no event: the stream just ends
            yield self._state(status)

    def _finish(self, index: int, item: dict[str, Any]) -> Iterator[bytes]:
        self.response["output"].append(item)
        yield self._item_event("done", index, item)

    def _item_event(self, what: str, index: int, item: dict[str, Any]) -> bytes:
        return self._event(f"response.output_item.{what}", output_index=index, item=item)

    def _state(self, name: str) -> bytes:
        return self._event(f"response.{name}", response=self.response)

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._sequence, **fields}
        self._sequence += 1
        return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"


def _usage(usage: Usage) -> dict[str, Any]:
    new = usage.prompt_tokens - usage.cached_tokens  # all of them are in the KV cache now
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": new},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }

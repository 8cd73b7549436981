"""What POST /v1/completions answers, whole or as events."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import msgspec

from hali.api.endings import ended
from hali.api.openai_replies import Indexed, Reply, gathered
from hali.api.openai_reply import DONE, Frame, event, finite, usage_of
from hali.model.generation import Candidate, Chunk, Done, TokenLogprob

KIND = "text_completion"


class CompletionShape(msgspec.Struct, frozen=True):
    """How one request wants its replies; `echoes` is what stands before each (of one prompt: nothing or the prompt)."""

    frame: Frame
    echoes: tuple[str, ...]
    replies: int  # of each prompt
    tries: int  # of each prompt, of which the best `replies` are given
    logprobs: bool
    include_usage: bool

    async def whole(self, events: Indexed) -> dict[str, Any]:
        """All replies in one object; the usage counts those too that were not good enough."""
        made = await gathered(events, len(self.echoes) * self.tries)
        choices: list[dict[str, Any]] = []
        for place, echo in enumerate(self.echoes):
            of_prompt = made[place * self.tries : (place + 1) * self.tries]
            choices += [self._choice(echo, reply, done) for reply, done in best(of_prompt, self.replies)]
        usage = usage_of([done for _, done in made], per_prompt=self.tries)
        numbered = [{**choice, "index": index} for index, choice in enumerate(choices)]
        return {**self.frame.object(KIND, numbered), "usage": usage}

    async def stream(self, events: Indexed) -> AsyncGenerator[bytes, None]:
        """Text as it comes, then why it ended; then (if asked) the usage, then [DONE].

        Nothing is yielded before the engine's first event, so that an early failure still can have an HTTP status.
        """
        offsets: dict[int, Offsets] = {}
        finished: dict[int, Done] = {}
        async with aclosing(events):
            async for index, item in events:
                echo = self.echoes[index // self.tries]
                if index not in offsets:
                    offsets[index] = Offsets(len(echo))
                    if echo:
                        yield self._chunk(index, echo)
                if isinstance(item, Done):
                    finished[index] = item
                    yield self._chunk(index, "", reason=ended(item).reason)
                elif isinstance(item, Chunk) and (item.text or item.logprobs):
                    yield self._chunk(index, item.text, logprobs=self._legacy(item.logprobs, offsets[index]))
        usages = [ended(finished.get(index)) for index in range(len(self.echoes) * self.tries)]
        if self.include_usage:
            yield event({**self.frame.object(KIND, []), "usage": usage_of(usages, per_prompt=self.tries)})
        yield DONE

    def _choice(self, echo: str, reply: Reply, done: Done) -> dict[str, Any]:
        logprobs = self._legacy(reply.logprobs, Offsets(len(echo)))
        return {"index": 0, "text": echo + reply.text, "logprobs": logprobs, "finish_reason": done.reason}

    def _chunk(self, index: int, text: str, *, logprobs: Any = None, reason: str | None = None) -> bytes:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        extra: dict[str, Any] = {"usage": None} if self.include_usage else {}
        return event({**self.frame.object(KIND, [choice]), **extra})

    def _legacy(self, tokens: Sequence[TokenLogprob], offsets: Offsets) -> dict[str, Any] | None:
        return legacy_logprobs(tokens, offsets) if self.logprobs else None


def best(made: Sequence[tuple[Reply, Done]], wanted: int) -> list[tuple[Reply, Done]]:
    """Those whose tokens are the likeliest on average, the best first; all of them in their order if all are wanted."""
    if len(made) == wanted:
        return list(made)
    return sorted(made, key=lambda each: _likelihood(each[0]), reverse=True)[:wanted]


def _likelihood(reply: Reply) -> float:
    """The mean logprob of a token; the least for a reply without any."""
    if not reply.logprobs:
        return finite(-float("inf"))
    return sum(each.chosen.logprob for each in reply.logprobs) / len(reply.logprobs)


class Offsets:
    """Where the tokens of one reply begin, in characters of its text; one that is split over tokens, and events, counts once."""

    def __init__(self, start: int) -> None:
        self._at = start
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")  # as the text is made

    def of(self, token: bytes) -> int:
        """Where the next token begins."""
        begins = self._at
        self._at += len(self._decoder.decode(token))
        return begins


def legacy_logprobs(tokens: Sequence[TokenLogprob], offsets: Offsets) -> dict[str, Any]:
    """Four lists side by side, of the next tokens of a reply."""
    return {
        "tokens": [_spelled(each.chosen) for each in tokens],
        "token_logprobs": [finite(each.chosen.logprob) for each in tokens],
        "top_logprobs": [{_spelled(one): finite(one.logprob) for one in each.top} for each in tokens],
        "text_offset": [offsets.of(each.chosen.text) for each in tokens],
    }


def _spelled(candidate: Candidate) -> str:
    """The token as text, a part of a character by its bytes, as OpenAI does it: here they are keys, which must differ."""
    try:
        return candidate.text.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in candidate.text)

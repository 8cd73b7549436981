"""One generation inside the worker: its tokens, what is already computed, and what becomes of each sampled token."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from hali.engine.output import ReplyReader
from hali.engine.schedule import Work
from hali.engine.speculate import Guesser, HitRate
from hali.engine.telling import Bundle, Drawn, Untold, append
from hali.engine.text import InsideCharacter, TextStream
from hali.model.generation import (
    Chunk,
    Done,
    FinishReason,
    GenerationEvent,
    SamplingParams,
    TokenLogprob,
    ToolCalled,
    Usage,
)

MAX_STOP_BYTES = 1024  # of one stop string


class Picture(Protocol):
    """An image of the prompt, at the positions [`start`, `start` + `count`)."""

    @property
    def start(self) -> int:
        """Its first position."""

    @property
    def count(self) -> int:
        """How many it takes."""

    def close(self) -> None:
        """Give its native part back."""


class Drawer(Protocol):
    """What a session needs of a sampler."""

    def sample(self, ctx: Any, row: int) -> int:
        """Draw a token from the logits of a row."""

    def drawn(self) -> Drawn:
        """More about the first token drawn that was not yet asked about."""

    def close(self) -> None:
        """Give the native chain back."""


class Session:
    """State of one request. `key` is its sequence id in llama.cpp while it is admitted, else -1."""

    def __init__(
        self,
        ident: bytes,
        prompt: list[int],
        sampling: SamplingParams,
        *,
        stops: tuple[str, ...],
        n_ctx: int,
        sampler: Drawer,
        reader: ReplyReader | None = None,
        pictures: tuple[Picture, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ident = ident
        self.tokens = list(prompt)
        self.n_prompt = len(prompt)
        self.sampler = sampler
        self.key = -1
        self.done = 0  # tokens whose KV cells exist
        self.step = 0  # events sent so far
        self.cached = 0  # tokens of the prompt that were kept from earlier requests
        self.guesser = Guesser()
        self.draft_hits: HitRate | None = None  # of the draft model, once it was asked
        self.bundle = Bundle(clock)
        self._most = n_ctx - self.n_prompt
        # 0 means "no limit of its own", as in llama-cpp-python.
        self._wanted = min(self._most, sampling.max_tokens) if sampling.max_tokens else self._most
        self._inside = InsideCharacter()
        self._stops, self._min_tokens = sampling.stop, sampling.min_tokens
        self._text = TextStream((*sampling.stop, *stops))
        self._untold = Untold()
        self._begins = 0  # see _answer_at
        self._clock, self._began = clock, clock()
        self._computed: float | None = None  # when its first row was
        self._first: float | None = None  # when the first token came
        self._unreported = 0
        self._reader = reader
        self._pictures = pictures

    @property
    def n_reply(self) -> int:
        """Tokens sampled so far; one that ends the reply is not counted."""
        return len(self.tokens) - self.n_prompt

    @property
    def left(self) -> int:
        """Tokens still wanted at most."""
        return self._wanted - self.n_reply

    @property
    def decoding(self) -> bool:
        """Its next row is that of the last token it said. One that was put back has to compute what is before it first."""
        return self.n_reply > 0 and self.done + 1 == len(self.tokens)

    @property
    def sees(self) -> bool:
        """Whether an image stands in its prompt."""
        return bool(self._pictures)

    @property
    def begun(self) -> bool:
        """Whether a row of it was computed."""
        return self._computed is not None

    def begin(self) -> None:
        """A row of it is computed now; the wait in the queue is over."""
        if not self.begun:
            self._computed = self._clock()

    def work(self, own: int | None = None) -> Work:
        """How the scheduler sees it; `own` cells come free when it steps back, None = all it has.

        A session that was put back computes its reply so far like a prompt.
        """
        picture = self._next_picture()
        pending = (len(self.tokens) if picture is None else picture.start) - self.done
        frees = self.done if own is None else own
        return Work(self.key, self.done, pending, decoding=self.decoding, frees=frees)

    @property
    def picture(self) -> Picture | None:
        """The image that must be computed before anything else."""
        found = self._next_picture()
        return found if found is not None and found.start == self.done else None

    def _next_picture(self) -> Picture | None:
        return next((picture for picture in self._pictures if picture.start >= self.done), None)

    def whole(self, done: int) -> int:
        """The most of `done` positions that end inside no image: one is computed as a whole."""
        inside = (p.start for p in self._pictures if p.start < done < p.start + p.count)
        return next(inside, done)

    def close(self) -> None:
        """Give back what is native."""
        self.sampler.close()
        for picture in self._pictures:
            picture.close()

    def accept(self, token: int, piece: bytes, is_end: bool) -> list[GenerationEvent]:
        """Take a sampled token; the events to send. The last one is `Done` when the reply is over."""
        if self._first is None:
            self._first = self._clock()
        logprob, complete = self.sampler.drawn()
        if is_end:
            return self.finish("stop")
        self.tokens.append(token)
        self._unreported += 1
        self._untold.add(piece, logprob)
        text = self._text.push(piece, armed=self.n_reply > self._min_tokens or not self._min_tokens)
        if self._text.stopped:
            return self._close(text, "stop", 1)
        if complete:
            return self._close(text + self._text.finish(), "stop", 1)
        if self._enough(piece):
            return self._close(text + self._text.finish(), "length", 1)
        events = self._events(text, 1)
        return [*events, *self._close("", "stop")] if self._reader is not None and self._reader.over else events

    def spelled(self, mark: bytes) -> bytes:
        """What a special token, which no client sees, adds to the text: itself if it is a mark that the reader needs."""
        return mark if self._reader is not None and self._reader.wants(mark.decode("utf-8", "replace")) else b""

    def usage(self) -> Usage:
        """So far."""
        return Usage(
            self.n_prompt,
            self.n_reply,
            None if self._first is None else self._first - self._began,
            self._clock() - self._began,
            cached_tokens=self.cached,
            queue_s=0.0 if self._computed is None else self._computed - self._began,
            reasoning_tokens=0 if self._reader is None else self._reader.thought_tokens,
        )

    def _enough(self, piece: bytes) -> bool:
        """`max_tokens` is reached, and no character is cut by it; or the context is full."""
        inside = self._inside.push(piece)
        return self.n_reply >= self._most or (self.n_reply >= self._wanted and not inside)

    def finish(self, reason: FinishReason) -> list[GenerationEvent]:
        """End the reply here; held-back text is final now."""
        return self._close(self._text.finish(), reason)

    def _events(self, text: str, tokens: int, *, last: bool = False) -> list[GenerationEvent]:
        """What a text of so many tokens tells; the first of several events counts all that were not yet reported."""
        found: list[Chunk | ToolCalled] = [Chunk(text, 0)] if text else []
        if self._reader is not None:
            found = self._reader.read(text, tokens, last=last)
        if not found:
            return []
        return self._counted(found)

    def _counted(self, found: list[Chunk | ToolCalled]) -> list[GenerationEvent]:
        count, self._unreported = self._unreported, 0
        found[0] = msgspec.structs.replace(found[0], tokens=count)
        answer_at = self._answer_at
        # Also those of a call's tokens, which have no place in it.
        logprobs = self._untold.take(self._text.passed, answer_at)
        of_answer = (at for at, event in enumerate(found) if isinstance(event, Chunk) and not event.reasoning)
        told = found[at := next(of_answer, 0) if answer_at else 0]
        if isinstance(told, Chunk):
            found[at] = msgspec.structs.replace(told, logprobs=logprobs)
        return [*found]

    def _textless(self) -> tuple[TokenLogprob, ...]:
        """At the end, logprobs of tokens of the answer that made no text: parts of a character, special ones. None of a stop string."""
        if self._reader is not None and not self._reader.answering:
            return ()
        final = self._text.passed if self._text.stopped else sys.maxsize
        return self._untold.take(final, self._answer_at)

    @property
    def _answer_at(self) -> int:
        """Where the answer begins, in bytes of tokens; 0 where it is not known (yet). The reader counts those of the text."""
        if self._begins == 0 and self._reader is not None and self._reader.answer_at:
            self._begins = self._reader.answer_at + self._text.dropped
        return self._begins

    def _close(self, text: str, reason: FinishReason, tokens: int = 0) -> list[GenerationEvent]:
        events = self._events(text, tokens, last=True)
        if rest := self._textless():
            count, self._unreported = self._unreported, 0
            append(events, Chunk("", count, logprobs=rest))
        if self._reader is not None and self._reader.called and reason == "stop":
            reason = "tool_calls"
        stop = self._text.stop if self._text.stop in self._stops else None  # those of the format are its own affair
        return [*events, Done(reason, self.usage(), stop)]

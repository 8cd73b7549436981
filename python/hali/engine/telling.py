"""What a sampler tells of a token besides its number, with which text that goes out, and when. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from hali.model.generation import Chunk, GenerationEvent, TokenLogprob, ToolCalled

Event = TypeVar("Event", GenerationEvent, Chunk | ToolCalled)

TOLD_EVERY_S = 0.03  # faster than anybody reads; each telling costs daemon and client as much as a twentieth of a token


class Drawn(NamedTuple):
    """Of one token: its logprob, None where nobody asked; whether the reply's format lets nothing follow it."""

    logprob: TokenLogprob | None = None
    complete: bool = False


class Untold:
    """Logprobs of tokens whose text is held back: each goes out with the first byte of its text, or never."""

    def __init__(self) -> None:
        self._bytes = 0
        self._waiting: deque[tuple[int, int, TokenLogprob]] = deque()  # where its text begins and ends

    def add(self, piece: bytes, logprob: TokenLogprob | None) -> None:
        """The next token of the reply, and the bytes it stands for. None: nobody asked."""
        if logprob is not None:
            self._waiting.append((self._bytes, self._bytes + len(piece), logprob))
        self._bytes += len(piece)

    def take(self, passed: int, after: int = 0) -> tuple[TokenLogprob, ...]:
        """Those whose text begins within the first `passed` bytes, in their order, once; not those that end within `after`."""
        found = []
        while self._waiting and self._waiting[0][0] < passed:
            _, end, logprob = self._waiting.popleft()
            if end > after or not after:
                found.append(logprob)
        return tuple(found)


class Bundle:
    """Texts of one reply that come within `TOLD_EVERY_S` of the last that was told wait for the next ones."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told = float("-inf")
        self._held: list[GenerationEvent] = []

    def put(self, events: Sequence[GenerationEvent]) -> list[GenerationEvent]:
        """What to tell now, of those that wait and `events`: nothing, or all. Asked at each token, be there no event."""
        for event in events:
            append(self._held, event)
        if not self._held:
            return []
        now = self._clock()
        if now - self._told < TOLD_EVERY_S and all(isinstance(event, Chunk) for event in events):
            return []
        self._told = now
        return self.take()

    def take(self) -> list[GenerationEvent]:
        """All that wait."""
        found, self._held = self._held, []
        return found


def append(events: list[Event], event: Event) -> None:
    """Put `event` at the end; a text after one of its kind becomes one with it."""
    before = events[-1] if events else None
    if isinstance(event, Chunk) and isinstance(before, Chunk) and event.reasoning == before.reasoning:
        events[-1] = msgspec.structs.replace(
            before,
            text=before.text + event.text,
            tokens=before.tokens + event.tokens,
            logprobs=before.logprobs + event.logprobs,
        )
    else:
        events.append(event)

"""One HTTP request on its way: who asks, which route, what it costs, and when each stage began and ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from hali.api.budget import Bill, Budget
from hali.api.keys import ApiKey
from hali.model.generation import Chunk, Done, GenerationEvent, ToolCalled, Usage
from hali.runtime.trace import Trace


class Generation:
    """What is measured of one generation. Seconds that nobody measured are None.

    `again`: it is one more reply to a prompt that is counted with the first.
    """

    def __init__(self, *, again: bool = False) -> None:
        self._again = again
        self.trace: Trace[Usage] = Trace()
        self.tokens = 0  # that came
        self.done = False
        self.failed = False
        self.began = time.monotonic()
        self._first: float | None = None
        self._last: float | None = None

    def saw(self, event: GenerationEvent) -> None:
        """Take note of an event that goes to the client."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
        self._last = now
        if isinstance(event, Chunk | ToolCalled):
            self.tokens += event.tokens
        elif isinstance(event, Done):
            self.done, self.trace.used = True, event.usage

    @property
    def used(self) -> Usage | None:
        """As the engine counted; None where it could not tell."""
        return self.trace.used

    def prompt_tokens(self) -> tuple[int, int]:
        """(all, those of them that were kept from before) by the engine's count, where they are counted with this reply."""
        used = None if self._again else self.used
        return (0, 0) if used is None else (used.prompt_tokens, used.cached_tokens)

    def total_tokens(self) -> int:
        """What it is charged with: prompt and reply as the engine counted them, else what was seen to come."""
        return self.tokens if self.used is None else self.prompt_tokens()[0] + self.used.completion_tokens

    def queue_s(self) -> float:
        """Before its turn here, and before its first row in the engine."""
        return self.trace.seconds.get("queue", 0.0) + (self.used.queue_s if self.used else 0.0)

    def stages(self) -> dict[str, float]:
        """Seconds by stage, of the stages that have ended."""
        found: dict[str, float] = {
            name: self.trace.seconds[name] for name in ("queue", "load") if name in self.trace.seconds
        }
        if self.used is not None and self.used.queue_s:
            found["queue"] = self.queue_s()
        if (first := self._first_at()) is not None and self._last is not None:
            found["prefill"] = max(0.0, first - self.began - sum(found.values()))
            if self.done:
                found["decode"] = self._last - first
        return found

    def _first_at(self) -> float | None:
        """When the first token came: a call is told as a whole, long after its first token, which the engine tells at the end."""
        if not self.done or self.used is None or self.used.ttft_s is None or self._last is None:
            return self._first
        said_s = max(0.0, self.used.total_s - self.used.ttft_s)
        return max(self.began, min(self._first or self._last, self._last - said_s))

    def first_token_s(self, since: float) -> float | None:
        """From the monotonic time `since` to the first token."""
        first = self._first_at()
        return None if first is None else first - since

    def per_token_s(self) -> float | None:
        """Mean time between tokens after the first; None for replies of fewer than two."""
        count = self.tokens if self.used is None else self.used.completion_tokens
        if (first := self._first_at()) is None or self._last is None or count < 2:
            return None
        return (self._last - first) / (count - 1)


class Exchange:
    """One request and its answer."""

    def __init__(self, method: str, route: str | None) -> None:
        self.method = method
        self.route = route  # the template; None where no route fits
        self.began = time.monotonic()
        self.gate_s: float | None = None  # until it was let in
        self.key: ApiKey | None = None
        self.budget: Budget | None = None
        self.reserved: list[Bill] = []  # for generations that have not begun
        self.deadline: float | None = None  # loop time
        self.comment = False  # the client wants to hear the timing at the end of a stream
        self.generations: list[Generation] = []

    def server_timing(self) -> str:
        """The stages that have ended, as the header Server-Timing has them: milliseconds. Of several replies at once the longest."""
        total = time.monotonic() - self.began
        spans = {"gate": self.gate_s or total}
        for generation in self.generations:
            for name, seconds in generation.stages().items():
                spans[name] = max(spans.get(name, 0.0), seconds)
        return ", ".join(f"{name};dur={seconds * 1000:.1f}" for name, seconds in {**spans, "total": total}.items())


_current: ContextVar[Exchange | None] = ContextVar("hali_exchange", default=None)


@contextmanager
def exchanging(exchange: Exchange) -> Iterator[None]:
    """`current` is this one within the block."""
    before = _current.set(exchange)
    try:
        yield
    finally:
        _current.reset(before)


def current() -> Exchange | None:
    """The request that is being answered."""
    return _current.get()


def last_comment() -> bytes:
    """What is known of the timing only at the end of a stream, as a comment of server-sent events; empty unless asked for."""
    exchange = current()
    if exchange is None or not exchange.comment:
        return b""
    return b": server-timing " + exchange.server_timing().encode() + b"\n\n"

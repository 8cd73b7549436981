"""Speculative decoding: what a session probably says next, and whether computing it ahead pays. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import median
from typing import Literal

Speculation = Literal["auto", "off", "always"]

NGRAMS = (4, 2)  # tokens that must repeat, the longer first: it says more about where the text is
WIDTHS = (1, 2, 4, 8)  # rows tried ahead: few, for each is measured by itself; each needs all before it to be right
SAMPLES = 9  # timings kept of a batch width; the median of them is robust against the machine's other work
STALE = 256  # decodes after which a timing counts no more: contexts grow, and with them every cost
LEARN = 0.1  # weight of the newest guess in a session's hit rate: about its last ten tokens count


class HitRate:
    """How often what one source guesses for one session comes true."""

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = rate  # of guessed tokens; where nothing is known, one of two

    def judge(self, guessed: Sequence[int], followed: Sequence[int]) -> None:
        """`guessed` was to follow, `followed` did: each token is a lesson, up to the first wrong one."""
        for guess, token in zip(guessed, followed, strict=False):
            self.rate += LEARN * ((guess == token) - self.rate)
            if guess != token:
                break

    def expected(self, width: int) -> float:
        """How many of `width` tokens ahead will be right, each needing the one before it."""
        return sum(self.rate**ahead for ahead in range(1, width + 1))


class Guesser(HitRate):
    """What follows in one session's tokens, by what followed the same tokens before, and how often that was right."""

    def __init__(self) -> None:
        super().__init__()
        self._follows: tuple[dict[tuple[int, ...], int], ...] = tuple({} for _ in NGRAMS)
        self._indexed = 0
        self._last: tuple[int, ...] = ()  # the guess that is not checked yet

    def guess(self, tokens: Sequence[int], most: int) -> tuple[int, ...]:
        """At most `most` tokens that may follow `tokens`, which only grow; a repetition goes on beyond the end of what is there."""
        self._index(tokens)
        self._last = ()
        for n, follows in zip(NGRAMS, self._follows, strict=True):
            at = follows.get(tuple(tokens[-n:]))
            if at is not None:
                period = len(tokens) - at
                found = (tokens[at + i % period] for i in range(most))
                self._last = tuple(takewhile(_is_token, found))
                break
        return self._last

    def _index(self, tokens: Sequence[int]) -> None:
        """Each n-gram that has a successor, the latest place winning."""
        for end in range(max(1, self._indexed), len(tokens)):
            for n, follows in zip(NGRAMS, self._follows, strict=True):
                if end >= n:
                    follows[tuple(tokens[end - n : end])] = end
        self._indexed = len(tokens)

    def learn(self, followed: Sequence[int]) -> None:
        """What followed in truth, also where nothing was computed ahead: then the first token is a free lesson."""
        self.judge(self._last, followed)
        self._last = ()


def _is_token(token: int) -> bool:
    """Images stand in a prompt as negative numbers, and no model says them."""
    return token >= 0


class Costs:
    """Measured seconds of a decode by its rows; a timing counts for `stale` decodes."""

    def __init__(self, stale: int = STALE) -> None:
        self._stale = stale
        self._timings: dict[int, deque[float]] = {}
        self._last: dict[int, int] = {}  # decode in which a width was measured last
        self._decodes = 0
        self._per_row = 0.0  # of a prompt; what a further row costs as long as nothing better is known

    def observe(self, rows: int, seconds: float) -> None:
        """A decode of `rows` single rows took so long."""
        self._decodes += 1
        if self._decodes - self._last.get(rows, 0) > self._stale:
            self._timings.pop(rows, None)
        self._timings.setdefault(rows, deque(maxlen=SAMPLES)).append(seconds)
        self._last[rows] = self._decodes

    def age(self) -> None:
        """A decode of another kind: what is not measured meanwhile gets old all the same."""
        self._decodes += 1

    def observe_prompt(self, rows: int, seconds: float) -> None:
        """A decode with prompt rows took so long."""
        self._per_row = seconds / rows

    def of(self, rows: int) -> float | None:
        """Seconds of a decode of `rows` rows: as measured, else from the next narrower one; None if nothing is known."""
        known = [width for width in self._timings if width <= rows and self._decodes - self._last[width] <= self._stale]
        if not known:
            return None
        widest = max(known)
        return median(self._timings[widest]) + (rows - widest) * self._per_row


@dataclass(frozen=True, slots=True)
class Candidate:
    """A session with its next row in the batch, and what it may say after it, likeliest first token first."""

    key: int
    guesser: Guesser
    ahead: tuple[int, ...]


def choose(
    candidates: Sequence[Candidate], rows: int, room: int, costs: Costs, mode: Speculation
) -> dict[int, tuple[int, ...]]:
    """Tokens to compute ahead by session, in a batch that has `rows` rows and takes `room` more.

    A width is taken when it raises the expected tokens per second of the whole batch.
    """
    tokens, chosen = float(rows), {}
    for candidate in candidates:
        fits = [width for width in WIDTHS if width <= min(len(candidate.ahead), room)]
        width = max(fits, default=0) if mode == "always" else _best(candidate.guesser, fits, tokens, rows, costs)
        if width:
            chosen[candidate.key] = candidate.ahead[:width]
            tokens, rows, room = tokens + candidate.guesser.expected(width), rows + width, room - width
    return chosen


def _best(guesser: Guesser, widths: Sequence[int], tokens: float, rows: int, costs: Costs) -> int:
    """The width with the most expected tokens per second; 0 if none beats going without."""
    best, now = 0, costs.of(rows)
    if not now:
        return 0
    speed = tokens / now
    for width in widths:
        cost = costs.of(rows + width)
        if cost and (tokens + guesser.expected(width)) / cost > speed:
            best, speed = width, (tokens + guesser.expected(width)) / cost
    return best

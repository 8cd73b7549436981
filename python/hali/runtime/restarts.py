"""When a failed service comes back, and when it is given up. Pure: time and chance are given."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import msgspec

JITTER = 0.25  # of a back-off, so that services that failed together do not come back in step


class Restart(msgspec.Struct, frozen=True):
    """How often and how soon a failed service comes back."""

    budget: int = 5  # failures …
    window_s: float = 60.0  # … in this time before it is given up
    first_s: float = 0.5  # back-off, doubled each time …
    max_s: float = 30.0  # … up to this


class Failures:
    """Of one service: those of the last `window_s`, and those since it was last ready, which may have taken longer."""

    def __init__(self, limit: Restart, chance: Callable[[float, float], float] = random.uniform) -> None:
        self._limit, self._chance = limit, chance
        self._recent: deque[float] = deque()
        self._in_a_row = 0

    def was_ready(self) -> None:
        """It works: failures to start count from nothing again."""
        self._in_a_row = 0

    def after(self, now: float) -> float | None:
        """It failed now: seconds until the next try; None when the budget is spent."""
        limit = self._limit
        self._recent.append(now)
        self._in_a_row += 1
        while now - self._recent[0] > limit.window_s:
            self._recent.popleft()
        count = max(len(self._recent), self._in_a_row)
        if count >= limit.budget:
            return None
        step = min(limit.max_s, limit.first_s * 2.0 ** (count - 1))
        return step * self._chance(1 - JITTER, 1 + JITTER)

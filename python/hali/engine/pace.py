"""How fast an engine makes tokens now, from the counters that it reports."""

from __future__ import annotations

from collections import deque

WINDOW_S = 3.0  # six reports: steady enough to read, and soon right after a change


class Pace:
    """Tokens a second over the last `WINDOW_S` of work. Pure: times are given."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, at: float, tokens: int, *, busy: bool) -> None:
        """So many were made in all by now; not `busy` = nobody waits for one, and the next work is measured anew."""
        if not busy:
            self._seen.clear()
            return
        self._seen.append((at, tokens))
        while len(self._seen) > 2 and self._seen[1][0] <= at - WINDOW_S:
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """None before two reports."""
        if len(self._seen) < 2 or self._seen[-1][0] <= self._seen[0][0]:
            return None
        (first, before), (last, now) = self._seen[0], self._seen[-1]
        return (now - before) / (last - first)

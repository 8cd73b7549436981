"""Whether a worker whose replies are awaited still runs. Pure: times are given, in seconds of one monotonic clock."""

from __future__ import annotations

from typing import Literal

QUIET_S = 10.0  # without any frame before it is asked: a batch of a large model on a slow CPU takes that long
# For the answer, which a thread of its own gives in milliseconds unless the process is stopped or swapped out.
ANSWER_S = 20.0
SILENCE_S = 600.0  # of the work itself, though it answers: 512 rows of a 70 B model on a slow CPU take less

Verdict = Literal["fine", "ask", "hung", "silent"]


class Pulse:
    """Of one worker. A stopped one is found out `QUIET_S + ANSWER_S` after its last frame, one in an endless loop after `SILENCE_S`."""

    def __init__(self) -> None:
        self._worked = self._answered = float("-inf")
        self._asked: float | None = None

    def begin(self, now: float) -> None:
        """From now on replies are awaited; before it had nothing to say."""
        self._worked = self._answered = now
        self._asked = None

    def heard(self, now: float, *, work: bool) -> None:
        """A frame came; `work`: not only the answer to a question."""
        self._answered, self._asked = now, None
        if work:
            self._worked = now

    def look_at(self) -> float:
        """When to `judge` next, if nothing is heard until then."""
        next_step = self._answered + QUIET_S if self._asked is None else self._asked + ANSWER_S
        return min(self._worked + SILENCE_S, next_step)

    def judge(self, now: float) -> Verdict:
        """What holds now; "ask" once, then the caller asks."""
        if now >= self._worked + SILENCE_S:
            return "silent"
        if self._asked is not None:
            return "hung" if now >= self._asked + ANSWER_S else "fine"
        if now < self._answered + QUIET_S:
            return "fine"
        self._asked = now
        return "ask"

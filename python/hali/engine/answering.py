"""Queries under way: vectors of many texts are made a batch at a time, so that no reply waits for all of them. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator

from hali.model.errors import Cancelled, EngineFailed, EngineUnavailable, HaliError, Overloaded
from hali.model.generation import Answer, Query

MAX_QUERIES = 256  # as many as requests that may wait; each has its texts in memory

Steps = Iterator[Answer | None]  # None: there is more to do; an answer is the last


class Answering:
    """Takes one query one step further at a time, all in turn; `answered` and `failed` hear how each ended.

    `answered` raises HaliError for an answer that cannot be sent: then that is how it ended.
    """

    def __init__(
        self,
        begin: Callable[[Query], Steps],
        answered: Callable[[bytes, Answer], None],
        failed: Callable[[bytes, HaliError], None],
    ) -> None:
        self._begin, self._answered, self._failed = begin, answered, failed
        self._steps: dict[bytes, Steps] = {}  # whose turn it is first

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self._steps)

    def open(self, session: bytes, query: Query) -> None:
        """Begin, with a first step at once: most need no other."""
        if len(self._steps) >= MAX_QUERIES:
            why = f"{MAX_QUERIES} queries already wait for this model"
            self._failed(session, Overloaded(why, details={"retry_after_s": 5}))
        else:
            self._go_on(session, self._begin(query))

    def step(self) -> None:
        """Take the one that has waited longest one step further."""
        session = next(iter(self._steps), None)
        if session is not None:
            self._go_on(session, self._steps.pop(session))

    def _go_on(self, session: bytes, steps: Steps) -> None:
        try:
            answer = next(steps)
            if answer is None:
                self._steps[session] = steps
            else:
                self._answered(session, answer)
        except HaliError as error:
            self._failed(session, error)
        except Exception as bug:  # it costs this query, and not the replies of others
            self._failed(session, broken(bug))

    def cancel(self, session: bytes) -> None:
        """Nobody waits for it any more; it ends by failure, as the daemon counts. An unknown one has just ended, or is none."""
        if self._steps.pop(session, None) is not None:
            self._failed(session, Cancelled("nobody waits for the answer any more"))

    def end(self) -> None:
        """The process ends: all fail."""
        for session in list(self._steps):
            del self._steps[session]
            why = "the model was stopped before the answer was there"
            self._failed(session, EngineUnavailable(why, details={"retry_after_s": 1}))


def broken(bug: Exception) -> EngineFailed:
    """What a client is told of a bug; the log of the engine has the rest."""
    traceback.print_exception(bug)
    return EngineFailed("the request failed inside the engine", code="internal")

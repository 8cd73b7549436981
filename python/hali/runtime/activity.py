"""The two buses of a node: what happened (`activity`), and what a viewer should look at again (`dashboard`)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from hali.model.activity import KINDS, ActivityEvent, Changed, Topic
from hali.runtime.channels import Bus

REPLAYED = 100  # events that a new viewer is shown: a screen or two
WAITING = 256  # events that wait for one viewer before the oldest give way: a burst, at 400 bytes each 100 KB a viewer, at most some MB
TOPICS_WAITING = 32  # there are seven topics, and two of one kind say the same


LONGEST = 1000  # characters of a text or field: errors and magnet links quote what strangers wrote


class Activity:
    """Where parts of the node tell what they did. Telling never waits and never fails for a reader's sake."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.events: Bus[ActivityEvent] = Bus(capacity=WAITING, history=REPLAYED)
        self.changes: Bus[Changed] = Bus(capacity=TOPICS_WAITING)
        self._seq = 0
        self._clock = clock
        self._times: dict[str, deque[float]] = {}  # of the last events of each kind that is limited

    @property
    def seq(self) -> int:
        """That of the last event; 0 before the first."""
        return self._seq

    def tell(self, kind: str, text: str, **fields: str | int | float | bool | None) -> None:
        """Publish an event of the catalogue, unless there were too many of a kind that strangers cause.

        KeyError for a kind, ValueError for a field, that the catalogue does not have.
        """
        declared = KINDS[kind]
        if unknown := set(fields) - set(declared.fields):
            raise ValueError(f"{kind} has no field {', '.join(sorted(unknown))}")
        if declared.a_minute is not None and self._too_many(kind, declared.a_minute):
            return
        self._seq += 1
        shown = {name: _short(value) if isinstance(value, str) else value for name, value in fields.items()}
        self.events.publish(ActivityEvent(self._seq, time.time(), kind, _short(text), declared.toast, shown))

    def _too_many(self, kind: str, a_minute: int) -> bool:
        times, now = self._times.setdefault(kind, deque(maxlen=a_minute)), self._clock()
        if len(times) == a_minute and now - times[0] < 60.0:
            return True
        times.append(now)
        return False

    def changed(self, topic: Topic) -> None:
        """Viewers of `topic` look again."""
        self.changes.publish(Changed(topic))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"

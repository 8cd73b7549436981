"""A bounded queue that is fair between keys. Pure: no clock, no tasks.

Start-time fair queuing (Goyal, Vin, Cheng 1996): each item gets a virtual start (the later of now and the end of its
key's last item) and lasts 1/weight; the earliest start goes first. A key with a thousand items waiting delays another
key's first item by one item at most.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from typing import Generic, TypeVar

from hali.model.errors import Overloaded

T = TypeVar("T")


class FairQueue(Generic[T]):
    """At most `capacity` items, at most `per_key` of one key.

    Items are compared by identity and may be taken out again.
    """

    def __init__(self, *, capacity: int, per_key: int) -> None:
        self._capacity = capacity
        self._per_key = per_key
        self._heap: list[tuple[float, int, str, T, float]] = []  # start, number, key, item, length
        self._numbers = itertools.count()  # ties: first come, first served
        self._now = 0.0  # virtual time: the start of the item taken last
        self._last_end: dict[str, float] = {}
        self._waiting: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._heap)

    def waiting(self, key: str) -> int:
        """Items of `key`."""
        return self._waiting[key]

    def push(self, key: str, item: T, *, weight: float = 1.0) -> None:
        """Queue `item`.

        `Overloaded` with code `rate_limit` when the key's share is full, `overloaded` when the queue is.
        """
        if self._waiting[key] >= self._per_key:
            raise Overloaded(f"{self._per_key} requests of this key wait already", code="rate_limit")
        if len(self._heap) >= self._capacity:
            raise Overloaded(f"the queue is full ({self._capacity} requests wait)")
        start = max(self._now, self._last_end.get(key, 0.0))
        self._last_end[key] = start + 1.0 / weight
        self._waiting[key] += 1
        heapq.heappush(self._heap, (start, next(self._numbers), key, item, 1.0 / weight))

    def pop(self) -> T | None:
        """The item whose turn it is, or None."""
        if not self._heap:
            return None
        self._now, _, key, item, _ = heapq.heappop(self._heap)
        self._left(key)
        return item

    def remove(self, item: T) -> bool:
        """Take `item` out of the middle (its client left); False if it is not here."""
        for index, (start, _, key, queued, length) in enumerate(self._heap):
            if queued is item:
                del self._heap[index]
                self._close_up(key, start, length)
                heapq.heapify(self._heap)
                self._left(key)
                return True
        return False

    def _close_up(self, key: str, start: float, length: float) -> None:
        """What the key has behind a removed item moves up: a turn that was not taken is not paid for."""
        self._last_end[key] -= length
        for index, (at, number, owner, item, own) in enumerate(self._heap):
            if owner == key and at > start:
                self._heap[index] = (at - length, number, owner, item, own)

    def drain(self) -> list[T]:
        """Take everything out."""
        items = [entry[3] for entry in sorted(self._heap, key=lambda entry: entry[:2])]
        self._heap.clear()
        self._waiting.clear()
        self._forget_the_past()
        return items

    def _left(self, key: str) -> None:
        self._waiting[key] -= 1
        if not self._waiting[key]:
            del self._waiting[key]
        self._forget_the_past()

    def _forget_the_past(self) -> None:
        """Keep no trace of keys whose last item ended: the table must not grow with every key ever seen."""
        if not self._heap:
            self._last_end.clear()
            self._now = 0.0
            return
        self._last_end = {k: end for k, end in self._last_end.items() if end > self._now or k in self._waiting}

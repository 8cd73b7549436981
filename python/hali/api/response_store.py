"""Responses that can be fetched later: in memory, bounded, each readable with the key that made it and no other."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import msgspec

from hali.api.openai_items import Item, answered
from hali.api.openai_response_writer import ResponseWriter
from hali.api.response_jobs import Job
from hali.model.errors import NotFound, Overloaded

MIB = 1024 * 1024


class StoreLimits(msgspec.Struct, frozen=True):
    """How much is kept; the end of the daemon forgets all of it."""

    count: int = 1000  # a day of a person's work
    bytes: int = 64 * MIB  # next to models of gigabytes; a response repeats its conversation, some 50 kB
    age_s: float = 24 * 3600.0  # what a program wants to go on with tomorrow, it sends again


@dataclass
class Stored:
    """A response, its conversation before it, and (in the background) the job that makes it."""

    owner: str | None  # which key made it
    writer: ResponseWriter
    items: tuple[Item, ...]
    job: Job | None = None
    kept_at: float = 0.0
    size: int = 0  # bytes when it was kept: without what it has said since, if it is still being made

    @property
    def id(self) -> str:
        """Its name."""
        return str(self.writer.response["id"])


class ResponseStore:
    """By id. Above a bound the oldest response of whoever takes the most room goes; one that is being made stays."""

    def __init__(self, limits: StoreLimits | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits or StoreLimits()
        self._now = now
        self._kept: dict[str, Stored] = {}  # in the order they were kept

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: str, owner: str | None) -> Stored:
        """`NotFound` also for a response of somebody else: its existence is a secret."""
        self._forget_old()
        found = self._kept.get(name)
        if found is None or found.owner != owner:
            raise NotFound(f"there is no response {name[:80]!r}", code="response_not_found")
        return found

    def items(self, wanted: Collection[str], owner: str | None) -> dict[str, Item]:
        """Those of the `wanted` items, by id, that responses of the same key were asked with or have put out."""
        if not wanted:
            return {}
        self._forget_old()
        own = [each for each in self._kept.values() if each.owner == owner]
        said = answered([item for each in own for item in each.writer.response["output"] if item["id"] in wanted])
        asked = (item for each in own for item in each.items)
        return {item.id: item for item in (*asked, *said) if item.id is not None and item.id in wanted}

    def admit(self, stored: Stored) -> None:
        """From now on it is found, and it will be made; `Overloaded` if what is being made leaves no room for it."""
        stored.size = _size(stored)
        if self._too_much([stored, *(each for each in self._kept.values() if not each.writer.ended)]):
            raise Overloaded("too many responses are being made in the background", details={"retry_after_s": 10})
        self.keep(stored)

    def keep(self, stored: Stored) -> None:
        """From now on it is found. It was made, so it is not refused, be there nothing left that could go for it."""
        stored.kept_at, stored.size = self._now(), _size(stored)
        self._kept.pop(stored.id, None)
        self._kept[stored.id] = stored
        self._forget_old()
        while self._too_much(self._kept.values()) and (victim := self._victim(stored)) is not None:
            del self._kept[victim.id]

    def settle(self, stored: Stored) -> None:
        """One that was admitted has ended. Nothing happens if it was deleted meanwhile."""
        if stored.id in self._kept:
            self.keep(stored)

    def delete(self, name: str, owner: str | None) -> None:
        """Forget it, and end it if it is being made; `NotFound` as `get`."""
        stored = self.get(name, owner)
        if stored.job is not None:
            stored.job.cancel()
        del self._kept[stored.id]

    def _too_much(self, kept: Collection[Stored]) -> bool:
        total = sum(each.size for each in kept)
        return len(kept) > self._limits.count or (total > self._limits.bytes and len(kept) > 1)

    def _victim(self, newest: Stored) -> Stored | None:
        settled = [each for each in self._kept.values() if each.writer.ended and each is not newest]
        if not settled:
            return None
        room: Counter[str | None] = Counter()
        for each in settled:
            room[each.owner] += each.size
        ((owner, _),) = room.most_common(1)
        return next(each for each in settled if each.owner == owner)

    def _forget_old(self) -> None:
        for each in list(self._old()):
            del self._kept[each.id]

    def _old(self) -> Iterator[Stored]:
        since = self._now() - self._limits.age_s
        return (each for each in self._kept.values() if each.writer.ended and each.kept_at < since)


def _size(stored: Stored) -> int:
    events = stored.job.size if stored.job is not None else 0
    return len(msgspec.json.encode((stored.writer.response, stored.items))) + events

"""The room that models take: the quota, what `hali prune` would free, and freeing it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio.to_thread
import msgspec

from hali.model.errors import NoSpace, NotFound
from hali.model.units import DAY_S, GB, format_bytes
from hali.runtime.log import get_logger
from hali.share import leftovers
from hali.share.library import Entry, Library
from hali.share.prune import Candidate, choose, shortfall
from hali.store.metadata import seconds_since_1970
from hali.store.usage import Usage

log = get_logger(__name__)
UNFINISHED_S = 7.0 * DAY_S  # a pull that nobody went on with for a week is not gone on with


class Wish(msgspec.Struct, frozen=True):
    """What a prune shall do."""

    quota: int | None = None  # bytes
    older_than: float | None = None  # seconds
    unfinished_after: float = UNFINISHED_S


class Busy(msgspec.Struct, frozen=True):
    """What must not be touched at this moment."""

    models: dict[str, str] = {}  # SHA-256 → why
    files: frozenset[str] = frozenset()  # names of files that jobs work on
    any_download: bool = False  # a job whose file is not known yet


class Cut(msgspec.Struct, frozen=True):
    """What a prune would remove, or has removed."""

    models: list[Candidate]
    unfinished: list[leftovers.Unfinished]
    torrents: list[Path]
    used: int  # bytes of all models before
    short: int  # bytes above the quota that stay, because the rest must be kept


class Space:
    """Lives beside the library; `busy` tells what is in use right now, `quota_gb` is the key `storage.quota_gb`."""

    def __init__(
        self,
        library: Library,
        usage: Usage,
        torrents: Path,
        *,
        quota_gb: float = 0.0,
        busy: Callable[[], Busy] = Busy,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._library, self._usage, self._torrents = library, usage, torrents
        self._busy, self._clock = busy, clock
        self.quota = round(quota_gb * GB) or None
        self._coming: dict[object, tuple[str, int]] = {}  # pulls that were admitted: which file, and its bytes

    def candidates(self) -> list[Candidate]:
        """All models as the planner wants them."""
        busy = self._busy().models
        return [self._candidate(entry, busy) for entry in self._library.entries()]

    def _candidate(self, entry: Entry, busy: dict[str, str]) -> Candidate:
        meta, use = entry.record.meta, self._usage.of(entry.record.meta.sha256)
        keep = "pinned" if use.pinned else busy.get(meta.sha256)
        if entry.state == "hashing":
            keep = keep or "being verified"
        last_used = max(use.last_used or 0.0, seconds_since_1970(meta.downloaded_at))
        return Candidate(meta.sha256, meta.model_id, meta.size, last_used, keep)

    async def plan(self, wish: Wish) -> Cut:
        """What a prune would remove now. Changes nothing."""
        models = self.candidates()
        chosen = choose(models, now=self._clock(), quota=wish.quota, older_than=wish.older_than)
        return Cut(
            models=chosen,
            unfinished=await self._stale(wish.unfinished_after),
            torrents=await self._orphans(),
            used=sum(m.size for m in models),
            short=shortfall(models, chosen, wish.quota),
        )

    async def _stale(self, age: float) -> list[leftovers.Unfinished]:
        if self._busy().any_download:  # it may be about to go on with any of them
            return []
        found = await anyio.to_thread.run_sync(leftovers.unfinished, self._library.store.root)
        return leftovers.stale(found, now=self._clock(), age=age, busy=self._busy().files)

    async def _orphans(self) -> list[Path]:
        """None while the store has a record that cannot be read: its torrent might be one of them."""
        if await anyio.to_thread.run_sync(self._library.store.unreadable):
            return []
        metas = [entry.record.meta for entry in self._library.entries()]
        known = {name for meta in metas for name in (meta.infohash_v1, *meta.also_torrents)}
        return await anyio.to_thread.run_sync(leftovers.orphans, self._torrents, known)

    async def carry_out(self, cut: Cut) -> Cut:
        """Remove what `cut` says, but nothing that came into use since; what was removed."""
        models = [model for model in cut.models if await self._remove(model)]
        unfinished = [one for one in cut.unfinished if await self._discard(one)]
        torrents = [path for path in cut.torrents if await anyio.to_thread.run_sync(leftovers.drop, path)]
        return msgspec.structs.replace(cut, models=models, unfinished=unfinished, torrents=torrents)

    async def _remove(self, model: Candidate) -> bool:
        entry = self._library.entry(model.sha256)
        if entry is None or self._candidate(entry, self._busy().models).keep is not None:
            return False
        try:
            await self._library.remove(entry)
        except NotFound:  # somebody else was faster
            return False
        await anyio.to_thread.run_sync(self._usage.forget, model.sha256)
        log.info("prune.removed", model=model.model_id, sha256=model.sha256, size=model.size)
        return True

    async def _discard(self, one: leftovers.Unfinished) -> bool:
        busy = self._busy()
        if busy.any_download or busy.files & set(one.files):
            return False
        trash = leftovers.set_aside(self._library.store.root, one.key)
        if trash is not None:
            await anyio.to_thread.run_sync(partial(shutil.rmtree, trash, ignore_errors=True))
            log.info("prune.discarded", key=one.key, size=one.size)
        return trash is not None

    @contextmanager
    def coming(self, name: str, size: int, file: str, sha256: str | None = None) -> Iterator[None]:
        """`admit`, and the room is kept for it inside: pulls at the same time, or that wait, must not each count on all of it.

        Two pulls of one `file`, which is fetched once, take it once.
        """
        self.admit(name, size, sha256, file)
        ours = object()
        self._coming[ours] = (file, size)
        try:
            yield
        finally:
            del self._coming[ours]

    def admit(self, name: str, size: int, sha256: str | None = None, file: str | None = None) -> None:
        """NoSpace when `size` more bytes would exceed the quota, with what `hali prune` would free. Deletes nothing.

        A model that is there already (`sha256`: a damaged one that comes again) takes no more room than it has.
        """
        if self.quota is None:
            return
        others = [model for model in self.candidates() if model.sha256 != sha256]
        kept_free = sum(dict(pull for pull in self._coming.values() if pull[0] != file).values())
        used = sum(model.size for model in others) + kept_free
        if used + size <= self.quota:
            return
        room = self.quota - kept_free - size
        freed = choose(others, now=self._clock(), quota=max(0, room))
        raise NoSpace(
            f"{name} needs {format_bytes(size)}, {format_bytes(max(0, self.quota - used))} of the quota of "
            f"{format_bytes(self.quota)} are left",
            hint=_what_would_help(freed, others, room),
            details={"quota": self.quota, "used": used, "size": size, "prune": [model.sha256 for model in freed]},
        )


def _what_would_help(freed: Sequence[Candidate], all_models: Collection[Candidate], room: int) -> str:
    if room < 0 or shortfall(all_models, freed, room):
        return "no prune can make that room: raise storage.quota_gb, or `hali rm` or unpin what is kept"
    names = ", ".join(model.model_id for model in freed)
    rounded_down = room // 1000 / (GB // 1000)  # up would leave too little room
    return f"`hali prune --quota {rounded_down}` would free {format_bytes(sum(m.size for m in freed))}: {names}"

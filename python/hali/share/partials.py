"""The partial models of this node: seeded, extended, finished or removed. What a part proves is that its pieces are those of a torrent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec

from hali.config.files import write_atomically
from hali.model.errors import HaliError, NotFound, Refused, VerificationFailed
from hali.model.ids import InfoHashes, is_hex
from hali.model.layers import Layers, format_layers, merged
from hali.runtime.log import get_logger
from hali.share.base import Seeds
from hali.share.incoming import JOURNAL, METAINFO, IncomingFile
from hali.share.library import name_file
from hali.share.torrents import webseed_of
from hali.store.journal import readdress
from hali.store.metadata import now_rfc3339
from hali.store.models import the_one
from hali.store.partials import PartialMeta, PartialRecord, PartialStore
from hali.transfer import magnet, metainfo
from hali.transfer.metainfo import Metainfo

if TYPE_CHECKING:  # `hali list` without a daemon uses this module: it shall load no transfers
    from hali.share.resolve import Plan

log = get_logger(__name__)


class PartialEntry(msgspec.Struct):
    """One partial model; `error` says why it is not seeded, or not all of it."""

    record: PartialRecord
    seeded: bool = False
    damaged: bool = False
    error: str | None = None


class Partials:
    """Lives in the daemon's event loop, beside the library. `announce` is called after each change."""

    def __init__(self, store: PartialStore, announce: Callable[[], None] = lambda: None) -> None:
        self._store, self._announce = store, announce
        self._seeds: Seeds | None = None
        self._entries: dict[str, PartialEntry] = {}  # by v2 infohash

    def scan(self) -> None:
        """Read the store, before the services start."""
        self._entries = {r.meta.infohash_v2: PartialEntry(r) for r in self._store.records()}

    def entries(self) -> list[PartialEntry]:
        """All of them, by name."""
        return sorted(self._entries.values(), key=lambda entry: entry.record.meta.model_id)

    def find(self, name: str) -> PartialEntry | None:
        """The one called `name`; None when there is none; AmbiguousName."""
        try:
            found = the_one([entry.record.as_whole for entry in self._entries.values()], name)
        except NotFound:
            return None
        return self._entries[found.meta.infohash_v2]

    def describe(self, entry: PartialEntry) -> dict[str, Any]:
        """The public fields; null is unknown."""
        record, meta = entry.record, entry.record.meta
        seeds = webseed_of(meta.file, meta.hf_repo, meta.hf_revision)
        return {
            "model_id": meta.model_id,
            "sha256": meta.sha256,
            "infohash_v1": meta.infohash_v1,
            "infohash_v2": meta.infohash_v2,
            "files": [meta.file],
            "size": meta.size,
            "layers": format_layers(meta.layers),
            "on_disk": record.on_disk,
            "downloaded_at": meta.downloaded_at,
            "path": str(record.path),
            "state": "damaged" if entry.damaged else "partial",
            "magnet": magnet.build(record.infohashes, meta.file, webseeds=seeds),
            "error": entry.error,
        }

    # ---- seeding

    async def seed_all(self, seeds: Seeds) -> None:
        """Seed every partial model in the new session `seeds`."""
        self._seeds = seeds
        for entry in self.entries():
            await self._seed(entry)
        self._announce()

    async def _seed(self, entry: PartialEntry) -> None:
        """What goes wrong with one is that one's state."""
        try:
            await self._try_to_seed(entry)
        except (HaliError, OSError) as exc:
            log.warning("partials.not_seeded", model=entry.record.meta.model_id, error=str(exc))
            entry.seeded, entry.error = False, str(exc)
            entry.damaged = isinstance(exc, (VerificationFailed, OSError))

    async def _try_to_seed(self, entry: PartialEntry) -> None:
        raw = await anyio.Path(entry.record.directory / METAINFO).read_bytes()
        have = await right_pieces(entry.record, metainfo.parse(raw))
        if self._seeds is not None:
            await self._seeds.seed_part(raw, entry.record.directory, have)
            lost = entry.record.meta.pieces - len(have)
            entry.seeded, entry.damaged = True, lost > 0
            entry.error = f"{lost} of its pieces were damaged: pull the layers again" if lost > 0 else None
            log.info("partials.seeded", model=entry.record.meta.model_id, pieces=sorted(have))

    async def damaged(self, infohashes: InfoHashes, reason: str) -> None:
        """The torrent session cannot read a part any more: it is not served until the next start, which looks what is right."""
        entry = self._entries.get(infohashes.v2 or "")
        if entry is None or not entry.seeded or self._seeds is None:
            return
        entry.seeded, entry.damaged, entry.error = False, True, reason
        await self._seeds.remove(infohashes)
        self._announce()

    async def _forget(self, entry: PartialEntry) -> None:
        self._entries.pop(entry.record.meta.infohash_v2, None)
        if self._seeds is not None and entry.seeded:
            await self._seeds.remove(entry.record.infohashes)
        self._announce()

    async def remove(self, entry: PartialEntry) -> int:
        """Stop seeding and delete; the bytes that are free again. Refused when the disk does not let us."""
        await self._forget(entry)
        freed = entry.record.on_disk
        try:
            await anyio.to_thread.run_sync(self._store.remove, entry.record)
        except OSError as exc:
            raise Refused(f"cannot delete {entry.record.directory}: {exc.strerror}") from None
        return freed

    # ---- pulls

    @asynccontextmanager
    async def lent(self, plan: Plan, *, whole: bool) -> AsyncIterator[None]:
        """What there is of the file of `plan`, if anything, is inside a download of its own; unless that ends well it comes back.

        For the whole of a pinned file any torrent of it will do, as the SHA-256 is checked at the end; else only the same one.
        """
        pinned, entries = whole and plan.ref is not None, self._entries.values()
        entry = next((e for e in entries if _names(e.record, sha256=pinned) & plan.identities), None)
        if entry is not None:
            with anyio.CancelScope(shield=True):  # half of it would be neither here nor there
                await self._lend(entry, plan)
        try:
            yield
        except BaseException:
            if entry is not None:
                with anyio.CancelScope(shield=True):
                    await self._come_back(entry, plan)
            raise

    async def _lend(self, entry: PartialEntry, plan: Plan) -> None:
        await self._forget(entry)
        directory = await anyio.to_thread.run_sync(self._store.take, entry.record, plan.key)
        pin = plan.ref.sha256 if plan.ref is not None else None
        tag = None if pin is not None else entry.record.infohashes.best
        await _readdress(directory / JOURNAL, pin, tag)

    async def _come_back(self, entry: PartialEntry, plan: Plan) -> None:
        try:
            if (self._store.incoming(plan.key) / JOURNAL).exists():
                await self._place(plan.key, entry.record.meta)
            else:  # it was found to be wrong and thrown away
                self._store.discard(plan.key)
        except (HaliError, OSError) as exc:
            log.warning("partials.not_back", model=entry.record.meta.model_id, error=str(exc))

    async def keep(self, plan: Plan, layers: Layers, torrent: Metainfo, *, sha256: str | None) -> PartialEntry:
        """The download of `plan` has all that `layers` need: seed it as a partial model. VerificationFailed: not what the torrent says."""
        directory = self._store.incoming(plan.key)
        await anyio.to_thread.run_sync(write_atomically, directory / METAINFO, torrent.raw)
        await _readdress(directory / JOURNAL, None, torrent.infohashes.best)
        meta = await self._meta(plan, layers, torrent, sha256)
        try:
            right = await right_pieces(PartialRecord(meta, directory), torrent)
        except VerificationFailed:
            self._store.discard(plan.key)
            raise
        return await self._place(plan.key, msgspec.structs.replace(meta, pieces=len(right)))

    async def _meta(self, plan: Plan, layers: Layers, torrent: Metainfo, sha256: str | None) -> PartialMeta:
        ref, path = plan.ref, self._store.incoming(plan.key) / torrent.name
        inside = plan.repo_path or None
        model = await anyio.to_thread.run_sync(partial(name_file, path, repo=ref.repo if ref else None, inside=inside))
        before = self._store.before(plan.key)
        same = before is not None and before.infohash_v2 == torrent.infohashes.v2
        return PartialMeta(
            model_id=str(model),
            file=torrent.name,
            size=torrent.length,
            layers=list(merged([*(before.layers if before and same else []), layers])),
            infohash_v1=torrent.infohashes.v1 or "",
            infohash_v2=torrent.infohashes.v2 or "",
            downloaded_at=now_rfc3339(),
            mtime_ns=path.stat().st_mtime_ns,
            sha256=sha256,
            hf_repo=ref.repo if ref else None,
            hf_revision=ref.revision if ref else None,
        )

    async def _place(self, key: str, meta: PartialMeta) -> PartialEntry:
        directory = self._store.incoming(key)
        await _readdress(directory / JOURNAL, None, meta.infohash_v2)
        meta = msgspec.structs.replace(meta, mtime_ns=(directory / meta.file).stat().st_mtime_ns)
        entry = PartialEntry(await anyio.to_thread.run_sync(self._store.place, key, meta))
        self._entries[meta.infohash_v2] = entry
        await self._seed(entry)
        self._announce()
        return entry


async def _readdress(journal: Path, sha256: str | None, tag: str | None) -> None:
    await anyio.to_thread.run_sync(partial(readdress, journal, sha256=sha256, tag=tag))


async def right_pieces(record: PartialRecord, torrent: Metainfo) -> frozenset[int]:
    """The pieces on record that are the torrent's. Read again only after a power cut, or when the file changed meanwhile."""
    meta = record.meta
    with await IncomingFile.open(record.directory, meta.file, meta.size, tag=meta.infohash_v2, writable=False) as file:
        if record.path.stat().st_mtime_ns != meta.mtime_ns:
            await anyio.to_thread.run_sync(file.recheck)
        hashes = torrent.sha1_pieces
        right = {i for i, found in file.journal.pieces.items() if found.sha1 == hashes[20 * i : 20 * i + 20]}
        if wrong := file.journal.pieces.keys() - right:
            raise VerificationFailed(f"pieces {sorted(wrong)} of {meta.file} are not what the torrent promises")
        if not right:
            raise VerificationFailed(f"no piece of {record.path} is what it was", hint="pull the layers again")
    return frozenset(right)


def promised_sha256(plan: Plan) -> str | None:
    """What the whole file's SHA-256 shall be, or the first 32 digits of it, as far as anybody says."""
    if plan.ref is not None:
        return plan.ref.sha256
    known = plan.sha256_prefix or ""
    return known if is_hex(known, 64) or is_hex(known, 32) else None


def _names(record: PartialRecord, *, sha256: bool) -> set[str]:
    meta = record.meta
    torrents = {meta.infohash_v1, meta.infohash_v2}
    return torrents | {meta.sha256, meta.sha256[:32]} if sha256 and meta.sha256 else torrents

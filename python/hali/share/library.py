"""The models of this node and what is being done with each: the shared state behind `list`, `status` and the HTTP API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import anyio
import anyio.to_thread
import msgspec

from hali.config.files import write_atomically
from hali.hashing import PieceHasher, StreamHasher, hash_file_async, padded_sha1_of
from hali.model.digests import FileDigests, PieceDigests
from hali.model.errors import HaliError, NotFound, ProtocolError, Refused, VerificationFailed
from hali.model.ids import InfoHashes
from hali.model.names import UNKNOWN, ModelId, derive
from hali.model.splits import main_first
from hali.model.units import piece_span
from hali.runtime.activity import Activity
from hali.runtime.log import get_logger
from hali.share.base import Seeds
from hali.share.incoming_model import Arrived
from hali.share.torrents import torrent_name, torrent_of, webseeds_of
from hali.share.twins import Twins
from hali.share.verifying import judge
from hali.store.metadata import now_rfc3339
from hali.store.models import Metadata, ModelStore, Record, StoredFile, matching, the_one
from hali.transfer import magnet, metainfo
from hali.wire import gguf
from hali.wire.manifest import identity, manifest

log = get_logger(__name__)

T = TypeVar("T")
# `unverified`: without a daemon, of a file that changed since it was verified; a daemon verifies it at once.
ModelState = Literal["seeding", "hashing", "stored", "unverified", "damaged", "missing"]


class Entry(msgspec.Struct):
    """One model of this node."""

    record: Record
    state: ModelState
    progress: float | None = None  # 0 … 1 while hashing
    error: str | None = None
    # The file is, as far as we know, what its SHA-256 says; stays so while it is verified once more.
    trusted: bool = False
    condemned: bool = False  # found to be wrong or gone, and not whole since

    @property
    def is_whole(self) -> bool:
        """False when the file is known to be wrong or gone: then it may be fetched or imported again."""
        return self.state not in ("damaged", "missing")


class Origin(msgspec.Struct, frozen=True):
    """Where the bytes of a new model came from."""

    repo: str | None = None
    revision: str | None = None
    sources: dict[str, int] = {}
    foreign: bytes | None = None  # metainfo of the torrent it was fetched by, when it is not the one hali builds


class Library:
    """Lives in the daemon's event loop. `announce` is told all seeded records after each change."""

    def __init__(
        self,
        store: ModelStore,
        torrents: Path,
        announce: Callable[[Sequence[Record]], None],
        *,
        v1_twins: bool = False,
        activity: Activity | None = None,
    ) -> None:
        self._activity = activity or Activity()
        self.twins = Twins(wanted=v1_twins)
        self.store = store
        self._torrents = torrents
        self._announce = announce
        self._seeds: Seeds | None = None
        self._entries: dict[str, Entry] = {}  # by SHA-256
        self._noting = anyio.Lock()
        self._locks: dict[str, anyio.Lock] = {}  # by SHA-256; never emptied, as they are few and small

    def scan(self) -> None:
        """Read the store. Blocks for the time it takes to read all metadata; called once, before the services start."""
        for record in self.store.records():
            self._entries.setdefault(record.meta.sha256, Entry(record, "stored"))

    def entries(self) -> list[Entry]:
        """All models, by name."""
        return sorted(self._entries.values(), key=lambda e: e.record.meta.model_id)

    def entry(self, sha256: str) -> Entry | None:
        """The model of that file hash."""
        return self._entries.get(sha256)

    async def discard(self, key: str) -> None:
        """Nothing of the unfinished download `key` is wanted. In a thread: removing a huge file takes the file system a while."""
        await anyio.to_thread.run_sync(self.store.discard_incoming, key)

    def of_torrent(self, infohashes: InfoHashes) -> Entry | None:
        """The model that a torrent is of: ours, somebody else's that is seeded too, or the v1 twin."""
        wanted = {infohashes.v1, infohashes.v2} - {None}
        for entry in self._entries.values():
            meta = entry.record.meta
            if wanted & {*meta.torrents, self.twins.infohash(meta.sha256)}:
                return entry
        return None

    def find(self, name: str) -> Entry:
        """The one model called `name`; NotFound, AmbiguousName."""
        return self._entries[the_one(self._records(), name).meta.sha256]

    def holds(self, name: str) -> bool:
        """True if `name` fits one model or more."""
        return bool(matching(self._records(), name))

    async def file_of(self, sha256: str) -> Path | None:
        """A file with that SHA-256 of a model that is whole: also one of several files of a model has its own."""
        for entry in self.entries():
            for file in entry.record.meta.each:
                if file.sha256 == sha256 and await self.still_whole(entry):
                    return entry.record.directory / file.name
        return None

    def _alone(self, sha256: str) -> anyio.Lock:
        """Held while the model of that hash comes, goes, or is judged: half of one and half of the other would be neither."""
        return self._locks.setdefault(sha256, anyio.Lock())

    def _check_kept(self, entry: Entry) -> None:
        if self._entries.get(entry.record.meta.sha256) is not entry:
            raise NotFound(f"{entry.record.meta.model_id} was deleted or replaced meanwhile")

    def _records(self) -> list[Record]:
        return [entry.record for entry in self._entries.values()]

    async def still_whole(self, entry: Entry) -> bool:
        """False when the file is damaged or gone, also if that happened just now; one that changed is verified first."""
        try:
            if entry.is_whole and await anyio.to_thread.run_sync(entry.record.changed_on_disk):
                await self.verify(entry)
        except HaliError as exc:
            self._condemn(entry, "missing" if isinstance(exc, NotFound) else "damaged", str(exc))
            with anyio.CancelScope(shield=True):
                await self._stop_seeding(entry)
            self._changed()
        return entry.is_whole

    async def look_for_files(self) -> None:
        """Models whose files are gone are missing from now on; what is in the files is not looked at."""
        there = [entry for entry in self.entries() if entry.state in ("seeding", "stored")]
        for entry in await anyio.to_thread.run_sync(lambda: [each for each in there if each.record.is_gone]):
            async with self._alone(entry.record.meta.sha256):
                if self._entries.get(entry.record.meta.sha256) is not entry:
                    continue
                where = entry.record.directory
                self._condemn(entry, "missing", f"{entry.record.meta.model_id}: its file is gone from {where}")
                await self._stop_seeding(entry)
                self._changed()

    async def seed_all(self, seeds: Seeds) -> None:
        """Seed every model in the new session `seeds`. Files that changed since they were verified come last: they are verified first."""
        self._seeds = seeds
        self.twins.forget()
        changed = [entry for entry in self.entries() if not await self._tried(self._seed_unchanged, entry)]
        self._changed()
        for entry in changed:
            await self._tried(self.verify, entry)
        self._changed()
        await self.seed_twins()

    async def seed_twins(self) -> None:
        """Seed the v1 torrents that are not seeded yet. Apart from the models themselves: nobody waits for these."""
        for entry in self.entries():
            if self._seeds is not None and entry.state == "seeding" and self.twins.lacks(entry.record.meta.sha256):
                try:
                    await self._seed_twin(self._seeds, entry)
                except (HaliError, OSError) as exc:
                    log.warning("library.twin_not_seeded", model=entry.record.meta.model_id, error=str(exc))

    async def _seed_twin(self, seeds: Seeds, entry: Entry) -> None:
        torrent = await anyio.Path(self._torrent_path(entry.record.meta.infohash_v1)).read_bytes()
        await self.twins.seed(seeds, entry.record.meta.sha256, torrent, entry.record.directory)

    async def _tried(self, step: Callable[[Entry], Awaitable[T]], entry: Entry) -> T | Literal[True]:
        """What `step` returns; what goes wrong with one model is that model's state and harms no other."""
        try:
            return await step(entry)
        except (HaliError, OSError) as exc:
            log.warning("library.not_seeded", model=entry.record.meta.model_id, error=str(exc))
            entry.error = str(exc)
            if isinstance(exc, (VerificationFailed, NotFound)):
                self._condemn(entry, "missing" if isinstance(exc, NotFound) else "damaged", str(exc))
            return True

    async def _seed_unchanged(self, entry: Entry) -> bool:
        """False when the file must be verified first."""
        torrent = None if entry.record.changed_on_disk() else await self._torrent_of(entry.record)
        if torrent is None:
            return False
        await self._seed(entry, torrent)
        return True

    async def _seed(self, entry: Entry, torrent: bytes) -> None:
        entry.trusted, entry.condemned = True, False
        if self._seeds is None:
            return
        await self._seeds.seed(torrent, entry.record.directory)
        entry.state, entry.progress, entry.error = "seeding", None, None
        for foreign in entry.record.meta.also_torrents:
            try:
                path = anyio.Path(self._torrent_path(foreign))
                await self._seeds.seed(await path.read_bytes(), entry.record.directory)
            except (HaliError, OSError) as exc:  # ours is seeded; theirs is a courtesy
                log.warning("library.foreign_not_seeded", torrent=foreign, error=str(exc))

    async def adopt(self, arrived: Sequence[Arrived], origin: Origin) -> Entry:
        """Take the finished and checked files, all in one folder, into the store and seed them, reading nothing again."""
        by_name = {file.path.name: file for file in arrived}
        files = [by_name[name] for name in main_first(by_name)]
        first = files[0]
        named = partial(name_file, first.path, repo=origin.repo, inside=first.hf_path)
        model_id = await anyio.to_thread.run_sync(named)
        meta = msgspec.structs.replace(_metadata(files, origin), model_id=str(model_id))
        async with self._alone(meta.sha256):
            return await self._take_in(files, meta, model_id, origin)

    async def _take_in(self, files: Sequence[Arrived], meta: Metadata, model_id: ModelId, origin: Origin) -> Entry:
        torrent = torrent_of(files, webseeds_of(meta))
        hashes = metainfo.parse(torrent).infohashes
        also = await self._keep_foreign(origin.foreign, hashes)
        meta = msgspec.structs.replace(
            meta, infohash_v1=hashes.v1 or "", infohash_v2=hashes.v2 or "", also_torrents=also
        )
        await self._keep_torrent(meta.infohash_v1, torrent)
        await self._make_way(meta)
        record = await anyio.to_thread.run_sync(partial(self.store.place, files[0].path, model_id, meta))
        entry = Entry(record, "stored")
        self._entries[meta.sha256] = entry
        log.info("library.adopted", model=meta.model_id, sha256=meta.sha256, sources=origin.sources)
        await self._seed(entry, torrent)
        self._changed()
        return entry

    async def _make_way(self, meta: Metadata) -> None:
        """A model that comes again, damaged or added during its pull, gives way to the new one, also when that has another name."""
        old = self._entries.get(meta.sha256)
        if old is None:
            return
        await self._stop_seeding(old)
        if (old.record.meta.files, old.record.meta.model_id) != (meta.files, meta.model_id):
            await anyio.to_thread.run_sync(partial(self.store.remove, old.record))

    async def _keep_torrent(self, infohash: str, torrent: bytes) -> None:
        """In a thread, as all that waits for the disk: behind gigabytes that others write a sync takes seconds."""
        await anyio.to_thread.run_sync(write_atomically, self._torrent_path(infohash), torrent)

    async def _keep_foreign(self, foreign: bytes | None, ours: InfoHashes) -> list[str]:
        if foreign is None:
            return []
        theirs = metainfo.parse(foreign).infohashes
        if theirs == ours:
            return []
        name = theirs.v1 or theirs.best
        await self._keep_torrent(name, foreign)
        return [name]

    async def verify(self, entry: Entry, on_progress: Callable[[int], None] | None = None) -> list[FileDigests]:
        """Read all files again. VerificationFailed names the wrong pieces of each, and the model is no longer seeded; NotFound when
        the model, or a file of it, is gone at the end.
        """
        record = entry.record
        record.changed_on_disk()  # raises when a file is gone
        known = await self._torrent_of(record)
        before = entry.state
        entry.state, entry.progress = "hashing", 0.0
        try:
            outcome = await self._read_again(entry, known, on_progress)
            async with self._alone(record.meta.sha256):
                self._check_kept(entry)
                with anyio.CancelScope(shield=True):  # what was found holds, also when nobody waits for it any more
                    digests = await self._conclude(entry, outcome, known)
        except HaliError:
            raise
        except BaseException:  # cancelled: nothing was learnt; of two at a time the first gives the state back
            if before != "hashing":
                entry.state, entry.progress = before, None
            raise
        return digests

    async def _conclude(
        self, entry: Entry, outcome: list[FileDigests] | HaliError, torrent: bytes | None
    ) -> list[FileDigests]:
        """The digests of a second reading, with all that follows from it; raises what was wrong."""
        if isinstance(outcome, HaliError):
            await self._give_up(entry, str(outcome), "missing" if isinstance(outcome, NotFound) else "damaged")
            raise outcome
        await self._verified(entry, outcome, torrent)
        return outcome

    async def _read_again(
        self, entry: Entry, torrent: bytes | None, on_progress: Callable[[int], None] | None
    ) -> list[FileDigests] | HaliError:
        """The digests of all files, or what is wrong with them."""
        try:
            digests = await self._hash(entry, on_progress)
            judge(entry.record, digests, torrent)
            entry.record.changed_on_disk()  # raises when a file went meanwhile
        except FileNotFoundError as exc:
            return NotFound(f"{entry.record.meta.model_id}: its file is gone: {exc.filename}")
        except HaliError as exc:
            return exc
        return digests

    async def _hash(self, entry: Entry, on_progress: Callable[[int], None] | None) -> list[FileDigests]:
        record, done = entry.record, 0
        paths = [record.directory / name for name in record.meta.files]
        hashers = [PieceHasher(path.stat().st_size) for path in paths]
        total = sum(hasher.length for hasher in hashers)

        def on_piece(length: int, index: int, _digests: PieceDigests, _midstate: bytes) -> None:
            nonlocal done
            done += piece_span(index, length)[1]
            entry.progress = done / total
            if on_progress is not None:
                on_progress(done)

        return [
            await hash_file_async(path, on_piece=partial(on_piece, hasher.length), known=hasher)
            for path, hasher in zip(paths, hashers, strict=True)
        ]

    async def _verified(self, entry: Entry, digests: Sequence[FileDigests], torrent: bytes | None) -> None:
        record = entry.record
        if torrent is None:
            torrent = await anyio.to_thread.run_sync(_rebuilt, record, digests)
            await self._keep_torrent(record.meta.infohash_v1, torrent)
        await self._note(entry, [(record.directory / name).stat().st_mtime_ns for name in record.meta.files])
        entry.state, entry.progress, entry.error = "stored", None, None
        log.info("library.verified", model=record.meta.model_id)
        await self._seed(entry, torrent)
        self._changed()

    async def damaged(self, infohashes: InfoHashes, reason: str) -> None:
        """The torrent session found the file of a seed changed: it is neither seeded nor served until it is verified."""
        if (entry := self.of_torrent(infohashes)) is not None:
            await self._give_up(entry, reason)

    async def _give_up(self, entry: Entry, reason: str, state: Literal["damaged", "missing"] = "damaged") -> None:
        """The file is not what it was: neither seeded nor served, also by later lives of the daemon, until it is verified."""
        log.error("library.damaged", model=entry.record.meta.model_id, reason=reason)
        self._condemn(entry, state, reason)
        with anyio.CancelScope(shield=True):
            await self._note(entry, [0] * len(entry.record.meta.files))  # no file's time: the next start verifies it
            await self._stop_seeding(entry)
        self._changed()

    def _condemn(self, entry: Entry, state: Literal["damaged", "missing"], reason: str) -> None:
        """It is not what it was; told once, however often that is found."""
        known, entry.condemned = entry.condemned, True
        entry.state, entry.progress, entry.error, entry.trusted = state, None, reason, False
        if not known:
            name = entry.record.meta.model_id
            self._activity.tell("model.damaged", f"{name} is {state} and not shared any more: {reason}", model=name)

    async def _note(self, entry: Entry, times: Sequence[int]) -> None:
        """Remember the files' times with the verdict on them. Where nothing can be written, the next start verifies again."""
        meta = entry.record.meta.verified_at(times)
        if meta == entry.record.meta:
            return
        entry.record = Record(meta, entry.record.directory)
        try:
            async with self._noting:  # the last verdict is the last one written
                await anyio.to_thread.run_sync(self.store.update, entry.record)
        except OSError as exc:
            log.warning("library.not_noted", model=entry.record.meta.model_id, error=str(exc))

    async def _stop_seeding(self, entry: Entry) -> None:
        if self._seeds is not None:
            await self.twins.remove(self._seeds, entry.record.meta.sha256)
            for infohashes in (entry.record.infohashes, *map(_as_infohashes, entry.record.meta.also_torrents)):
                await self._seeds.remove(infohashes)

    async def remove(self, entry: Entry) -> None:
        """Stop seeding and delete the files. Refused when the disk does not let us: then the model is still ours; NotFound: it is not."""
        async with self._alone(entry.record.meta.sha256):
            self._check_kept(entry)
            with anyio.CancelScope(shield=True):  # half of it would pass for seeded, or come back at the next start
                await self._remove(entry)

    async def _remove(self, entry: Entry) -> None:
        meta = entry.record.meta
        await self._stop_seeding(entry)
        self._entries.pop(meta.sha256, None)
        self._changed()
        try:
            await anyio.to_thread.run_sync(partial(self.store.remove, entry.record))
        except OSError as exc:
            self._entries[meta.sha256] = entry
            await self._tried(self._seed_unchanged, entry)
            self._changed()
            raise Refused(f"cannot delete {meta.model_id}: {exc.strerror}: {entry.record.directory}") from None
        self._activity.tell("model.removed", f"{meta.model_id} was deleted", model=meta.model_id)
        for name in (meta.infohash_v1, *meta.also_torrents):
            self._torrent_path(name).unlink(missing_ok=True)

    def magnet(self, record: Record) -> str:
        """The link that any BitTorrent client takes."""
        meta = record.meta
        return magnet.build(record.infohashes, torrent_name(meta.files), webseeds=webseeds_of(meta))

    def describe(self, entry: Entry) -> dict[str, Any]:
        """The public fields of a model."""
        fields: dict[str, Any] = msgspec.to_builtins(entry.record.meta)
        fields.pop("mtime_ns")
        for part in fields.get("parts", ()):
            part.pop("mtime_ns")
        found = {"path": str(entry.record.path), "state": entry.state, "magnet": self.magnet(entry.record)}
        twin = self.twins.magnet(entry.record.meta.sha256, torrent_name(entry.record.meta.files))
        return fields | found | {"magnet_v1": twin, "error": entry.error}

    async def _torrent_of(self, record: Record) -> bytes | None:
        """Ours; None where it is lost or damaged, which says nothing of the model: verifying makes it anew from the files."""
        try:
            torrent = await anyio.Path(self._torrent_path(record.meta.infohash_v1)).read_bytes()
            return torrent if metainfo.parse(torrent).infohashes == record.infohashes else None
        except (FileNotFoundError, ProtocolError):
            return None

    def _torrent_path(self, infohash: str) -> Path:
        return self._torrents / f"{infohash}.torrent"

    def _changed(self) -> None:
        self._announce([e.record for e in self.entries() if e.state == "seeding"])
        self._activity.changed("models")


def name_file(path: Path, *, repo: str | None = None, inside: str | None = None) -> ModelId:
    """The id of a file by its name, and by repository and path in it where they are known; what these lack a GGUF header may tell.

    Any other file can be shared too, only not run. Reading a header takes 80 ms for 50,000 tokens, so it is read only when it is
    needed: seeding waits for this.
    """
    name = inside or path.name
    model = derive(name, repo=repo)
    if UNKNOWN not in (model.size, model.quant):
        return model
    try:
        header = gguf.read_header_file(path)
    except HaliError as exc:
        log.info("library.not_gguf", file=path.name, error=str(exc))
        return model
    return derive(name, repo=repo, size_label=header.size_label, quant_hint=header.quantization)


def _metadata(files: Sequence[Arrived], origin: Origin) -> Metadata:
    """All that does not depend on the torrent and the model's name."""
    parts = [_stored(file) for file in files]
    listed = StreamHasher()
    listed.update(manifest([part.ref for part in parts]))
    plain = len(parts) == 1 and parts[0].hf_path is None  # then the parts would only repeat the rest
    return Metadata(
        model_id="",
        sha256=identity([part.ref for part in parts]),
        blake3=parts[0].blake3 if len(parts) == 1 else listed.finish().blake3.hex(),
        infohash_v1="",
        infohash_v2="",
        files=[part.name for part in parts],
        size=sum(part.size for part in parts),
        downloaded_at=now_rfc3339(),
        mtime_ns=0,  # set when it is placed
        hf_repo=origin.repo,
        hf_revision=origin.revision,
        sources=origin.sources,
        parts=[] if plain else parts,
    )


def _stored(file: Arrived) -> StoredFile:
    name, digests = file.path.name, file.digests
    path = file.hf_path if file.hf_path != name else None
    return StoredFile(name, digests.length, digests.sha256.hex(), digests.blake3.hex(), 0, path)


def _rebuilt(record: Record, digests: Sequence[FileDigests]) -> bytes:
    """The torrent of a model whose `.torrent` is lost. Blocks for a piece of each file."""
    paths = [record.directory / name for name in record.meta.files]
    arrived = [Arrived(path, each, padded_sha1_of(path)) for path, each in zip(paths, digests, strict=True)]
    return torrent_of(arrived, webseeds_of(record.meta))


def _as_infohashes(text: str) -> InfoHashes:
    return InfoHashes(v1=text) if len(text) == 40 else InfoHashes(v2=text)

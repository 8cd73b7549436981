"""The registry's part of one node: what it publishes, reports, finds, and its publisher key. Built by the composition root."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import msgspec

from hali.config.identity import Identity
from hali.config.paths import Paths
from hali.config.registries import Address, parse_all
from hali.config.schema import Settings
from hali.model.errors import HaliError, NotFound, TransferFailed, UsageError, VerificationFailed
from hali.registry import folder as folders
from hali.registry import head, telemetry
from hali.registry.delivery import RegistryOutbox
from hali.registry.documents import Index, Manifest
from hali.registry.finder import RegistryFinder
from hali.registry.outbox import Outbox
from hali.registry.publisher import Publisher
from hali.registry.signing import unseal
from hali.registry.sources import FolderSource, ServerSource, Source
from hali.runtime.log import get_logger
from hali.share.job import Job
from hali.store.database import Database
from hali.store.models import Metadata, Record
from hali.transfer.metainfo import parse as parse_torrent

log = get_logger(__name__)
T = TypeVar("T")

Records = Callable[[], Sequence[Record]]


class LocalRegistry:
    """`servers` are the URLs that take publications; folders are written by `index` and read like servers."""

    def __init__(
        self, paths: Paths, settings: Settings, identity: Identity, database: Database, records: Records
    ) -> None:
        addresses = parse_all(settings.registry.url)
        self.servers = tuple(address.url for address in addresses if address.pin is None)
        self._settings, self._identity, self._database, self._records = settings, identity, database, records
        self._torrents = paths.torrents
        self.publisher = Publisher(paths, database)
        self._changing = anyio.Lock()
        self.outbox = Outbox(database)
        self.finder = RegistryFinder({address.url: self._source(address) for address in addresses})

    def _source(self, address: Address) -> Source:
        return ServerSource(address) if address.pin is None else FolderSource(address, self._database)

    def service(self) -> RegistryOutbox:
        """What carries the outbox to the servers."""
        return RegistryOutbox(self.outbox, self.servers, self._ingest)

    # ---- after a job, in the transaction that forgets it

    def job_ended(self, job: Job, db: sqlite3.Connection) -> None:
        """Write down what shall be told of it. Nothing here may cost the job: what cannot be told is logged."""
        if not self.servers or (job.result or {}).get("from_store") or job.spec.layers is not None:
            return  # a part proves nothing of the model, neither to publish nor to report
        if job.result is not None and self._settings.registry.publish and len(job.result["files"]) == 1:
            # Not from the library, which belongs to the event loop: this runs in a thread.
            with _logged(job):
                self._publish(db, _metadata_of(job.result))
        if self._settings.telemetry and job.spec.kind == "pull":
            with _logged(job):
                self._report(db, job)

    def _report(self, db: sqlite3.Connection, job: Job) -> None:
        if job.result is not None:
            infohash, outcome = job.result["infohash_v2"], "ok"
        else:
            listing = self.finder.recall(job.spec.what)
            if listing is None or not isinstance(job.error, VerificationFailed | TransferFailed):
                return  # no registry had to do with it, or the failure was this machine's
            infohash, outcome = parse_torrent(listing.torrent).infohashes.best, "failed"
        for url in self.servers:
            self.outbox.put(db, url, "report", infohash, telemetry.report(self._identity, url, infohash, outcome))

    # ---- what a person asks for

    async def publish(self, meta: Metadata) -> None:
        """Queue the signed manifest of a model for every server; UsageError without any."""
        self._need_servers()
        await self._write(lambda db: self._publish(db, meta))

    def _publish(self, db: sqlite3.Connection, meta: Metadata) -> None:
        envelope = self.publisher.manifest(db, meta)
        for url in self.servers:
            self.outbox.put(db, url, "publish", meta.infohash_v2, envelope)

    async def set_profile(self, fields: dict[str, str]) -> None:
        """Sign a profile and queue it for every server."""
        await self._write(lambda db: self._put_profile(db, fields))

    def _put_profile(self, db: sqlite3.Connection, fields: dict[str, str]) -> None:
        envelope = self.publisher.sign_profile(db, fields)
        for url in self.servers:
            self.outbox.put(db, url, "profile", self.publisher.key, envelope)

    async def rotate(self) -> tuple[str, str]:
        """(old key, new key): the old one names its successor, signed by both, and signs nothing any more."""
        profile = await anyio.to_thread.run_sync(self.publisher.profile)
        keys = await self._change(self._rotate)
        if profile:  # profiles belong to a key
            await self.set_profile(profile)
        return keys

    async def _change(self, close: Callable[[sqlite3.Connection], None]) -> tuple[str, str]:
        """`close` the present key, and use a new one; (old key, new key).

        One at a time and to its end, also what an earlier try left half done: both keys are those of this change.
        """
        with anyio.CancelScope(shield=True):
            async with self._changing:
                await anyio.to_thread.run_sync(self.publisher.finish_change)
                old = self.publisher.key
                await self._write(close)
                await anyio.to_thread.run_sync(self.publisher.finish_change)
                new = self.publisher.key
        return old, new

    def _rotate(self, db: sqlite3.Connection) -> None:
        envelope, _ = self.publisher.rotate(db)
        for url in self.servers:
            self.outbox.put(db, url, "rotate", self.publisher.key, envelope)

    async def revoke(self, reason: str | None) -> tuple[str, str]:
        """(revoked key, new key): nothing that the old one signs later is taken; the new one begins without reputation."""
        return await self._change(lambda db: self._revoke(db, reason))

    def _revoke(self, db: sqlite3.Connection, reason: str | None) -> None:
        envelope = self.publisher.revoke(db, reason)
        for url in self.servers:
            self.outbox.put(db, url, "revoke", self.publisher.key, envelope)

    async def index(self, directory: Path, records: Sequence[Record]) -> dict[str, Any]:
        """Write the static registry of these models into `directory`; `left_out` are those that it cannot list, and why."""
        return await anyio.to_thread.run_sync(self._index, directory, records)

    def _index(self, directory: Path, records: Sequence[Record]) -> dict[str, Any]:
        items: list[folders.Item] = []
        left_out: list[dict[str, str]] = []
        with self._database.transaction() as db:
            for meta in (record.meta for record in records):
                try:
                    fresh = self.publisher.manifest(db, meta)
                    envelope = folders.kept(directory, unseal(fresh, Manifest)) or fresh
                    items.append(folders.Item(envelope, self._torrent(meta)))
                except (NotFound, UsageError) as exc:
                    left_out.append({"model_id": meta.model_id, "reason": exc.message})
            entries = [folders.entry_of(item) for item in items]
            index = self.publisher.seal_signed(db, Index, entries=entries)
        count = folders.write(directory, index, items, self.publisher.closings())
        sequence = unseal(index, Index).sequence
        return {"models": count, "key": self.publisher.key, "sequence": sequence, "left_out": left_out}

    # ---- helpers

    def _need_servers(self) -> None:
        if not self.servers:
            raise UsageError("no registry to publish to", hint="hali config set registry.url https://…")

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            with self._database.transaction() as db:
                return work(db)

        return await anyio.to_thread.run_sync(run)

    def _torrent(self, meta: Metadata) -> bytes:
        try:
            return (self._torrents / f"{meta.infohash_v1}.torrent").read_bytes()
        except OSError as exc:
            raise NotFound(f"the torrent of {meta.model_id} cannot be read: {exc.strerror}") from None

    async def _ingest(self, infohash: str) -> bytes:
        record = next((r for r in self._records() if r.meta.infohash_v2 == infohash), None)
        if record is None:
            raise NotFound(f"no model {infohash[:16]}… is here any more")
        return await anyio.to_thread.run_sync(self._ingest_body, record)

    def _ingest_body(self, record: Record) -> bytes:
        torrent = self._torrent(record.meta)
        try:
            block = head.read(record.path)
        except OSError as exc:
            raise NotFound(f"{record.meta.model_id} cannot be read: {exc.strerror}") from None
        with self._database.transaction() as db:
            signed = self.publisher.ingest(db, record.meta.infohash_v2, torrent)
        return msgspec.json.encode({"signed": msgspec.Raw(signed), "torrent": torrent, "head": block})


@contextmanager
def _logged(job: Job) -> Iterator[None]:
    """What cannot be told of this job is a warning in the log, and hinders nothing after it."""
    try:
        yield
    except (HaliError, msgspec.ValidationError) as exc:
        log.warning("registry.not_told", job=job.spec.what, error=str(exc))


def _metadata_of(result: dict[str, Any]) -> Metadata:
    """What `Library.describe` told, as metadata again; the times, which it leaves out, are nobody's business elsewhere."""
    parts = [{**part, "mtime_ns": 0} for part in result.get("parts", ())]
    return msgspec.convert({**result, "mtime_ns": 0, "parts": parts}, Metadata)

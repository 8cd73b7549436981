"""Partial models on disk: `models/.partial/<infohash>/` with the file and its holes, the journal, the torrent and `partial.json`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec

from hali.config.files import fsync_directory, write_atomically
from hali.model.errors import StoreDamaged
from hali.model.filenames import unsafe
from hali.model.ids import InfoHashes, is_hex
from hali.model.layers import Layers
from hali.model.names import parse
from hali.runtime.log import get_logger
from hali.store.metadata import Nanoseconds, Size
from hali.store.models import PARTIAL, PARTIAL_METADATA, Metadata, ModelStore, Record

log = get_logger(__name__)

HINT = "remove that folder and pull the layers again"


class PartialMeta(msgspec.Struct, frozen=True, omit_defaults=True):
    """`partial.json`. Only additions are allowed."""

    model_id: str
    file: str
    size: Size  # of the whole file
    layers: list[Layers]  # [start, end), in order
    infohash_v1: str
    infohash_v2: str
    downloaded_at: str  # RFC 3339, UTC
    mtime_ns: Nanoseconds  # of the file when its pieces were last known to be right
    pieces: Size = 0  # how many these were
    sha256: str | None = None  # of the whole file, or its first 32 digits, as promised: a part cannot prove it
    hf_repo: str | None = None
    hf_revision: str | None = None


class PartialRecord(msgspec.Struct, frozen=True):
    """One partial model and where it lies."""

    meta: PartialMeta
    directory: Path

    @property
    def path(self) -> Path:
        """The file: as long as the whole one, with holes."""
        return self.directory / self.meta.file

    @property
    def infohashes(self) -> InfoHashes:
        """Of the torrent that its pieces were checked against."""
        return InfoHashes(self.meta.infohash_v1, self.meta.infohash_v2)

    @property
    def on_disk(self) -> int:
        """Bytes that the file takes; 0 when it is gone."""
        try:
            return self.path.lstat().st_blocks * 512
        except FileNotFoundError:
            return 0

    @property
    def as_whole(self) -> Record:
        """As the model it is a part of: for what looks models up by name."""
        meta = self.meta
        whole = Metadata(
            model_id=meta.model_id,
            sha256=meta.sha256 or meta.infohash_v2,
            blake3="",
            infohash_v1=meta.infohash_v1,
            infohash_v2=meta.infohash_v2,
            files=[meta.file],
            size=meta.size,
            downloaded_at=meta.downloaded_at,
            mtime_ns=meta.mtime_ns,
            hf_repo=meta.hf_repo,
            hf_revision=meta.hf_revision,
        )
        return Record(whole, self.directory)


class PartialStore:
    """All partial models of a store. Only one process writes."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store

    def records(self) -> list[PartialRecord]:
        """Every readable one, by name; what is unreadable is logged and left out."""
        found = []
        for path in self._store.root.glob(f"{PARTIAL}/*/{PARTIAL_METADATA}"):
            try:
                found.append(_read(path))
            except StoreDamaged as exc:
                log.warning("store.damaged", path=str(path), error=str(exc))
        return sorted(found, key=lambda record: (record.meta.model_id, record.meta.infohash_v2))

    def place(self, key: str, meta: PartialMeta) -> PartialRecord:
        """Make the unfinished download `key` a partial model; one of the same torrent gives way to it."""
        source, target = self._store.incoming(key), self._store.partial(meta.infohash_v2)
        data = msgspec.json.format(msgspec.json.encode(meta), indent=2)
        write_atomically(source / PARTIAL_METADATA, data + b"\n")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(source, target)
        fsync_directory(target.parent)
        return PartialRecord(meta, target)

    def before(self, key: str) -> PartialMeta | None:
        """What the unfinished download `key` was a partial model of, before it was taken."""
        try:
            return _decode(self._store.incoming(key) / PARTIAL_METADATA)
        except StoreDamaged:
            return None

    def discard(self, key: str) -> None:
        """Throw an unfinished download away."""
        self._store.discard_incoming(key)

    def incoming(self, key: str) -> Path:
        """The folder of an unfinished download."""
        return self._store.incoming(key)

    def take(self, record: PartialRecord, key: str) -> Path:
        """Make it the unfinished download `key` again; its folder. What was begun there before gives way."""
        source, target = self._store.partial(record.directory.name), self._store.incoming(key)
        self._store.discard_incoming(key)
        os.replace(source, target)
        return target

    def remove(self, record: PartialRecord) -> None:
        """Delete it: metadata first, so that no record speaks of a file that is gone."""
        directory = self._store.partial(record.directory.name)
        (directory / PARTIAL_METADATA).unlink(missing_ok=True)
        shutil.rmtree(directory)


def _read(path: Path) -> PartialRecord:
    meta = _decode(path)
    if path.parent.name != meta.infohash_v2:
        raise StoreDamaged(f"{path}: it is of another torrent than its folder", hint=HINT)
    return PartialRecord(meta, path.parent)


def _decode(path: Path) -> PartialMeta:
    """StoreDamaged also when there is none."""
    try:
        meta = msgspec.json.decode(path.read_bytes(), type=PartialMeta)
    except (OSError, msgspec.MsgspecError, RecursionError) as exc:
        raise StoreDamaged(f"{path}: {exc}", hint=HINT) from None
    checks = {
        "model_id": parse(meta.model_id) is not None,
        "file": not unsafe(meta.file),
        "size": meta.size > 0,
        "layers": bool(meta.layers) and all(0 <= start < end for start, end in meta.layers),
        "infohash_v1": is_hex(meta.infohash_v1, 40),
        "infohash_v2": is_hex(meta.infohash_v2, 64),
        "sha256": meta.sha256 is None or is_hex(meta.sha256, 64) or is_hex(meta.sha256, 32),
        "hf_repo": (meta.hf_repo or "").isprintable() and (meta.hf_revision or "").isprintable(),
    }
    if wrong := [field for field, right in checks.items() if not right]:
        raise StoreDamaged(f"{path}: {', '.join(wrong)} cannot be", hint=HINT)
    return meta

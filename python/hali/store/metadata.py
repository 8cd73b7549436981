"""`metadata.json`: what is on record of a model, and whether that can be."""

from __future__ import annotations

import calendar
import time
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from hali.model.filenames import unsafe
from hali.model.ids import is_hex
from hali.model.names import parse
from hali.wire.manifest import FileRef, identity

METADATA = "metadata.json"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_LARGEST = (1 << 63) - 1  # longer numbers can neither be sent nor be computed with as floats

Size = Annotated[int, Meta(ge=0, le=_LARGEST)]
Nanoseconds = Annotated[int, Meta(ge=-_LARGEST, le=_LARGEST)]  # a file may be older than 1970


class StoredFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file of a model, as `metadata.json` has it."""

    name: str
    size: Size
    sha256: str
    blake3: str
    mtime_ns: Nanoseconds
    hf_path: str | None = None  # inside `hf_repo`, where that is not its name

    @property
    def ref(self) -> FileRef:
        """As the model's identity counts it."""
        return FileRef(self.name, self.size, self.sha256)


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """`metadata.json`. Field names are a public format; only additions are allowed.

    Of a model of several files `sha256` and `blake3` are those of their list (`wire.manifest.manifest`).
    """

    model_id: str
    sha256: str
    blake3: str
    infohash_v1: str
    infohash_v2: str
    files: list[str]  # the one that is opened to run the model, then the others
    size: Size  # of all files
    downloaded_at: str  # RFC 3339, UTC
    mtime_ns: Nanoseconds  # of the file when it was last verified: a difference means it must be verified again
    hf_repo: str | None = None
    hf_revision: str | None = None
    sources: dict[str, Size] = {}  # bytes by kind of source: import, http, webseed, lan, torrent, store
    also_torrents: list[str] = []  # v1 (else v2) infohashes of foreign torrents of the same bytes that we seed too
    parts: list[
        StoredFile
    ] = []  # in the order of `files`; left out where there is one, and the fields above say it all

    @property
    def torrents(self) -> set[str]:
        """Infohashes of every torrent of it that is on record."""
        return {self.infohash_v1, self.infohash_v2, *self.also_torrents}

    @property
    def each(self) -> list[StoredFile]:
        """All files, in the order of `files`."""
        return self.parts or [StoredFile(self.files[0], self.size, self.sha256, self.blake3, self.mtime_ns)]

    def verified_at(self, times: Sequence[int]) -> Metadata:
        """The same with other modification times of the files."""
        parts = [msgspec.structs.replace(part, mtime_ns=at) for part, at in zip(self.parts, times, strict=False)]
        return msgspec.structs.replace(self, mtime_ns=times[0], parts=parts)


def wrong_fields(meta: Metadata) -> list[str]:
    """Fields that hali would not have written. They name files and folders, so nothing is believed that was not checked."""
    checks = {
        "model_id": parse(meta.model_id) is not None,
        "sha256": is_hex(meta.sha256, 64),
        "blake3": is_hex(meta.blake3, 64),
        "infohash_v1": is_hex(meta.infohash_v1, 40),
        "infohash_v2": is_hex(meta.infohash_v2, 64),
        "also_torrents": all(is_hex(name, 40) or is_hex(name, 64) for name in meta.also_torrents),
        "files": bool(meta.files) and not any(unsafe(name) or name == METADATA for name in meta.files),
        "parts": _parts_fit(meta),
        "size": meta.size > 0,
        "downloaded_at": _is_time(meta.downloaded_at),
        "hf_repo": (meta.hf_repo or "").isprintable(),
        "hf_revision": (meta.hf_revision or "").isprintable(),
        "sources": all(kind.isprintable() for kind in meta.sources),
    }
    return [field for field, right in checks.items() if not right]


def _parts_fit(meta: Metadata) -> bool:
    """Whether the list of files is the one that the model's SHA-256 names."""
    if not meta.parts:
        return len(meta.files) == 1
    if not all(is_hex(part.sha256, 64) and is_hex(part.blake3, 64) and part.size > 0 for part in meta.parts):
        return False
    same = [part.name for part in meta.parts] == meta.files and sum(part.size for part in meta.parts) == meta.size
    return same and identity([part.ref for part in meta.parts]) == meta.sha256


def _is_time(text: str) -> bool:
    try:
        return rfc3339(seconds_since_1970(text)) == text
    except ValueError:
        return False


def seconds_since_1970(text: str) -> float:
    """The moment that `now_rfc3339` wrote."""
    return float(calendar.timegm(time.strptime(text, _TIME)))


def now_rfc3339() -> str:
    """The wall clock, for display only."""
    return rfc3339(time.time())


def rfc3339(seconds: float) -> str:
    """Unix time as people and metadata write it."""
    return time.strftime(_TIME, time.gmtime(seconds))

"""What the fake hub holds, what it does wrong, and what it was asked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import threading
from pathlib import Path

Content = bytes | Path


@dataclasses.dataclass
class Faults:
    """What goes wrong. Counters count down with each affected request; the rest stays until changed."""

    busy: int = 0  # next requests for bytes answer `busy_status` with `retry_after`
    busy_status: int = 429
    retry_after: str | None = "1"
    api_busy: int = 0  # the same for the API
    api_redirect: str | None = None  # where the API sends everybody
    api_refuse: str | None = None  # the API refuses everything in these words
    api_body: bytes | None = None  # what the API answers to everything, with 200
    cut_every: int | None = None  # the connection breaks after so many body bytes
    cut_times: int | None = None  # … so often; None = always
    token_uses: int | None = None  # a CDN address works for so many requests, then answers 403
    size_lie: int = 0  # added to every size that is told …
    api_lie: int = 0  # … by the API only
    promise_lie: int = 0  # … in X-Linked-Size only
    total_lie: int = 0  # … as the total of Content-Range only
    length_lie: int = 0  # … in Content-Length only; the connection ends after the real bytes
    etag_after: int | None = None  # after so many CDN requests the ETag is another one
    end_early: int | None = None  # Content-Length is right, the chunked body is not: so many bytes fewer
    too_long: int = 0  # so many bytes more than asked for, chunked
    shifted_range: bool = False  # Content-Range names another place than asked for
    flip_at: int | None = None  # one bit of this byte of the file is wrong
    garble: bool = False  # every byte of the file is wrong
    stall_after: int | None = None  # silence after so many body bytes
    stall_times: int | None = None
    no_ranges: bool = False
    no_ranges_after: int | None = None  # ranges are ignored after so many CDN requests
    page_after: int | None = None  # after so many CDN requests a login page comes instead, with 200
    gzipped: bool = False  # Content-Encoding: gzip, though it was not asked for
    plain_mirror: bool = False  # no X-Linked headers, and each address of the CDN has an ETag of its own
    gate: threading.Event | None = None  # requests for more than a probe wait for it
    silent: bool = False  # requests for bytes are never answered
    rate: int | None = None  # bytes per second and connection …
    rate_after: int = 0  # … but those of so many CDN requests before
    no_redirect: bool = False  # files come from the hub itself
    redirect_to: str | None = None  # instead of the CDN
    no_blobs: bool = False  # model info names files only, as some mirrors do
    page_size: int = 1000  # files of a tree in one answer
    next_page: str | None = None  # what each page of a tree, but the last one, names as its next
    refuse: int | None = None  # every request for bytes answers with this status


@dataclasses.dataclass
class Request:
    """One request as the server saw it, noted before the answer goes out; `sent` are body bytes of a file so far."""

    server: str  # hub or cdn
    method: str
    path: str
    range: str | None
    authorization: str | None
    status: int
    sent: int = 0


@dataclasses.dataclass
class Repo:
    """A repository with one commit."""

    files: dict[str, Content]
    gated: bool = False  # opens to those who accepted its terms: `FakeHub.TOKEN`
    private: bool = False
    sha: str = ""
    oids: dict[str, str] = dataclasses.field(default_factory=dict)
    downloads: int = 7
    likes: int = 1
    updated: str = "2025-01-02T03:04:05.000Z"

    def __post_init__(self) -> None:
        self.oids = {name: _sha256(content) for name, content in self.files.items()}
        self.sha = hashlib.sha1(json.dumps(self.oids, sort_keys=True).encode()).hexdigest()

    def size(self, name: str) -> int:
        """Bytes of a file."""
        content = self.files[name]
        return len(content) if isinstance(content, bytes) else content.stat().st_size

    def read(self, name: str, offset: int, count: int) -> bytes:
        """A stretch of a file."""
        content = self.files[name]
        if isinstance(content, bytes):
            return content[offset : offset + count]
        with content.open("rb") as file:
            file.seek(offset)
            return file.read(count)


def _sha256(content: Content) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""What a server must say of a file for its bytes to be taken: size, tag and SHA-256 as pinned, or as it first said them."""

from __future__ import annotations

import httpx

from hali.model.errors import TransferFailed
from hali.model.ids import is_hex
from hali.model.urls import redacted
from hali.transfer.http_body import Attempt
from hali.transfer.http_location import Location, RetryLater, parse_content_range, plain_tag


class Expectation:
    """Of one source called `name`. `size` is learnt from the first answer when it is not given."""

    def __init__(self, name: str, *, size: int | None, etag: str | None, sha256: str | None) -> None:
        self.size = size
        self._name, self._etag, self._sha256 = name, plain_tag(etag), sha256

    def accept(self, found: Location) -> None:
        """Checks a resolution against what was pinned and against the first one; a final error when they differ."""
        if found.size is None and self.size is None:
            raise TransferFailed(f"{self._name}: the server does not say how long the file is", retryable=False)
        if self.size is None:
            self.size = found.size
        if found.size is not None and found.size != self.size:
            raise self._changed(f"size {self.size} became {found.size}")
        # The end of a redirect is one of many hosts, and each may have a tag of its own for the same file.
        tag = found.origin_tag or (None if found.redirected else found.etag)
        if tag is None:
            return
        if self._sha256 is not None and is_hex(tag, 64) and tag != self._sha256:
            raise self._changed(f"SHA-256 {tag} in place of {self._sha256}")
        if self._etag is not None and tag != self._etag:
            raise self._changed(f"ETag {self._etag} became {tag}")
        self._etag = tag

    def check_range(self, location: Location, response: httpx.Response, attempt: Attempt) -> int:
        """How many bytes this answer may bring; final errors for lies and changed files."""
        if response.status_code != 206:
            raise RetryLater(f"HTTP {response.status_code} instead of 206")
        span = parse_content_range(response.headers.get("content-range"))
        fits = span is not None and span[0] == attempt.offset and span[1] <= attempt.last
        if span is None or not fits or "content-encoding" in response.headers:
            raise TransferFailed(f"{redacted(location.url)}: the answer is not the range asked for", retryable=False)
        if span[2] is not None and span[2] != self.size:
            raise self._changed(f"size {self.size} became {span[2]}")
        self.check_tag(location, response)
        return span[1] - span[0] + 1

    def check_tag(self, location: Location, response: httpx.Response) -> None:
        """A final error if the file was changed since `location` was found."""
        tag = plain_tag(response.headers.get("etag"))
        if tag is not None and location.etag is not None and tag != location.etag:
            raise self._changed(f"ETag {location.etag} became {tag}")

    def _changed(self, what: str) -> TransferFailed:
        return TransferFailed(
            f"{self._name}: the file on the server is not the expected one ({what})",
            retryable=False,
            hint="resolve the model again to get the present revision",
        )

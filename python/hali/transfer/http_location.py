"""Where the bytes of a URL really are: redirects followed by hand, so that a token never reaches another host."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urljoin
from urllib.request import getproxies

import anyio
import httpx
import msgspec

from hali.model.errors import HaliError, NotFound, Refused, TransferFailed, UsageError
from hali.transfer.http_guard import check_connected, check_public, origin, redacted
from hali.transfer.http_retry import RETRYABLE_STATUS, HttpPolicy, retry_after

Headers = Mapping[str, str]
HeaderProvider = Callable[[], Awaitable[Headers]]  # asked anew at each resolution, so that a renewed token is used

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z", re.ASCII)
# Headers that prove who asks; they stay with the host that the caller named.
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})


class Location(msgspec.Struct, frozen=True):
    """The end of the redirects, and what the servers said of the file."""

    url: str
    redirected: bool
    ranges: bool  # False: the server ignores Range, so the file comes as one stream
    size: int | None  # None: the server does not say
    origin_tag: str | None  # X-Linked-Etag of the hub: for LFS files their SHA-256
    etag: str | None  # what the last host says; differs between CDN hosts
    headers: dict[str, str]  # for requests to `url`


class RetryLater(Exception):
    """The attempt failed in a way that may pass; `after` is the wait the server asked for."""

    def __init__(self, reason: str, *, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


def plain_tag(value: str | None) -> str | None:
    """An entity tag without quotes and weakness mark, so that `W/"x"`, `"x"` and `x` compare equal."""
    if value is None:
        return None
    return value.strip().removeprefix("W/").strip('"') or None


def parse_content_range(value: str | None) -> tuple[int, int, int | None] | None:
    """(first, last, total or None) of `bytes 0-99/1000`; None for anything malformed."""
    match = _CONTENT_RANGE.match(value or "")
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    total = None if match[3] == "*" else int(match[3])
    if last < first or (total is not None and last >= total):
        return None
    return first, last, total


def refused_status(url: str, response: httpx.Response) -> HaliError:
    """The final error for a status that no retry cures."""
    status, where = response.status_code, redacted(url)
    if status in (401, 403):
        return Refused(
            f"{where}: the server refuses access (HTTP {status})",
            hint="the repository may be gated or private: accept its terms, then set HF_TOKEN or run `hf auth login`",
        )
    if status in (404, 410):
        return NotFound(f"{where}: no such file (HTTP {status})")
    return TransferFailed(f"{where}: HTTP {status}", retryable=False)


def refuse_broken_answer(url: str, response: httpx.Response) -> None:
    """Raises `RetryLater` for passing trouble and a final error for statuses that no retry cures."""
    status = response.status_code
    if status in RETRYABLE_STATUS or status >= 500:
        raise RetryLater(f"HTTP {status}", after=retry_after(response.headers))
    if status >= 400:
        raise refused_status(url, response)


@asynccontextmanager
async def network_trouble() -> AsyncIterator[None]:
    """Turns what httpx raises for broken, slow or silent connections into `RetryLater`."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise RetryLater(f"no byte in time ({type(error).__name__})") from error
    except (httpx.TransportError, httpx.StreamError) as error:
        raise RetryLater(f"{type(error).__name__}: {error}".rstrip(": ")) from error
    except (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
        raise RetryLater(f"connection broke: {error}") from error


class Resolver:
    """Follows one URL to its bytes; untrusted URLs may not lead into private networks."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        headers: Headers | HeaderProvider,
        policy: HttpPolicy,
        *,
        guarded: bool,
    ) -> None:
        self._client = client
        self._url = url
        self._headers = headers
        self._policy = policy
        self._guarded = guarded

    async def locate(self) -> Location:
        """One pass over the redirects with a one-byte range request. Raises `RetryLater` or a final error."""
        secret_free, full = await self._header_sets()
        url, home, linked = self._url, origin(self._url), httpx.Headers()
        for _ in range(self._policy.redirects + 1):
            headers = full if origin(url) == home else secret_free
            async with self.request(url, {**headers, "range": "bytes=0-0"}) as response:
                for name in ("x-linked-etag", "x-linked-size"):
                    if name in response.headers:
                        linked[name] = response.headers[name]
                if response.status_code not in REDIRECTS:
                    if not _is_empty_file(response):
                        refuse_broken_answer(url, response)
                    if response.status_code == 206 and response.headers.get("content-length") == "1":
                        async with network_trouble():
                            await response.aread()  # else the connection could not be used again
                    return self._describe(url, headers, response, linked)
                url = self._next(url, response)
        raise TransferFailed(f"{redacted(self._url)}: more than {self._policy.redirects} redirects", retryable=False)

    @asynccontextmanager
    async def request(self, url: str, headers: Headers) -> AsyncIterator[httpx.Response]:
        """One GET without following redirects; the body is left to the caller. Network errors become `RetryLater`."""
        if self._guarded:
            await check_public(url)
        try:
            request = self._client.build_request("GET", url, headers={**headers, "accept-encoding": "identity"})
        except httpx.InvalidURL as error:
            raise TransferFailed(f"{redacted(url)}: {error}", retryable=False) from error
        async with network_trouble():
            response = await self._client.send(request, stream=True, follow_redirects=False)
        try:
            if self._guarded and not getproxies():  # behind a proxy the connected address is the proxy's
                check_connected(response, url)
            yield response
        finally:
            async with network_trouble():
                await response.aclose()

    async def _header_sets(self) -> tuple[dict[str, str], dict[str, str]]:
        given = await self._headers() if callable(self._headers) else self._headers
        full = {name.lower(): value for name, value in given.items()}
        return {name: value for name, value in full.items() if name not in _SECRET_HEADERS}, full

    def _next(self, url: str, response: httpx.Response) -> str:
        target = urljoin(url, str(response.headers.get("location", "")))
        if target == url:
            raise TransferFailed(f"{redacted(url)}: redirects to itself", retryable=False)
        try:
            scheme, _, _ = origin(target)
        except UsageError as error:
            raise Refused(f"{redacted(url)}: redirects to {error}") from error
        if origin(url)[0] == "https" and scheme == "http":
            raise Refused(f"{redacted(url)}: redirects from https to plain http")
        return target

    def _describe(self, url: str, headers: dict[str, str], response: httpx.Response, linked: httpx.Headers) -> Location:
        ranges = response.status_code == 206
        size = _digits(linked.get("x-linked-size"))
        if ranges:
            span = parse_content_range(response.headers.get("content-range"))
            if span is None or span[:2] != (0, 0):
                raise TransferFailed(f"{redacted(url)}: a false Content-Range", retryable=False)
            size = span[2] if span[2] is not None else size
        elif _is_empty_file(response):
            size = 0
        elif response.status_code != 200:
            raise TransferFailed(f"{redacted(url)}: HTTP {response.status_code}", retryable=False)
        elif "content-encoding" not in response.headers:
            size = size if size is not None else _digits(response.headers.get("content-length"))
        return Location(
            url=url,
            redirected=url != self._url,
            ranges=ranges,
            size=size,
            origin_tag=plain_tag(linked.get("x-linked-etag")),
            etag=plain_tag(response.headers.get("etag")),
            headers=headers,
        )


def _is_empty_file(response: httpx.Response) -> bool:
    # RFC 9110 15.5.17: no byte 0 to give, and the length says so
    return response.status_code == 416 and response.headers.get("content-range") == "bytes */0"


def _digits(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None

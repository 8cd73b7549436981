"""Where the bytes of a URL really are: redirects followed by hand, so that a token never reaches another host."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
import httpx
import msgspec

from hali.model.errors import HaliError, NotFound, Refused, TransferFailed
from hali.model.urls import origin, redacted
from hali.transfer.http_dial import Dialer
from hali.transfer.http_guard import next_hop
from hali.transfer.http_retry import RETRYABLE_STATUS, HttpPolicy, retry_after
from hali.transfer.proxies import behind_proxy

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
    """Turns what httpx raises for broken, slow or silent connections into `RetryLater`; Refused for an unreadable redirect."""
    try:
        yield
    except httpx.InvalidURL as error:  # of a Location: httpx reads it, though it is told not to follow it
        raise Refused(f"a redirect to no usable URL ({error})") from error
    except httpx.TimeoutException as error:
        raise RetryLater(f"no byte in time ({type(error).__name__})") from error
    except (httpx.TransportError, httpx.StreamError) as error:
        if isinstance(error.__context__, httpx.InvalidURL):
            raise Refused(f"a redirect to no usable URL ({error.__context__})") from error
        raise RetryLater(f"{type(error).__name__}: {error}".rstrip(": ")) from error
    except (OSError, anyio.ClosedResourceError, anyio.BrokenResourceError) as error:
        raise RetryLater(f"connection broke: {error}") from error


class Resolver:
    """Follows one URL to its bytes, over a client whose connections `dialer` makes."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        dialer: Dialer,
        url: str,
        headers: Headers | HeaderProvider,
        policy: HttpPolicy,
    ) -> None:
        self.client = client
        self._dialer = dialer
        self._url = url
        self._headers = headers
        self._policy = policy

    async def locate(self) -> Location:
        """One pass over the redirects with a one-byte range request. Raises `RetryLater` or a final error."""
        linked = httpx.Headers()

        def note(response: httpx.Response) -> None:
            for name in ("x-linked-etag", "x-linked-size"):
                if name in response.headers and name not in linked:  # nearest to who was asked
                    linked[name] = response.headers[name]

        async with self.follow({"range": "bytes=0-0"}, note) as (url, headers, response):
            if not _is_empty_file(response):
                refuse_broken_answer(url, response)
            if response.status_code == 206 and response.headers.get("content-length") == "1":
                async with network_trouble():
                    await response.aread()  # else the connection could not be used again
            return self._describe(url, headers, response, linked)

    @asynccontextmanager
    async def follow(
        self, extra: Headers, passing: Callable[[httpx.Response], None] = lambda response: None
    ) -> AsyncIterator[tuple[str, dict[str, str], httpx.Response]]:
        """The answer at the end of the redirects, its URL and the headers (but `extra`) it was asked with; each on the way is
        shown to `passing`."""
        secret_free, full = await self._header_sets()
        url, home = self._url, origin(self._url)
        for _ in range(self._policy.redirects + 1):
            headers = full if origin(url) == home else secret_free
            async with self.request(url, {**headers, **extra}) as response:
                passing(response)
                if response.status_code not in REDIRECTS:
                    yield url, headers, response
                    return
                url = self._next(url, response)
        raise TransferFailed(f"{redacted(self._url)}: more than {self._policy.redirects} redirects", retryable=False)

    @asynccontextmanager
    async def request(self, url: str, headers: Headers) -> AsyncIterator[httpx.Response]:
        """One GET without following redirects; the body is left to the caller. Network errors become `RetryLater`."""
        if behind_proxy():  # which does the dialling: then the check before is all there is
            await self._dialer.allowed(*origin(url)[1:])
        try:
            request = self.client.build_request("GET", url, headers={**headers, "accept-encoding": "identity"})
        except httpx.InvalidURL as error:
            raise TransferFailed(f"{redacted(url)}: {error}", retryable=False) from error
        async with network_trouble():
            response = await self.client.send(request, stream=True, follow_redirects=False)
        try:
            yield response
        finally:
            async with network_trouble():
                await response.aclose()

    async def _header_sets(self) -> tuple[dict[str, str], dict[str, str]]:
        given = await self._headers() if callable(self._headers) else self._headers
        full = {name.lower(): value for name, value in given.items()}
        return {name: value for name, value in full.items() if name not in _SECRET_HEADERS}, full

    def _next(self, url: str, response: httpx.Response) -> str:
        target = next_hop(url, str(response.headers.get("location", "")))
        if target == url:
            raise TransferFailed(f"{redacted(url)}: redirects to itself", retryable=False)
        return target

    def _describe(self, url: str, headers: dict[str, str], response: httpx.Response, linked: httpx.Headers) -> Location:
        told, promised = _told_size(url, response), _digits(linked.get("x-linked-size"))
        if told is not None and promised is not None and told != promised:
            raise TransferFailed(
                f"{redacted(url)}: the servers disagree on the file's size ({promised} and {told} bytes)",
                retryable=False,
            )
        return Location(
            url=url,
            redirected=url != self._url,
            ranges=response.status_code == 206,
            size=promised if told is None else told,
            origin_tag=plain_tag(linked.get("x-linked-etag")),
            etag=plain_tag(response.headers.get("etag")),
            headers=headers,
        )


def _told_size(url: str, response: httpx.Response) -> int | None:
    """The file's length as the answer to the one-byte request says it; None if it does not. A final error for other answers."""
    if _is_empty_file(response):
        return 0
    if response.status_code == 206:
        span = parse_content_range(response.headers.get("content-range"))
        if span is None or span[:2] != (0, 0):
            raise TransferFailed(f"{redacted(url)}: a false Content-Range", retryable=False)
        return span[2]
    if response.status_code != 200:
        raise TransferFailed(f"{redacted(url)}: HTTP {response.status_code}", retryable=False)
    refuse_page(url, response)
    return None if "content-encoding" in response.headers else _digits(response.headers.get("content-length"))


def refuse_page(url: str, response: httpx.Response) -> None:
    """A final error for a web page in place of a file: portals and proxies answer so, with 200."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml") and not urlsplit(url).path.lower().endswith((".html", ".htm")):
        raise TransferFailed(
            f"{redacted(url)}: a web page came instead of the file",
            retryable=False,
            hint="a login page of the network, or an error page of a mirror: open the address in a browser",
        )


def _is_empty_file(response: httpx.Response) -> bool:
    # RFC 9110 15.5.17: no byte 0 to give, and the length says so
    return response.status_code == 416 and response.headers.get("content-range") == "bytes */0"


def _digits(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None

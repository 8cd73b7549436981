"""One registry over HTTP. The configuration names it, so it may be on this machine; what it answers is bounded and believed by nobody."""

from __future__ import annotations

import ssl
from functools import cache
from types import TracebackType
from typing import Any
from urllib.parse import quote

import anyio
import httpx
import msgspec

from hali.model.errors import HaliError, NotFound, ProtocolError, Refused, TransferFailed, UsageError
from hali.model.urls import origin, redacted
from hali.transfer.http_retry import RETRYABLE_STATUS, retry_after
from hali.transfer.metainfo import MAX_BYTES
from hali.transfer.proxies import behind_proxy

MAX_JSON = 4 * 1024 * 1024  # 100 search results of 20 KB with all file names of split models take less
CONNECT_S = 5.0
READ_S = 15.0
TOTAL_S = 60.0  # a torrent of 10 MB over a slow line


@cache
def _tls() -> ssl.SSLContext:
    """One for all clients: reading the certificates takes 20 ms of the event loop."""
    return httpx.create_ssl_context()


class RegistryUnavailable(TransferFailed):
    """The registry cannot be reached, is too busy or broken; `details`: HTTP `status` and `retry_after_s` when it answered."""

    code = "registry_unavailable"


class RegistryClient:
    """Use as `async with`. Errors: NotFound, Refused (the registry's own words and code), RegistryUnavailable, ProtocolError."""

    def __init__(self, url: str) -> None:
        origin(url)
        self.url = url.rstrip("/")
        self._opened: httpx.AsyncClient | None = None

    async def __aenter__(self) -> RegistryClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.aclose()

    @property
    def _client(self) -> httpx.AsyncClient:
        """Made by the first request, which is told of a proxy that nobody can use (TransferFailed)."""
        behind_proxy()
        if self._opened is None:
            # Redirects are not followed: the configuration names who is asked.
            self._opened = httpx.AsyncClient(
                verify=_tls(),
                timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
                follow_redirects=False,
                # no version: telemetry says all that it tells
                headers={"user-agent": "hali", "accept-encoding": "identity"},
            )
        return self._opened

    async def post(self, path: str, body: bytes) -> None:
        """Hand over a signed document."""
        await self._request("POST", path, MAX_JSON, content=body, headers={"content-type": "application/json"})

    async def has_torrent(self, infohash: str) -> bool:
        """Whether the .torrent is there already."""
        try:
            await self._request("HEAD", f"/ingest/{infohash}", 0)
        except NotFound:
            return False
        return True

    async def torrent(self, infohash: str) -> bytes:
        """The .torrent; unchecked."""
        return await self._request("GET", f"/torrent/{infohash}", MAX_BYTES)

    async def model(self, name: str, publisher: str | None = None) -> dict[str, Any]:
        """The entry of an infohash or SHA-256: the publisher's, or the most trusted one; unchecked."""
        params = None if publisher is None else {"publisher": publisher}
        return await self._json(f"/model/{quote(name, safe='')}", params)

    async def search(self, text: str, limit: int, *, untrusted: bool = False) -> dict[str, Any]:
        """Entries that fit the words; unchecked."""
        params = {"q": text, "limit": str(limit), **({"untrusted": "1"} if untrusted else {})}
        return await self._json("/search", params)

    async def _json(self, path: str, params: dict[str, str] | None = None) -> dict[str, Any]:
        body = await self._request("GET", path, MAX_JSON, params=params)
        try:
            return msgspec.json.decode(body, type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError):
            raise ProtocolError(f"{redacted(self.url)}{path}: what answers is not a hali registry") from None

    async def _request(self, method: str, path: str, limit: int, **options: Any) -> bytes:
        try:
            with anyio.fail_after(TOTAL_S):
                async with self._client.stream(method, self.url + path, **options) as response:
                    body = await self._read(response, max(limit, 64 * 1024))
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as exc:
            reason = f"{type(exc).__name__}: {exc}".rstrip(": ")
            raise RegistryUnavailable(f"{redacted(self.url)}: {reason}") from None
        if response.status_code != 200:
            raise self._error(response, body)
        return body

    async def _read(self, response: httpx.Response, limit: int) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_raw():  # as it came: a compressed answer could be of any size
            body += chunk
            if len(body) > limit:
                raise ProtocolError(f"{redacted(self.url)}: an answer of more than {limit} bytes")
        return bytes(body)

    def _error(self, response: httpx.Response, body: bytes) -> HaliError:
        """By status; code and message are the registry's own, made fit for one line."""
        status, where = response.status_code, redacted(self.url)
        code, message = _said(body)
        text = f"{where}: {message or f'HTTP {status}'}"
        # A status without a code is not the registry's own: a redirect, or the refusal of a proxy before it.
        if status in RETRYABLE_STATUS or status >= 500 or not (code or status == 404):
            return RegistryUnavailable(text, details={"status": status, "retry_after_s": retry_after(response.headers)})
        kind = {404: NotFound, 400: UsageError}.get(status, Refused)
        return kind(text, code=code or "registry")


class _Problem(msgspec.Struct):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct):
    error: _Problem


def _said(body: bytes) -> tuple[str, str]:
    try:
        problem = msgspec.json.decode(body, type=_Problems).error
    except (msgspec.MsgspecError, RecursionError):
        return "", ""
    return tuple("".join(c if c.isprintable() else "?" for c in text[:300]) for text in (problem.code, problem.message))  # type: ignore[return-value]

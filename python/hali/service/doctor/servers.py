"""Checks of what is reached over HTTP: other runtimes, registries; and the time that servers tell."""

from __future__ import annotations

import email.utils
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import msgspec

from hali.model.errors import HaliError, NotFound, UsageError
from hali.service.doctor.context import Context, first_installed
from hali.service.doctor.finding import Finding, failed, passed, skipped

PATIENCE_S = 5.0  # for a server that somebody counts on
TIME_S = 1.5  # for one that only tells the time
MOST = 1024 * 1024  # bytes of an answer
OLLAMA, LM_STUDIO = 11434, 1234  # their usual ports
_BROKEN = (OSError, http.client.HTTPException, ValueError)


class Answer(msgspec.Struct, frozen=True):
    """What a server said. `at` is its `Date`, seconds since 1970."""

    status: int
    at: float | None
    body: bytes


def ask(url: str, path: str = "", *, method: str = "GET", timeout: float = PATIENCE_S) -> Answer:
    """One request, no redirects; OSError, HTTPException, ValueError."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request(method, (parts.path.rstrip("/") + path) or "/", headers={"user-agent": "hali"})
        answer = connection.getresponse()
        date = email.utils.parsedate_to_datetime(answer.headers["date"]) if answer.headers["date"] else None
        return Answer(answer.status, date.timestamp() if date is not None else None, answer.read(MOST))
    finally:
        connection.close()


# ---- time


def dates(urls: Iterable[str]) -> list[tuple[str, float]]:
    """(host, time) of each server that answers soon; the others are left out."""
    found: list[tuple[str, float]] = []

    def look(url: str) -> None:
        try:
            answer = ask(url, method="HEAD", timeout=TIME_S)
        except _BROKEN:
            return
        if answer.at is not None:
            found.append((urlsplit(url).hostname or "", answer.at))

    # Name servers keep no deadline of ours: a thread that is late is not waited for.
    threads = [threading.Thread(target=look, args=(url,), daemon=True) for url in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIME_S)
    return list(found)


# ---- other runtimes


def upstream(context: Context) -> Finding:
    """Does each inference server of `upstream.urls` answer?"""
    urls = context.settings.upstream.urls
    if not urls:
        return skipped("none is configured (upstream.urls)")
    told = {url: _models_of(url) for url in urls}
    dead = [url for url, text in told.items() if text.startswith("does not")]
    detail = "; ".join(f"{_shown(url)} {text}" for url, text in told.items())
    return failed(detail, _revive(context, dead)) if dead else passed(detail)


def _models_of(url: str) -> str:
    """What an OpenAI-compatible server at `url` (with or without /v1) says."""
    try:
        answer = ask(url.rstrip("/").removesuffix("/v1"), "/v1/models")
    except ssl.SSLError as exc:
        return f"does not prove who it is: {exc.reason}"
    except _BROKEN as exc:
        return f"does not answer: {_reason(exc)}"
    if answer.status in (401, 403):
        return "answers, and asks for a key"
    if answer.status != 200:
        return f"does not answer as an inference server: HTTP {answer.status}"
    count = _count(answer.body)
    return "does not answer as an inference server: no list of models" if count is None else f"answers, {count} models"


def _count(body: bytes) -> int | None:
    try:
        found: Any = json.loads(body)
    except ValueError:
        return None
    rows = found.get("data") if isinstance(found, dict) else None
    return len(rows or []) if isinstance(found, dict) and "data" in found else None


def _reason(exc: Exception) -> str:
    if isinstance(exc, TimeoutError):
        return f"nothing came in {PATIENCE_S:g} s"
    if isinstance(exc, socket.gaierror):
        return "its name is not known"
    return exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__


def _revive(context: Context, dead: list[str]) -> str:
    """Start a program of this machine; what is elsewhere, or not known, is taken out of the list."""
    starts = [command for url in dead if (command := _starts(url)) is not None]
    if len(starts) == len(dead):
        return " && ".join(dict.fromkeys(starts))
    alive = [url for url in context.settings.upstream.urls if url not in dead]
    return context.setting_command(("upstream.urls", ",".join(alive) if alive else None))


def _starts(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        return None
    if parts.port == OLLAMA and first_installed("ollama"):
        return "{ nohup ollama serve >/dev/null 2>&1 & } && sleep 3"
    return "lms server start" if parts.port == LM_STUDIO and first_installed("lms") else None


def _shown(url: str) -> str:
    from hali.model.urls import redacted

    return redacted(url)


# ---- registries


def registries(context: Context) -> Finding:
    """Does each registry answer, and is what it lists signed by the key that the configuration names?"""
    from hali.config.registries import Address, parse_all

    addresses = parse_all(context.settings.registry.url)
    if not addresses:
        return skipped("none is configured (registry.url)")
    said: list[tuple[Address, str, bool]] = []
    for address in addresses:
        try:
            said.append((address, _of_registry(address), True))
        except (HaliError, OSError) as exc:
            said.append((address, exc.message if isinstance(exc, HaliError) else str(exc), False))
    detail = "; ".join(text for _, text, _ in said)
    texts = zip(context.settings.registry.url, said, strict=True)
    alive = [text for text, (_, _, answers) in texts if answers]
    if len(alive) == len(said):
        return passed(detail)
    return failed(detail, context.setting_command(("registry.url", ",".join(alive) if alive else None)))


def _of_registry(address: Any) -> str:
    import anyio

    from hali.registry.client import RegistryClient
    from hali.registry.folder import INDEX, KEYS, MAX_INDEX, MAX_KEYS, check_index, trusted_keys

    async def server() -> str:
        async with RegistryClient(address.url) as client:
            await client.search("a", 1)
        return f"{_shown(address.url)} answers"

    async def folder() -> str:
        keys = trusted_keys(address.pin, await _document(address, KEYS, MAX_KEYS))
        index = check_index(await _document(address, INDEX, MAX_INDEX), keys, None)
        return f"{_shown(address.url)}: {len(index.entries)} models, signed"

    return anyio.run(server if address.pin is None else folder)


async def _document(address: Any, name: str, limit: int) -> bytes:
    from hali.transfer.http_document import fetch_document

    if (root := address.folder) is None:
        return await fetch_document(f"{address.url}/{name}", trusted=True, limit=limit)
    if not (path := root / name).exists():
        raise NotFound(f"{path} is missing")
    if (size := path.stat().st_size) > limit:
        raise UsageError(f"{path} has {size} bytes, more than {limit}")
    return bytes(path.read_bytes())

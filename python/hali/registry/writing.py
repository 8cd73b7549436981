"""The endpoints that change something. Everything they take is signed; the signature is checked before anything is looked up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hali.model.errors import UsageError
from hali.registry import records
from hali.registry.answers import answer, body_of
from hali.registry.documents import (
    AnyDocument,
    Ingest,
    Manifest,
    Profile,
    Report,
    Revocation,
    Rotation,
    signer_of,
)
from hali.registry.head import Head
from hali.registry.signing import canonical, unseal
from hali.registry.storage import Cursor
from hali.runtime.log import get_logger

if TYPE_CHECKING:
    from hali.registry.app import Deps

log = get_logger(__name__)
T = TypeVar("T")
D = TypeVar("D", bound=AnyDocument)


class IngestBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /ingest`: a signed envelope, the .torrent and, for single GGUF files, the proven first block."""

    signed: msgspec.Raw
    torrent: bytes  # base64
    head: Head | None = None


def _deps(request: Request) -> Deps:
    deps: Deps = request.app.state.deps
    return deps


async def stored(request: Request, work: Callable[[Cursor], T]) -> T:
    """`work` in a transaction, in a thread."""
    storage = _deps(request).storage

    def run() -> T:
        with storage.transaction() as db:
            return work(db)

    return await anyio.to_thread.run_sync(run)


async def _body(request: Request, limit: int) -> bytes:
    body = await body_of(request, limit)
    _deps(request).gate.volume(_address(request), len(body))
    return body


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


async def _signed(request: Request, kind: type[D]) -> tuple[D, bytes]:
    body = await _body(request, _deps(request).bounds.body)
    return _admitted(request, unseal(body, kind)), canonical(body)


def _admitted(request: Request, document: D) -> D:
    _deps(request).gate.key(signer_of(document))
    return document


async def publish(request: Request) -> Response:
    """A signed manifest."""
    manifest, body = await _signed(request, Manifest)
    now = _deps(request).now
    checks = await stored(request, lambda db: records.publish(db, manifest, body, now))
    log.info("registry.published", model=manifest.model_id, publisher=manifest.publisher[:16])
    return _taken(checks)


async def ingest(request: Request) -> Response:
    """A .torrent with its publisher's signature."""
    with _deps(request).gate.torrent():
        return await _ingest(request)


async def _ingest(request: Request) -> Response:
    deps = _deps(request)
    body = await _body(request, deps.bounds.torrent_body)
    try:
        parts = msgspec.json.decode(body, type=IngestBody)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise UsageError(f"not an ingest: {exc}", code="invalid_document") from None
    document = _admitted(request, unseal(bytes(parts.signed), Ingest))
    envelope = canonical(bytes(parts.signed))
    if hashlib.sha256(parts.torrent).hexdigest() != document.torrent_sha256:
        raise UsageError("the torrent is not the signed one", code="torrent_changed")
    now = deps.now
    work = lambda db: records.ingest(db, document, envelope, parts.torrent, parts.head, now)  # noqa: E731
    return _taken(await stored(request, work))


def _taken(checks: Any) -> Response:
    return answer({"taken": True, "checks": msgspec.to_builtins(checks)})


async def profile(request: Request) -> Response:
    """A signed profile."""
    document, body = await _signed(request, Profile)
    now = _deps(request).now
    await stored(request, lambda db: records.profile(db, document, body, now))
    return answer({"taken": True})


async def rotate(request: Request) -> Response:
    """The old key names its successor."""
    document, body = await _signed(request, Rotation)
    now = _deps(request).now
    await stored(request, lambda db: records.close_key(db, document, body, now))
    log.info("registry.rotated", publisher=document.publisher[:16], successor=document.successor[:16])
    return answer({"taken": True})


async def revoke(request: Request) -> Response:
    """A key declares itself lost."""
    document, body = await _signed(request, Revocation)
    now = _deps(request).now
    await stored(request, lambda db: records.close_key(db, document, body, now))
    log.info("registry.revoked", publisher=document.publisher[:16])
    return answer({"taken": True})


async def report(request: Request) -> Response:
    """How a download went."""
    document, _ = await _signed(request, Report)
    deps = _deps(request)
    deps.gate.report(_address(request))
    now = deps.now
    await stored(request, lambda db: records.report(db, document, now))
    return answer({"taken": True})

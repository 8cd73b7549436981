"""The endpoints that only look. What publishers signed is passed on in its canonical form, so that readers can check it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hali._version import __version__
from hali.model.errors import NotFound, UsageError
from hali.model.ids import is_hex
from hali.registry import lookups, trust
from hali.registry.answers import answer
from hali.registry.documents import Manifest
from hali.registry.listing import fits
from hali.registry.lookups import Entry
from hali.registry.storage import Cursor
from hali.registry.writing import stored
from hali.wire.http import SAFE_HEADERS

MAX_QUERY = 200  # characters
MAX_TERMS = 8
MAX_RESULTS = 100
CANDIDATES = 500  # of a search, those that earned it first: bounds the work of one request
SORTS = ("trust", "new", "name")


class Query(msgspec.Struct, frozen=True):
    """A search, checked."""

    terms: list[str]
    limit: int
    sort: str
    untrusted: bool


class Hit(msgspec.Struct, frozen=True):
    """An entry that holds the words of a search."""

    meant: bool  # the words are its id, or the base and further parts of it
    points: float
    entry: Entry
    inputs: trust.Inputs

    @property
    def worth(self) -> tuple[Any, ...]:
        """Of several names of one torrent the highest stands for it: the one that was meant, unless it would be hidden."""
        first = (-self.entry.published_at, self.entry.publisher)
        return self.points >= trust.VISIBLE, self.meant, self.points, *first


async def search(request: Request) -> Response:
    """`q`, `limit` (1 to 100), `sort` (trust, new, name), `untrusted=1` for entries below 30 too."""
    query = _query(request)
    now = request.app.state.deps.now
    return answer(await stored(request, lambda db: _search(db, query, now)))


def _query(request: Request) -> Query:
    params = request.query_params
    text, limit, sort = params.get("q", ""), params.get("limit", "20"), params.get("sort", "trust")
    if len(text) > MAX_QUERY or not text.isprintable():
        raise UsageError(f"q has at most {MAX_QUERY} printable characters", code="invalid_query")
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= MAX_RESULTS):
        raise UsageError(f"limit is 1 to {MAX_RESULTS}", code="invalid_query")
    if sort not in SORTS:
        raise UsageError(f"sort is one of {', '.join(SORTS)}", code="invalid_query")
    return Query(text.lower().split()[:MAX_TERMS], int(limit), sort, params.get("untrusted") == "1")


def _search(db: Cursor, query: Query, now: int) -> dict[str, Any]:
    memory: dict[str, tuple[int, int, int]] = {}
    best: dict[str, Hit] = {}
    for found in lookups.matching(db, query.terms, CANDIDATES, newest=query.sort == "new"):
        inputs = lookups.inputs(db, found, now, memory)
        hit = Hit(fits(":".join(query.terms), found.model_id), trust.score(inputs), found, inputs)
        if found.infohash not in best or hit.worth > best[found.infohash].worth:
            best[found.infohash] = hit
    shown = [hit for hit in best.values() if query.untrusted or hit.points >= trust.VISIBLE]
    shown.sort(key=_order(query.sort))
    rows = [_row(hit.entry, trust.describe(hit.inputs)) for hit in shown[: query.limit]]
    return {"results": rows, "hidden": len(best) - len(shown), "threshold": trust.VISIBLE}


def _order(sort: str) -> Callable[[Hit], Any]:
    keys: dict[str, Callable[[Hit], Any]] = {
        "trust": lambda hit: (not hit.meant, -hit.points, hit.entry.model_id, hit.entry.infohash),
        "new": lambda hit: (-hit.entry.published_at, hit.entry.model_id, hit.entry.infohash),
        "name": lambda hit: (hit.entry.model_id, hit.entry.infohash),
    }
    return keys[sort]


def _row(found: Entry, described: dict[str, Any]) -> dict[str, Any]:
    manifest: Manifest = lookups.manifest_of(found)
    return {
        "infohash": found.infohash,
        "infohash_v1": found.infohash_v1,
        "model_id": found.model_id,
        "sha256": found.sha256,
        "size": sum(file.size for file in manifest.files),
        "files": [file.name for file in manifest.files],
        "hf_repo": manifest.hf_repo,
        "publisher": found.publisher,
        "published_at": found.published_at,
        "trust": described,
    }


async def model(request: Request) -> Response:
    """One model by infohash or SHA-256: the most trusted manifest, or the one of `publisher`."""
    name, wanted = request.path_params["name"].lower(), request.query_params.get("publisher")
    if not (is_hex(name, 40) or is_hex(name, 64)):
        raise UsageError("a model is named by an infohash or a SHA-256 in hex", code="invalid_name")
    now = request.app.state.deps.now
    return answer(await stored(request, lambda db: _model(db, name, wanted, now)))


def _model(db: Cursor, name: str, wanted: str | None, now: int) -> dict[str, Any]:
    memory: dict[str, tuple[int, int, int]] = {}
    publisher = wanted if wanted is not None and is_hex(wanted, 64) else ""
    listed = lookups.by_name(db, name, publisher, CANDIDATES)
    found = [(lookups.inputs(db, each, now, memory), each) for each in listed]
    found.sort(key=lambda item: (-trust.score(item[0]), item[1].published_at, item[1].publisher))
    chosen = [item for item in found if wanted in (None, item[1].publisher)]
    if not chosen:
        raise NotFound("no such model is listed here", code="not_listed")
    inputs, entry = chosen[0]
    return {
        "manifest": msgspec.Raw(entry.manifest.encode()),
        "published_at": entry.published_at,
        "torrent": lookups.torrent(db, entry.infohash) is not None,
        "trust": trust.describe(inputs),
        "hidden": trust.score(inputs) < trust.VISIBLE,
        "publisher": lookups.publisher(db, entry.publisher),
        "others": [{"publisher": e.publisher, "score": round(trust.score(i), 2)} for i, e in found if e is not entry][
            :20
        ],
    }


async def has_torrent(request: Request) -> Response:
    """200 when the .torrent is here, 404 when not; no body."""
    found = await _torrent(request)
    return Response(b"", 404 if found is None else 200, SAFE_HEADERS)


async def torrent(request: Request) -> Response:
    """The .torrent itself."""
    found = await _torrent(request)
    if found is None:
        raise NotFound("no such torrent is kept here", code="not_listed")
    return Response(found, 200, SAFE_HEADERS, media_type="application/x-bittorrent")


async def _torrent(request: Request) -> bytes | None:
    name = request.path_params["infohash"].lower()
    if not (is_hex(name, 40) or is_hex(name, 64)):
        raise UsageError("an infohash has 40 or 64 hex digits", code="invalid_name")
    return await stored(request, lambda db: lookups.torrent(db, name))


async def publisher(request: Request) -> Response:
    """A key: its profile, how it was closed, and the keys that are the same publisher by rotation."""
    key = request.path_params["key"].lower()
    if not is_hex(key, 64):
        raise UsageError("a key has 64 hex digits", code="invalid_name")
    found = await stored(request, lambda db: lookups.publisher(db, key))
    if found is None:
        raise NotFound("nobody published with that key here", code="not_listed")
    return answer(found)


async def health(request: Request) -> Response:
    """200 when the database answers."""
    await stored(request, lambda db: db.one("SELECT version FROM meta"))
    return answer({"status": "ok", "version": __version__, "trust": trust.VERSION})


async def counts(request: Request) -> dict[str, int]:
    """Rows of each kind, for the metrics."""
    return await stored(request, lookups.counts)

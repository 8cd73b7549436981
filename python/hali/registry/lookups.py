"""What the registry knows, read back. Runs inside one transaction of `storage`."""

from __future__ import annotations

from typing import Any

import msgspec

from hali.model.units import DAY_S
from hali.registry.documents import Manifest
from hali.registry.head import Head
from hali.registry.storage import Cursor
from hali.registry.trust import Inputs

MAX_CHAIN = 64  # rotations of one publisher
# Entries of one key that come before the others of it: ten old keys fill the 500 of a search, one never does.
SHARE = 50


class Entry(msgspec.Struct, frozen=True):
    """One manifest of one publisher."""

    infohash: str
    publisher: str
    infohash_v1: str
    sha256: str
    model_id: str
    sequence: int
    manifest: str  # the envelope
    published_at: int
    torrent: int
    layers: int
    header: int


FIELDS = ", ".join(Entry.__struct_fields__)


def manifest_of(found: Entry) -> Manifest:
    """Of a stored entry; it was verified when it came."""
    envelope = msgspec.json.decode(found.manifest, type=dict[str, msgspec.Raw])
    return msgspec.json.decode(envelope["document"], type=Manifest)


def entries(db: Cursor, where: str, *values: Any) -> list[Entry]:
    """All entries that fulfil a condition in SQL."""
    return [Entry(*row) for row in db.all(f"SELECT {FIELDS} FROM entry WHERE {where}", *values)]


def entry(db: Cursor, infohash: str, publisher: str) -> Entry | None:
    """What this publisher says of that torrent."""
    found = entries(db, "infohash = ? AND publisher = ?", infohash, publisher)
    return found[0] if found else None


def by_name(db: Cursor, name: str, publisher: str, limit: int) -> list[Entry]:
    """Entries of a v1 or v2 infohash, or of a file's SHA-256: this publisher's, then the best proven, then the oldest."""
    order = "ORDER BY publisher = ? DESC, torrent + layers + header DESC, published_at, infohash, publisher LIMIT ?"
    if len(name) == 40:
        return entries(db, f"infohash_v1 = ? {order}", name, publisher, limit)
    return entries(db, f"infohash = ? OR sha256 = ? {order}", name, name, publisher, limit)


# Which entries a search looks at when too many hold its words. None that is cheaply made may crowd out others: first the very id,
# then facts that were proven (`worth` / 2), of one key a share before the rest, then the base as the first word, then the older key.
# `|| ''` keeps SQLite from walking the index by publisher, which reads the table in random order: four times slower.
_RANKED = """
    WITH found AS (
        SELECT infohash, publisher, published_at, 2 * (torrent + layers + header)
            + CASE WHEN model_id = ? THEN 8 WHEN model_id LIKE ? ESCAPE '!' THEN 1 ELSE 0 END AS worth
        FROM entry WHERE {where}),
    placed AS (
        SELECT infohash, publisher, published_at, worth, ROW_NUMBER() OVER (
            PARTITION BY publisher || '' ORDER BY worth DESC, published_at DESC) AS place
        FROM found),
    chosen AS (
        SELECT infohash, publisher FROM placed JOIN publisher AS signer ON signer.key = placed.publisher
        ORDER BY worth / 2 DESC, place > {share}, worth DESC, {age}, published_at DESC, infohash LIMIT ?)
    SELECT {fields} FROM chosen JOIN entry USING (infohash, publisher)
"""


def matching(db: Cursor, terms: list[str], limit: int, *, newest: bool = False) -> list[Entry]:
    """Entries that hold all words, in no order; of too many those that others cannot crowd out: see `_RANKED`."""
    where = " AND ".join(["words LIKE ? ESCAPE '!'"] * len(terms)) or "1 = 1"
    escaped = [term.replace("!", "!!").replace("%", "!%").replace("_", "!_") for term in terms]
    base = f"{escaped[0]}:%" if escaped else ""
    sql = _RANKED.format(where=where, share=SHARE, age="published_at DESC" if newest else "first_seen", fields=FIELDS)
    values = (":".join(terms), base, *(f"%{term}%" for term in escaped), limit)
    return [Entry(*row) for row in db.all(sql, *values)]


def stored_torrent(db: Cursor, infohash: str) -> tuple[bytes | None, Head | None]:
    """The .torrent and the proven first block of a v2 infohash, as far as they are here."""
    row = db.one("SELECT raw, head FROM torrent WHERE infohash = ?", infohash)
    if row is None:
        return None, None
    return bytes(row[0]), None if row[1] is None else msgspec.json.decode(bytes(row[1]), type=Head)


def torrent(db: Cursor, infohash: str) -> bytes | None:
    """The .torrent by v1 or v2 infohash."""
    if len(infohash) == 40:
        row = db.one("SELECT infohash FROM entry WHERE infohash_v1 = ?", infohash)
        infohash = row[0] if row else infohash
    return stored_torrent(db, infohash)[0]


def family(db: Cursor, key: str) -> list[str]:
    """The keys that are one publisher by rotation, oldest first."""
    rows = {key: _links(db, key)}
    first, chain = key, [key]
    while (before := rows[first][0]) is not None and before not in chain and len(chain) <= MAX_CHAIN:
        chain.insert(0, before)
        first, rows[before] = before, _links(db, before)
    last = key
    while (after := rows[last][1]) is not None and after not in chain and len(chain) <= MAX_CHAIN:
        chain.append(after)
        last, rows[after] = after, _links(db, after)
    return chain


def _links(db: Cursor, key: str) -> tuple[str | None, str | None]:
    row = db.one("SELECT predecessor, successor FROM publisher WHERE key = ?", key)
    return (None, None) if row is None else (row[0], row[1])


class Publisher(msgspec.Struct, frozen=True):
    """A key as replies show it: what was signed is passed on as it was signed."""

    key: str
    first_seen: int
    keys: list[str]  # all keys of this publisher, oldest first
    models: int
    profile: msgspec.Raw | None = None
    closing: msgspec.Raw | None = None


def publisher(db: Cursor, key: str) -> Publisher | None:
    """All about a key, or None."""
    row = db.one("SELECT first_seen, profile, closing FROM publisher WHERE key = ?", key)
    if row is None:
        return None
    (count,) = db.one("SELECT COUNT(*) FROM entry WHERE publisher = ?", key) or (0,)
    raw = [None if text is None else msgspec.Raw(text.encode()) for text in row[1:]]
    return Publisher(key, row[0], family(db, key), count, *raw)


def inputs(db: Cursor, found: Entry, now: int, memory: dict[str, tuple[int, int, int]]) -> Inputs:
    """The trust score's inputs; `memory` keeps what is the same for all entries of one publisher within one request."""
    if found.publisher not in memory:
        memory[found.publisher] = _record(db, found.publisher)
    first_seen, family_ok, family_reports = memory[found.publisher]
    ok, reports = _reports(db, "infohash = ?", found.infohash)
    return Inputs(
        torrent=bool(found.torrent),
        layers=bool(found.layers),
        header=bool(found.header),
        publisher_days=_days(now - first_seen),
        publisher_ok=family_ok - ok,
        publisher_reports=family_reports - reports,
        ok=ok,
        reports=reports,
        days=_days(now - found.published_at),
    )


def _days(seconds: int) -> float:
    return round(max(0, seconds) / DAY_S, 2)


def _record(db: Cursor, key: str) -> tuple[int, int, int]:
    """(first seen, successes, reports) of all entries of a publisher's keys, each torrent once."""
    keys = family(db, key)
    marks = ", ".join("?" * len(keys))
    row = db.one(f"SELECT MIN(first_seen) FROM publisher WHERE key IN ({marks})", *keys)
    where = f"infohash IN (SELECT infohash FROM entry WHERE publisher IN ({marks}))"
    return (row[0] if row is not None and row[0] is not None else 0, *_reports(db, where, *keys))


def _reports(db: Cursor, where: str, *values: Any) -> tuple[int, int]:
    ok, count = db.one(f"SELECT COALESCE(SUM(ok), 0), COUNT(*) FROM report WHERE {where}", *values) or (0, 0)
    return int(ok), int(count)


def counts(db: Cursor) -> dict[str, int]:
    """Rows of each kind, for the metrics."""
    found = {}
    for table in ("publisher", "entry", "torrent", "report"):
        (found[table],) = db.one(f"SELECT COUNT(*) FROM {table}") or (0,)
    return found

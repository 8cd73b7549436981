"""What the registry keeps, and the rules by which a signed document changes it. Runs inside one transaction of `storage`."""

from __future__ import annotations

from typing import Any

import msgspec

from hali.model.errors import NotFound, Refused, UsageError, VerificationFailed
from hali.registry.documents import Closing, Ingest, Manifest, Profile, Report, Rotation, Signed
from hali.registry.head import Head
from hali.registry.storage import Cursor, Row
from hali.registry.trust import Inputs
from hali.registry.validity import Checks, check

DAY = 86_400
MAX_SKEW = DAY  # a signer's clock may be ahead by time zones and neglect, not by more
MAX_CHAIN = 64  # rotations of one publisher
MAX_ENTRIES = 100_000  # of one key: a mirror of the whole hub, and a bound for the rest


class Conflict(UsageError):
    """The document is right in form, but not after what the registry has seen."""

    code = "replayed"


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


def admit(db: Cursor, document: Signed, now: int) -> None:
    """Note the publisher; Refused for a closed key, UsageError for a clock far ahead."""
    if document.time > now + MAX_SKEW:
        raise UsageError("the document's time is more than a day ahead", code="clock", hint="set the clock")
    row = db.one("SELECT closed_sequence, successor FROM publisher WHERE key = ?", document.publisher)
    if row is None:
        db.run("INSERT INTO publisher (key, first_seen) VALUES (?, ?)", document.publisher, now)
    elif row[0] is not None:
        how = "key_rotated" if row[1] else "key_revoked"
        raise Refused(
            f"the key {document.publisher[:16]}… was {how.removeprefix('key_')}; nothing it signs later is taken",
            code=how,
        )


def publish(db: Cursor, manifest: Manifest, envelope: bytes, now: int) -> Checks:
    """Take a manifest; Conflict for one that is not newer than what this key published for the torrent."""
    admit(db, manifest, now)
    key = (manifest.infohash_v2, manifest.publisher)
    known = db.one("SELECT sequence FROM entry WHERE infohash = ? AND publisher = ?", *key)
    if known is not None and manifest.sequence <= known[0]:
        raise Conflict(f"sequence {manifest.sequence} is not newer than {known[0]}")
    if known is None:
        (count,) = db.one("SELECT COUNT(*) FROM entry WHERE publisher = ?", manifest.publisher) or (0,)
        if count >= MAX_ENTRIES:
            raise Refused(f"one key may publish {MAX_ENTRIES} models", code="too_many")
    checks = check(manifest, *_stored_torrent(db, manifest.infohash_v2))
    fields = (manifest.infohash_v1, manifest.files[0].sha256, manifest.model_id, words(manifest), manifest.sequence)
    facts = (int(checks.torrent), int(checks.layers), int(checks.header))
    if known is None:
        sql = "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        db.run(sql, *key, *fields, envelope.decode(), now, *facts)
    else:  # published_at stays: maturity is not lost by a better description
        sql = (
            "UPDATE entry SET infohash_v1 = ?, sha256 = ?, model_id = ?, words = ?, sequence = ?, manifest = ?,"
            " torrent = ?, layers = ?, header = ? WHERE infohash = ? AND publisher = ?"
        )
        db.run(sql, *fields, envelope.decode(), *facts, *key)
    return checks


def words(manifest: Manifest) -> str:
    """What a search looks through."""
    names = [manifest.model_id, manifest.hf_repo or "", *(file.name for file in manifest.files)]
    return " ".join(names).lower()


def ingest(db: Cursor, document: Ingest, envelope: bytes, torrent: bytes, head: Head | None, now: int) -> Checks:
    """Take a .torrent; NotFound before the publisher's manifest is here, VerificationFailed when they disagree."""
    admit(db, document, now)
    found = entry(db, document.infohash_v2, document.publisher)
    if found is None:
        raise NotFound("publish the manifest first", code="no_manifest")
    checks = check(manifest_of(found), torrent, head)
    if not checks.layers:
        raise VerificationFailed("the torrent's piece layer does not hash up to its root", code="bad_torrent")
    known_head = _stored_torrent(db, document.infohash_v2)[1]
    if head is None or (known_head is not None and not checks.header):
        head = known_head  # a head that proves more stays
    db.run("DELETE FROM torrent WHERE infohash = ?", document.infohash_v2)
    raw_head = None if head is None else msgspec.json.encode(head)
    db.run("INSERT INTO torrent VALUES (?, ?, ?, ?)", document.infohash_v2, torrent, raw_head, envelope.decode())
    _check_again(db, document.infohash_v2, torrent, head)
    return checks


def _check_again(db: Cursor, infohash: str, torrent: bytes, head: Head | None) -> None:
    """Every manifest of this torrent is judged by what is known now; one that lied loses its points and harms nobody else."""
    for each in _entries(db, "infohash = ?", infohash):
        try:
            facts = check(manifest_of(each), torrent, head)
        except VerificationFailed:
            facts = Checks()
        sql = "UPDATE entry SET torrent = ?, layers = ?, header = ? WHERE infohash = ? AND publisher = ?"
        db.run(sql, int(facts.torrent), int(facts.layers), int(facts.header), infohash, each.publisher)


def _stored_torrent(db: Cursor, infohash: str) -> tuple[bytes | None, Head | None]:
    row = db.one("SELECT raw, head FROM torrent WHERE infohash = ?", infohash)
    if row is None:
        return None, None
    return bytes(row[0]), None if row[1] is None else msgspec.json.decode(bytes(row[1]), type=Head)


def profile(db: Cursor, document: Profile, envelope: bytes, now: int) -> None:
    """Take a profile; Conflict for one that is not newer."""
    admit(db, document, now)
    (known,) = db.one("SELECT profile_sequence FROM publisher WHERE key = ?", document.publisher) or (0,)
    if document.sequence <= known:
        raise Conflict(f"sequence {document.sequence} is not newer than {known}")
    sql = "UPDATE publisher SET profile = ?, profile_sequence = ? WHERE key = ?"
    db.run(sql, envelope.decode(), document.sequence, document.publisher)


def close_key(db: Cursor, document: Closing, envelope: bytes, now: int) -> None:
    """Take a rotation or revocation: the key's last word. The first one counts."""
    admit(db, document, now)
    newest = db.one("SELECT MAX(sequence) FROM entry WHERE publisher = ?", document.publisher)
    if newest is not None and newest[0] is not None and document.sequence <= newest[0]:
        raise Conflict(f"sequence {document.sequence} is not newer than {newest[0]}")
    successor = None
    if isinstance(document, Rotation):
        successor = document.successor
        _succeed(db, document, now)
    sql = "UPDATE publisher SET closing = ?, closed_sequence = ?, successor = ? WHERE key = ?"
    db.run(sql, envelope.decode(), document.sequence, successor, document.publisher)


def _succeed(db: Cursor, document: Rotation, now: int) -> None:
    row = db.one("SELECT closed_sequence, predecessor FROM publisher WHERE key = ?", document.successor)
    if document.successor in family(db, document.publisher) or (row is not None and (row[0] is not None or row[1])):
        raise Refused("that key cannot be a successor: it is closed, or succeeds another already", code="bad_successor")
    if len(family(db, document.publisher)) >= MAX_CHAIN:
        raise Refused(f"a publisher may change its key {MAX_CHAIN} times", code="too_many")
    if row is None:
        db.run("INSERT INTO publisher (key, first_seen) VALUES (?, ?)", document.successor, now)
    db.run("UPDATE publisher SET predecessor = ? WHERE key = ?", document.publisher, document.successor)


def report(db: Cursor, document: Report, now: int) -> None:
    """Take one reporter's latest word on one torrent; NotFound for a torrent that is not listed: nothing is kept of it."""
    if document.day > now // DAY + 1:
        raise UsageError("the report's day is in the future", code="clock", hint="set the clock")
    if db.one("SELECT 1 FROM entry WHERE infohash = ?", document.infohash_v2) is None:
        raise NotFound("no such torrent is listed here", code="not_listed")
    key = (document.infohash_v2, document.reporter)
    db.run("DELETE FROM report WHERE infohash = ? AND reporter = ?", *key)
    db.run("INSERT INTO report VALUES (?, ?, ?, ?)", *key, int(document.outcome == "ok"), document.day)


# ---- reading


def manifest_of(found: Entry) -> Manifest:
    """Of a stored entry; it was verified when it came."""
    envelope = msgspec.json.decode(found.manifest, type=dict[str, msgspec.Raw])
    return msgspec.json.decode(envelope["document"], type=Manifest)


def _entries(db: Cursor, where: str, *values: Any) -> list[Entry]:
    return [_entry(row) for row in db.all(f"SELECT {FIELDS} FROM entry WHERE {where}", *values)]


def _entry(row: Row) -> Entry:
    return Entry(*row)


def entry(db: Cursor, infohash: str, publisher: str) -> Entry | None:
    """What this publisher says of that torrent."""
    found = _entries(db, "infohash = ? AND publisher = ?", infohash, publisher)
    return found[0] if found else None


def by_name(db: Cursor, name: str) -> list[Entry]:
    """All entries of a v1 or v2 infohash, or of a file's SHA-256."""
    if len(name) == 40:
        return _entries(db, "infohash_v1 = ?", name)
    return _entries(db, "infohash = ? OR sha256 = ?", name, name)


def matching(db: Cursor, terms: list[str], limit: int) -> list[Entry]:
    """Entries that hold all words, newest first."""
    where = " AND ".join(["words LIKE ? ESCAPE '!'"] * len(terms)) or "1 = 1"
    escaped = [f"%{term.replace('!', '!!').replace('%', '!%').replace('_', '!_')}%" for term in terms]
    return _entries(db, f"{where} ORDER BY published_at DESC, infohash LIMIT ?", *escaped, limit)


def torrent(db: Cursor, infohash: str) -> bytes | None:
    """The .torrent by v1 or v2 infohash."""
    if len(infohash) == 40:
        row = db.one("SELECT infohash FROM entry WHERE infohash_v1 = ?", infohash)
        infohash = row[0] if row else infohash
    return _stored_torrent(db, infohash)[0]


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
    return round(max(0, seconds) / DAY, 2)


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

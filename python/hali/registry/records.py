"""The rules by which a signed document changes what the registry keeps. Runs inside one transaction of `storage`."""

from __future__ import annotations

import msgspec

from hali.model.errors import NotFound, Refused, UsageError, VerificationFailed
from hali.model.units import DAY_S
from hali.registry.documents import Closing, Ingest, Manifest, Profile, Report, Rotation, Signed
from hali.registry.head import Head
from hali.registry.lookups import MAX_CHAIN, entries, family, manifest_of, stored_torrent
from hali.registry.storage import Cursor
from hali.registry.validity import Checks, check

MAX_SKEW = DAY_S  # a signer's clock may be ahead by time zones and neglect, not by more
MAX_ENTRIES = 100_000  # of one key: a mirror of the whole hub, and a bound for the rest


class Conflict(UsageError):
    """The document is right in form, but not after what the registry has seen."""

    code = "replayed"


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
    checks = check(manifest, *stored_torrent(db, manifest.infohash_v2))
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
    """Take a .torrent for manifests that are here, whoever hands it over: it proves itself. NotFound, VerificationFailed."""
    admit(db, document, now)
    known_head = stored_torrent(db, document.infohash_v2)[1]
    checks = _judge(db, document.infohash_v2, torrent, head)
    if head is None or (known_head is not None and not checks.header):
        head = known_head  # a head that proves more stays
        checks = _judge(db, document.infohash_v2, torrent, head)
    db.run("DELETE FROM torrent WHERE infohash = ?", document.infohash_v2)
    raw_head = None if head is None else msgspec.json.encode(head)
    db.run("INSERT INTO torrent VALUES (?, ?, ?, ?)", document.infohash_v2, torrent, raw_head, envelope.decode())
    return checks


def _judge(db: Cursor, infohash: str, torrent: bytes, head: Head | None) -> Checks:
    """Judge all manifests of a torrent by it; the best verdict. One that lied loses its points and harms nobody else."""
    found = entries(db, "infohash = ?", infohash)
    if not found:
        raise NotFound("publish a manifest of it first", code="no_manifest")
    verdicts, errors = [Checks()], []
    for each in found:
        try:
            verdicts.append(check(manifest_of(each), torrent, head))
        except VerificationFailed as exc:
            verdicts.append(Checks())
            errors.append(exc)
        facts = [int(fact) for fact in msgspec.structs.astuple(verdicts[-1])]
        sql = "UPDATE entry SET torrent = ?, layers = ?, header = ? WHERE infohash = ? AND publisher = ?"
        db.run(sql, *facts, infohash, each.publisher)
    best = max(verdicts, key=msgspec.structs.astuple)
    if not best.torrent:
        raise errors[0]
    if not best.layers:
        raise VerificationFailed("the torrent's piece layer does not hash up to its root", code="bad_torrent")
    return best


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
    if document.day > now // DAY_S + 1:
        raise UsageError("the report's day is in the future", code="clock", hint="set the clock")
    if db.one("SELECT 1 FROM entry WHERE infohash = ?", document.infohash_v2) is None:
        raise NotFound("no such torrent is listed here", code="not_listed")
    key = (document.infohash_v2, document.reporter)
    db.run("DELETE FROM report WHERE infohash = ? AND reporter = ?", *key)
    db.run("INSERT INTO report VALUES (?, ?, ?, ?)", *key, int(document.outcome == "ok"), document.day)

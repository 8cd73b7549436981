"""The publisher's side of this node: its key, the documents it signs, and the change of the key.

The key is a file of its own, not the node's: it can be rotated or revoked without the node becoming another one.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from typing import Any

import msgspec

from hali.config.files import fsync_directory
from hali.config.identity import load_or_create
from hali.config.paths import Paths
from hali.model.errors import UsageError
from hali.model.ids import is_hex
from hali.registry.documents import Closing, FileEntry, Ingest, Manifest, Profile, Revocation, Rotation
from hali.registry.signing import seal, unseal
from hali.store.database import Database, read_state, write_state
from hali.store.models import Metadata

SEQUENCE = "publisher.sequence"
CLOSINGS = "publisher.closings"  # envelopes of all rotations and revocations, oldest first
PROFILE = "publisher.profile"
PROFILE_FIELDS = ("display_name", "description", "website", "contact")


class Publisher:
    """One per daemon. Everything that signs takes the caller's transaction: the sequence is used up if and only if the document is kept."""

    def __init__(self, paths: Paths, database: Database) -> None:
        self._path = paths.publisher_key
        self._next = self._path.with_name(f"{self._path.name}.next")
        self._database = database
        self.finish_change()
        self.identity = load_or_create(self._path)

    @property
    def key(self) -> str:
        """The public key, hex."""
        return self.identity.public_key.hex()

    # ---- documents

    def manifest(self, db: sqlite3.Connection, meta: Metadata) -> bytes:
        """The signed manifest of a model of the store; UsageError for what a manifest cannot say."""
        if len(meta.files) != 1:
            raise UsageError(f"{meta.model_id} has {len(meta.files)} files; only models of one file can be published")
        pinned = meta.hf_repo is not None and is_hex(meta.hf_revision or "", 40)
        try:
            document = Manifest(
                **self._signed(db),
                model_id=meta.model_id,
                files=[FileEntry(name=meta.files[0], size=meta.size, sha256=meta.sha256, blake3=meta.blake3)],
                infohash_v1=meta.infohash_v1,
                infohash_v2=meta.infohash_v2,
                hf_repo=meta.hf_repo if pinned else None,
                hf_revision=meta.hf_revision if pinned else None,
            )
        except ValueError as exc:  # a name that the store takes and a registry does not
            raise UsageError(f"{meta.model_id} cannot be published: {exc}") from None
        return self._seal(document)

    def ingest(self, db: sqlite3.Connection, infohash_v2: str, torrent: bytes) -> bytes:
        """The signature that goes with a .torrent."""
        digest = hashlib.sha256(torrent).hexdigest()
        return self._seal(Ingest(**self._signed(db), infohash_v2=infohash_v2, torrent_sha256=digest))

    def sign_profile(self, db: sqlite3.Connection, fields: dict[str, str]) -> bytes:
        """The signed profile; UsageError names what cannot be in one."""
        try:
            document = msgspec.convert({"type": "profile", **self._signed(db), **fields}, Profile)
        except msgspec.ValidationError as exc:
            raise UsageError(f"the profile cannot be signed: {exc}") from None
        write_state(db, PROFILE, msgspec.json.encode(fields).decode())
        return self._seal(document)

    def profile(self) -> dict[str, str]:
        """The fields of this node's profile; empty before one was set."""
        text = self._database.get_state(PROFILE)
        return {} if text is None else msgspec.json.decode(text, type=dict[str, str])

    def closings(self) -> list[bytes]:
        """Envelopes of all rotations and revocations of this node's keys, oldest first."""
        with self._database.reading() as db:
            return _closings(db)

    def seal_signed(self, db: sqlite3.Connection, kind: type[Any], **fields: Any) -> bytes:
        """A document of `kind` with publisher, sequence and time filled in."""
        return self._seal(kind(**self._signed(db), **fields))

    def _signed(self, db: sqlite3.Connection) -> dict[str, Any]:
        """The common fields. The sequence is at least the clock, so that a lost database does not begin below what was used."""
        self._change_over(db)  # a closed key must sign nothing more, not even in the moment before `finish_change`
        now = int(time.time())
        sequence = max(now, int(read_state(db, SEQUENCE) or 0) + 1)
        write_state(db, SEQUENCE, str(sequence))
        return {"publisher": self.key, "sequence": sequence, "time": now}

    def _seal(self, document: Any) -> bytes:
        return seal(document, self.identity)

    # ---- the change of the key: new key on disk, then the signed document in the database, then the rename

    def rotate(self, db: sqlite3.Connection) -> tuple[bytes, str]:
        """(the rotation, the new key): written, but in force only after the commit, with `finish_change` or the next signature."""
        fields = self._signed(db)
        successor = load_or_create(self._next)
        document = Rotation(**fields, successor=successor.public_key.hex())
        envelope = seal(document, self.identity, successor)
        self._keep_closing(db, envelope)
        return envelope, successor.public_key.hex()

    def revoke(self, db: sqlite3.Connection, reason: str | None) -> bytes:
        """The revocation of the present key; a new key, unknown to all, takes its place with `finish_change`."""
        fields = self._signed(db)
        load_or_create(self._next)
        try:
            document = msgspec.convert({"type": "revocation", **fields, "reason": reason}, Revocation)
        except msgspec.ValidationError as exc:
            raise UsageError(f"the revocation cannot be signed: {exc}") from None
        envelope = self._seal(document)
        self._keep_closing(db, envelope)
        return envelope

    @staticmethod
    def _keep_closing(db: sqlite3.Connection, envelope: bytes) -> None:
        known = msgspec.json.decode(read_state(db, CLOSINGS) or "[]", type=list[str])
        write_state(db, CLOSINGS, msgspec.json.encode([*known, envelope.decode()]).decode())

    def finish_change(self) -> None:
        """Use the new key from now on, also after a crash."""
        if self._next.exists():
            with self._database.reading() as db:
                self._change_over(db)

    def _change_over(self, db: sqlite3.Connection) -> None:
        """Within the database's lock, as all that touches the keys: the new key of another change must not be taken for this one's.

        The database tells whether the present key was closed; if not, the new one was never announced.
        """
        if not self._next.exists():
            return
        closings = _closings(db)
        last = closing_of(closings[-1]) if closings else None
        present = load_or_create(self._path).public_key.hex() if self._path.exists() else None
        if last is not None and present in (None, last.publisher):
            if present is not None:
                self._path.rename(self._path.with_name(f"{self._path.name}.{present[:8]}.closed"))
            self._next.rename(self._path)
        else:
            self._next.unlink()
        fsync_directory(self._path.parent)
        self.identity = load_or_create(self._path)


def _closings(db: sqlite3.Connection) -> list[bytes]:
    return [each.encode() for each in msgspec.json.decode(read_state(db, CLOSINGS) or "[]", type=list[str])]


def closing_of(envelope: bytes) -> Closing:
    """A rotation or a revocation, its signatures checked; UsageError, VerificationFailed."""
    try:
        return unseal(envelope, Rotation)
    except UsageError:
        return unseal(envelope, Revocation)

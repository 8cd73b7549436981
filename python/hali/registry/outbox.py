"""What is still to be told to registries: rows of `hali.db`, written before anything is sent, removed when it arrived."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from hali.model.units import DAY_S
from hali.store.database import Database

Kind = Literal["publish", "ingest", "profile", "rotate", "revoke", "report"]
MAX_ROWS = 10_000  # of one registry; a node that cannot reach it for weeks forgets the oldest reports first
MAX_AGE_S = 30.0 * DAY_S  # of a report; nobody wants to hear of a month-old download
REFUSED_KEPT = 100  # what a registry refused, shown by `hali registry status`
_FIELDS = "id, registry, kind, subject, body, created_at, not_before, attempts, state, error"


class Event(msgspec.Struct, frozen=True):
    """One message to one registry. `body` is what is sent; of an ingest it is empty, and made from the files when its turn comes."""

    id: int
    registry: str
    kind: Kind
    subject: str  # infohash, or key
    body: bytes
    created_at: float
    not_before: float
    attempts: int
    state: str
    error: str | None


class Outbox:
    """All calls block for the disk: use them in threads. `on_put` are told, in that thread, that something was written."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.on_put: set[Callable[[], None]] = set()

    def put(self, db: sqlite3.Connection, registry: str, kind: Kind, subject: str, body: bytes = b"") -> None:
        """Write an event within the caller's transaction. It takes the place of an older one on the same subject."""
        db.execute("DELETE FROM outbox WHERE registry = ? AND kind = ? AND subject = ?", (registry, kind, subject))
        db.execute(
            "INSERT INTO outbox (registry, kind, subject, body, created_at) VALUES (?, ?, ?, ?, ?)",
            (registry, kind, subject, body, time.time()),
        )
        self._bound(db, registry)
        for wake in self.on_put:
            wake()

    @staticmethod
    def _bound(db: sqlite3.Connection, registry: str) -> None:
        """Reports give way first; what was signed for publication only when there is nothing else."""
        (count,) = db.execute("SELECT COUNT(*) FROM outbox WHERE registry = ?", (registry,)).fetchone()
        if count > MAX_ROWS:
            db.execute(
                "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE registry = ?"
                " ORDER BY state = 'waiting', kind != 'report', id LIMIT ?)",
                (registry, count - MAX_ROWS),
            )

    def next(self, registry: str) -> Event | None:
        """The oldest event for a registry. Strictly in order: a key's rotation must come after what the old key signed."""
        with self._database.transaction() as db:
            # Nothing that a person signed: by one start with a wrong clock it would be gone for good.
            db.execute("DELETE FROM outbox WHERE kind = 'report' AND created_at < ?", (time.time() - MAX_AGE_S,))
            row = db.execute(
                f"SELECT {_FIELDS} FROM outbox WHERE registry = ? AND state = 'waiting' ORDER BY id LIMIT 1",
                (registry,),
            ).fetchone()
        return None if row is None else Event(*row)

    def done(self, event: Event, follow: Kind | None = None) -> None:
        """It arrived; `follow` takes its place in the order: a rotation that waits behind it must not overtake it."""
        with self._database.transaction() as db:
            if follow is None:
                db.execute("DELETE FROM outbox WHERE id = ?", (event.id,))
            else:
                fresh = "kind = ?, body = x'', attempts = 0, not_before = 0, error = NULL"
                db.execute(f"UPDATE outbox SET {fresh} WHERE id = ?", (follow, event.id))

    def later(self, event: Event, wait: float, error: str) -> None:
        """It did not arrive; try again in `wait` seconds."""
        with self._database.transaction() as db:
            db.execute(
                "UPDATE outbox SET attempts = attempts + 1, not_before = ?, error = ? WHERE id = ?",
                (time.time() + wait, error, event.id),
            )

    def refused(self, event: Event, error: str) -> None:
        """Trying again cannot help; kept a while, to be shown."""
        with self._database.transaction() as db:
            db.execute("UPDATE outbox SET state = 'refused', error = ? WHERE id = ?", (error, event.id))
            db.execute(
                "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE state = 'refused' ORDER BY id DESC LIMIT -1 OFFSET ?)",
                (REFUSED_KEPT,),
            )

    def counts(self) -> dict[str, int]:
        """Messages by state."""
        with self._database.transaction() as db:
            return dict(db.execute("SELECT state, COUNT(*) FROM outbox GROUP BY state").fetchall())

    def events(self, subject: str | None = None) -> list[Event]:
        """Everything that waits or was refused, oldest first; of one subject when given."""
        where, values = ("", ()) if subject is None else ("WHERE subject = ?", (subject,))
        with self._database.transaction() as db:
            rows = db.execute(f"SELECT {_FIELDS} FROM outbox {where} ORDER BY id", values).fetchall()
        return [Event(*row) for row in rows]


def describe(event: Event) -> dict[str, Any]:
    """An event as `hali registry status` shows it."""
    return {
        "registry": event.registry,
        "kind": event.kind,
        "subject": event.subject,
        "state": event.state,
        "attempts": event.attempts,
        "error": event.error,
    }

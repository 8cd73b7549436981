"""The node's SQLite database: write-ahead log, migrations in order, one writer."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hali.model.errors import ConfigError, ExitCode, Failed, NoSpace, StoreDamaged
from hali.runtime.log import get_logger

log = get_logger(__name__)

UPGRADE = "pip install --upgrade hali"

# One entry per schema version; entries are never changed, only appended: a database in the field replays the rest.
MIGRATIONS = (
    """
    CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE job (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('add', 'pull')),
        spec TEXT NOT NULL,
        created_at REAL NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        registry TEXT NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        body BLOB NOT NULL,
        created_at REAL NOT NULL,
        not_before REAL NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'refused')),
        error TEXT
    ) STRICT;
    CREATE INDEX outbox_next ON outbox (registry, state, id);
    """,
    """
    ALTER TABLE job ADD COLUMN priority TEXT NOT NULL DEFAULT 'normal' CHECK (priority IN ('high', 'normal', 'low'));
    """,
    """
    CREATE TABLE model_use (
        sha256 TEXT PRIMARY KEY,
        last_used REAL,
        uploaded INTEGER NOT NULL DEFAULT 0,
        pinned INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    """,
    """
    CREATE TABLE api_key (
        name TEXT PRIMARY KEY,
        digest BLOB NOT NULL UNIQUE,
        scopes TEXT NOT NULL,
        weight REAL NOT NULL,
        rpm INTEGER,
        tpm INTEGER,
        tpd INTEGER,
        created_at REAL NOT NULL,
        expires_at REAL
    ) STRICT;
    """,
)


class Database:
    """Opened once per daemon. Calls are short; long readers must not hold `transaction` open."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            # FULL: an acknowledged write survives power loss (security.md, promise 2).
            self._db.execute("PRAGMA synchronous=FULL")
            self._migrate()
        except sqlite3.OperationalError as exc:  # a full disk, no permission: the data is as good as before
            kind = NoSpace if "full" in str(exc) else Failed
            raise kind(f"database {path}: {exc}", hint="mend that, then start again; nothing is lost") from None
        except sqlite3.DatabaseError as exc:
            damaged = StoreDamaged(f"database {path}: {exc}", hint="`hali doctor --repair database`")
            damaged.exit_code = ExitCode.CONFIG  # a service manager that starts us again changes nothing
            raise damaged from None

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        check_version(version)
        for number in range(version, len(MIGRATIONS)):
            # executescript commits first, so the version is set in the same script.
            self._db.executescript(f"BEGIN; {MIGRATIONS[number]} PRAGMA user_version = {number + 1}; COMMIT;")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; durable when the block ends."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.OperationalError as exc:
                self._roll_back()
                raise _unwritable(exc) from exc
            except BaseException:
                self._roll_back()
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For a query whose rows are taken at once."""
        with self._lock:
            yield self._db

    def _roll_back(self) -> None:
        """A COMMIT that failed may leave the transaction open, and the next one could not begin."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def get_state(self, key: str) -> str | None:
        """A remembered fact, or None."""
        with self._lock:
            return read_state(self._db, key)

    def set_state(self, key: str, value: str) -> None:
        """Remember a fact."""
        with self.transaction() as db:
            write_state(db, key, value)

    def add_job(self, job_id: str, kind: str, spec: str, priority: str = "normal") -> None:
        """Remember work, so that a daemon that dies goes on with it; the same id twice is one job."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO job (id, kind, spec, created_at, priority) VALUES (?, ?, ?, ?, ?)",
                (job_id, kind, spec, time.time(), priority),
            )

    def set_job_priority(self, job_id: str, priority: str) -> None:
        """Remember another priority of unfinished work."""
        with self.transaction() as db:
            db.execute("UPDATE job SET priority = ? WHERE id = ?", (priority, job_id))

    def jobs(self) -> list[tuple[str, str, str]]:
        """(id, spec, priority) of unfinished work, oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT id, spec, priority FROM job ORDER BY created_at, rowid").fetchall()
        return [(str(i), str(s), str(p)) for i, s, p in rows]

    def remove_job(self, job_id: str, also: Callable[[sqlite3.Connection], None] | None = None) -> None:
        """Forget finished or abandoned work; what `also` writes is there if and only if the job is gone."""
        with self.transaction() as db:
            db.execute("DELETE FROM job WHERE id = ?", (job_id,))
            if also is not None:
                also(db)

    def checkpoint(self) -> None:
        """Move all that the write-ahead log holds into the database file; NoSpace or Failed where that cannot be written."""
        with self._lock:
            try:
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except sqlite3.OperationalError as exc:
                raise _unwritable(exc) from exc

    def close(self) -> None:
        """Checkpoint and close. Where there is no room for it the write-ahead log stays, from which the next start reads."""
        try:
            self.checkpoint()
        except (NoSpace, Failed) as exc:
            log.warning("database.not_checkpointed", error=exc.message)
        finally:
            with self._lock:
                self._db.close()


def check_version(version: int) -> None:
    """ConfigError for a schema that this hali does not know."""
    if version > len(MIGRATIONS):
        raise ConfigError(f"the database is of a newer hali (schema {version})", hint=f"`{UPGRADE}`")


def _unwritable(exc: sqlite3.OperationalError) -> NoSpace | Failed:
    kind = NoSpace if "full" in str(exc) else Failed
    return kind(f"the database cannot be written: {exc}", hint="free some space on its disk")


def read_state(db: sqlite3.Connection, key: str) -> str | None:
    """A remembered fact, or None; within the caller's transaction."""
    row = db.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def write_state(db: sqlite3.Connection, key: str, value: str) -> None:
    """Remember a fact; within the caller's transaction."""
    db.execute("INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value))

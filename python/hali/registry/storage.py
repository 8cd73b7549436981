"""The registry's database: SQLite by path, PostgreSQL by DSN. One connection, one writer; calls are short and run in threads."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from hali.model.errors import ConfigError, Failed, NoSpace, StoreDamaged

Row = tuple[Any, ...]
SCHEMA_VERSION = 1
CONNECT_S = 10  # to PostgreSQL; the requests behind it wait as long
STATEMENT_S = 10  # the longest takes some 100 ms
# {blob} is the one type whose name differs. No foreign keys: an entry may come before its torrent and the other way round.
SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (version BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS publisher (
    key TEXT PRIMARY KEY, first_seen BIGINT NOT NULL, profile TEXT, profile_sequence BIGINT NOT NULL DEFAULT 0,
    closing TEXT, closed_sequence BIGINT, successor TEXT, predecessor TEXT);
CREATE TABLE IF NOT EXISTS entry (
    infohash TEXT NOT NULL, publisher TEXT NOT NULL, infohash_v1 TEXT NOT NULL, sha256 TEXT NOT NULL, model_id TEXT NOT NULL,
    words TEXT NOT NULL, sequence BIGINT NOT NULL, manifest TEXT NOT NULL, published_at BIGINT NOT NULL,
    torrent BIGINT NOT NULL, layers BIGINT NOT NULL, header BIGINT NOT NULL, PRIMARY KEY (infohash, publisher));
CREATE TABLE IF NOT EXISTS torrent (infohash TEXT PRIMARY KEY, raw {blob} NOT NULL, head {blob}, ingest TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS report (
    infohash TEXT NOT NULL, reporter TEXT NOT NULL, ok BIGINT NOT NULL, day BIGINT NOT NULL, PRIMARY KEY (infohash, reporter));
CREATE INDEX IF NOT EXISTS entry_by_v1 ON entry (infohash_v1);
CREATE INDEX IF NOT EXISTS entry_by_sha256 ON entry (sha256);
CREATE INDEX IF NOT EXISTS entry_by_publisher ON entry (publisher)
"""


class Cursor(Protocol):
    """What both databases give inside a transaction; parameters are `?`."""

    def all(self, sql: str, *values: Any) -> list[Row]:
        """All rows of a query."""

    def one(self, sql: str, *values: Any) -> Row | None:
        """The first row, or None."""

    def run(self, sql: str, *values: Any) -> None:
        """A statement without rows."""


class Storage:
    """Opened once per server; StoreDamaged or ConfigError when that fails."""

    def __init__(self, connect: Callable[[], Any], *, blob: str, marker: str, errors: type[Exception]) -> None:
        self._connect, self._marker, self._errors = connect, marker, errors
        self._connection = connect()
        self._lock = threading.Lock()
        with self.transaction() as cursor:
            for statement in SCHEMA.format(blob=blob).split(";"):
                cursor.run(statement)
            version = cursor.one("SELECT version FROM meta")
            if version is None:
                cursor.run("INSERT INTO meta VALUES (?)", SCHEMA_VERSION)
            elif version[0] != SCHEMA_VERSION:
                raise ConfigError(f"the registry's database has schema {version[0]}", hint="update hali")

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """All or nothing; durable when the block ends. NoSpace or Failed when the database cannot do it."""
        with self._lock:
            try:
                if getattr(self._connection, "closed", False):  # a PostgreSQL that was restarted; SQLite's never close
                    self._connection = self._connect()
                cursor = _Cursor(self._connection.cursor(), self._marker)
                cursor.run("BEGIN")
                yield cursor
                self._connection.commit()
            except self._errors as exc:
                self._roll_back()
                kind = NoSpace if "full" in str(exc) else Failed
                raise kind(f"the registry's database failed: {exc}", retryable=True) from exc
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        try:
            self._connection.rollback()
        except self._errors:
            pass  # the connection is gone, and the transaction with it; the error that led here is raised

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            self._connection.close()


class _Cursor:
    def __init__(self, cursor: Any, marker: str) -> None:
        self._cursor, self._marker = cursor, marker

    def _execute(self, sql: str, values: Sequence[Any]) -> Any:
        return self._cursor.execute(sql.replace("?", self._marker), values)

    def all(self, sql: str, *values: Any) -> list[Row]:
        self._execute(sql, values)
        return [tuple(row) for row in self._cursor.fetchall()]

    def one(self, sql: str, *values: Any) -> Row | None:
        self._execute(sql, values)
        row = self._cursor.fetchone()
        return None if row is None else tuple(row)

    def run(self, sql: str, *values: Any) -> None:
        self._execute(sql, values)


def sqlite(path: Path) -> Storage:
    """A file, made when missing; StoreDamaged when it is no database."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # an acknowledged write survives power loss
        return connection

    try:
        return Storage(connect, blob="BLOB", marker="?", errors=sqlite3.Error)
    except (sqlite3.Error, Failed) as exc:
        raise StoreDamaged(f"registry database {path}: {exc}", hint="give another file with --db") from None


def postgres(dsn: str) -> Storage:
    """A PostgreSQL database; ConfigError without psycopg or when it cannot be reached."""
    try:
        import psycopg
    except ImportError:
        raise ConfigError("PostgreSQL needs psycopg", hint="pip install 'hali[postgres]'") from None

    def connect() -> psycopg.Connection:
        # autocommit: transactions begin where `transaction` says so. A database that hangs must not hold all threads for ever.
        made = psycopg.connect(dsn, autocommit=True, connect_timeout=CONNECT_S, tcp_user_timeout=1000 * STATEMENT_S)
        made.execute(f"SET statement_timeout = '{STATEMENT_S}s'")
        return made

    try:
        return Storage(connect, blob="BYTEA", marker="%s", errors=psycopg.Error)
    except (psycopg.Error, Failed) as exc:
        raise ConfigError(f"cannot use the PostgreSQL database: {' '.join(str(exc).split())}") from None

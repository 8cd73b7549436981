"""A damaged database made anew from all rows that can still be read. The damaged one is kept beside it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from hali.config.files import fsync_directory
from hali.store.database import Database, check_version

MOST_PROBED = 100_000  # rowids looked for one by one between the two ends of a gap: a second
_COMPANIONS = ("-wal", "-shm", "-journal")


class Repaired(msgspec.Struct, frozen=True):
    """Rows that were saved, by table, and where the damaged database is now."""

    rows: dict[str, int]
    kept: Path


def repair(path: Path) -> Repaired:
    """Replace the database at `path`; only for the one process that holds the home. ConfigError for one of a newer hali."""
    check_version(_version(path))
    kept = path.with_name(f"{path.name}.damaged-{time.time_ns() // 1_000_000_000}")
    for end in ("", *_COMPANIONS):
        if (part := path.with_name(path.name + end)).exists():
            shutil.copy2(part, kept.with_name(kept.name + end))
    fresh = path.with_name(f"{path.name}.repaired")
    _remove(fresh)
    with closing(Database(fresh)) as database:
        rows = _salvage(kept, database)
        database.checkpoint()  # what stayed in its log would not come along
    # Its journal first: SQLite would play it into whatever database lies beside it. The copy has both.
    for end in _COMPANIONS:
        path.with_name(path.name + end).unlink(missing_ok=True)
    os.replace(fresh, path)
    fsync_directory(path.parent)
    return Repaired(rows, kept)


def _version(path: Path) -> int:
    """Of its schema; 0 where that cannot be read."""
    try:
        with closing(_reading(path)) as db:
            return int(db.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError:
        return 0


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def _remove(path: Path) -> None:
    for end in ("", *_COMPANIONS):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _salvage(damaged: Path, into: Database) -> dict[str, int]:
    """Copy what can be read; how many rows of each table."""
    saved: dict[str, int] = {}
    with (
        closing(_reading(damaged)) as source,
        into.transaction() as target,
    ):
        for table, columns in _tables(target):
            saved[table] = _copy(source, target, table, columns)
    return saved


def _tables(db: sqlite3.Connection) -> list[tuple[str, list[str]]]:
    names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()]
    ours = [name for name in names if not name.startswith("sqlite_")]
    return [(name, [row[1] for row in db.execute(f"PRAGMA table_info({name})")]) for name in ours]


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, table: str, columns: list[str]) -> int:
    try:
        known = {row[1] for row in source.execute(f"PRAGMA table_info({table})")}
    except sqlite3.DatabaseError:  # the list of tables itself is gone
        return 0
    shared = [name for name in columns if name in known]
    if not shared:
        return 0  # of a schema that had no such table
    places = ", ".join("?" * len(shared))
    count = 0
    for row in _rows(source, f"SELECT rowid, {', '.join(shared)} FROM {table} NOT INDEXED"):
        try:
            target.execute(f"INSERT INTO {table} ({', '.join(shared)}) VALUES ({places})", row[1:])
            count += 1
        except sqlite3.IntegrityError:  # readable, and not what it was
            continue
    return count


def _rows(db: sqlite3.Connection, select: str) -> Iterator[tuple[object, ...]]:
    """Each readable row once: from the front, from the back, then one by one between the two places where reading ends."""
    low = 0
    for row in _until_damage(db, f"{select} ORDER BY rowid"):
        if row is None:
            break
        low = int(str(row[0]))
        yield row
    else:
        return
    high = low + MOST_PROBED
    for row in _until_damage(db, f"{select} WHERE rowid > {low} ORDER BY rowid DESC"):
        if row is None:
            break
        high = int(str(row[0]))
        yield row
    for rowid in range(low + 1, min(high, low + MOST_PROBED)):
        yield from (row for row in _until_damage(db, f"{select} WHERE rowid = {rowid}") if row is not None)


def _until_damage(db: sqlite3.Connection, query: str) -> Iterator[tuple[object, ...] | None]:
    """The rows, and None where reading ends before their end."""
    try:
        yield from db.execute(query)
    except sqlite3.DatabaseError:
        yield None

"""How each model is used: when last, how much of it was sent to others, whether it is pinned. In memory, written now and then."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from hali.store.database import Database


class Use(msgspec.Struct, frozen=True):
    """Of one model. Times are of the wall clock, in seconds since 1970."""

    last_used: float | None = None
    uploaded: int = 0  # bytes
    pinned: bool = False


UNUSED = Use()


class Usage:
    """Losing the last minute of it to a crash harms nobody, so only pins are written at once."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        with database.reading() as db:
            self._uses = _read(db)
        self._unwritten: set[str] = set()
        self._lock = (
            threading.Lock()
        )  # `pin`, `forget` and `write` come from threads. Taken inside of the database's own

    def of(self, sha256: str) -> Use:
        """What is known of a model."""
        return self._uses.get(sha256, UNUSED)

    def used(self, sha256: str) -> None:
        """It is used right now."""
        self._change(sha256, last_used=self._clock())

    def sent(self, sha256: str, count: int) -> None:
        """So many more bytes of it went to others, which is a use."""
        self._change(sha256, last_used=self._clock(), sent=count)

    def _change(self, sha256: str, sent: int = 0, **fields: Any) -> None:
        with self._lock:
            known = self.of(sha256)
            self._uses[sha256] = msgspec.structs.replace(known, uploaded=known.uploaded + sent, **fields)
            self._unwritten.add(sha256)

    def pin(self, sha256: str, pinned: bool) -> None:
        """Durable when this returns. Blocks."""
        self._change(sha256, pinned=pinned)
        self.write()

    def forget(self, sha256: str) -> None:
        """The model is gone, and a pin on it too. Blocks."""
        with self._lock:
            if self._uses.pop(sha256, None) is not None:
                self._unwritten.add(sha256)
        self.write()

    def write(self) -> None:
        """Make what changed durable. Blocks; what changes meanwhile is written the next time."""
        changed: set[str] = set()
        try:
            with self._database.transaction() as db:  # rows are taken inside: who commits last has seen most
                with self._lock:
                    changed, self._unwritten = self._unwritten, set()
                    rows = [(each, use.last_used, use.uploaded, use.pinned) for each, use in self._of_all(changed)]
                    gone = [(each,) for each in changed if each not in self._uses]
                db.executemany("INSERT OR REPLACE INTO model_use VALUES (?, ?, ?, ?)", rows)
                db.executemany("DELETE FROM model_use WHERE sha256 = ?", gone)
        except BaseException:
            with self._lock:
                self._unwritten |= changed
            raise

    def _of_all(self, some: Iterable[str]) -> list[tuple[str, Use]]:
        return [(each, self._uses[each]) for each in some if each in self._uses]


def read_usage(path: Path) -> dict[str, Use]:
    """What the database at `path` says, without a daemon and without changing it; nothing when it has not come to that yet."""
    if not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return _read(db)
    except sqlite3.DatabaseError:
        # Of an older hali, or damaged: the next daemon says so; a list of models need not fail.
        return {}


def _read(db: sqlite3.Connection) -> dict[str, Use]:
    rows = db.execute("SELECT sha256, last_used, uploaded, pinned FROM model_use")
    return {sha256: Use(last_used, uploaded, bool(pinned)) for sha256, last_used, uploaded, pinned in rows}

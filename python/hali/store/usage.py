"""How each model is used: when last, how much of it was sent to others, whether it is pinned. In memory, written now and then."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

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

    def of(self, sha256: str) -> Use:
        """What is known of a model."""
        return self._uses.get(sha256, UNUSED)

    def used(self, sha256: str) -> None:
        """It is used right now."""
        self._change(sha256, msgspec.structs.replace(self.of(sha256), last_used=self._clock()))

    def sent(self, sha256: str, count: int) -> None:
        """So many more bytes of it went to others, which is a use."""
        self._change(
            sha256,
            msgspec.structs.replace(
                self.of(sha256), last_used=self._clock(), uploaded=self.of(sha256).uploaded + count
            ),
        )

    def _change(self, sha256: str, use: Use) -> None:
        self._uses[sha256] = use
        self._unwritten.add(sha256)

    def pin(self, sha256: str, pinned: bool) -> None:
        """Durable when this returns. Blocks."""
        self._change(sha256, msgspec.structs.replace(self.of(sha256), pinned=pinned))
        self.write()

    def forget(self, sha256: str) -> None:
        """The model is gone, and a pin on it too. Blocks."""
        if self._uses.pop(sha256, None) is not None:
            self._unwritten.add(sha256)
            self.write()

    def write(self) -> None:
        """Make what changed durable. Blocks; what changes meanwhile is written the next time."""
        changed, self._unwritten = self._unwritten, set()
        if not changed:
            return
        rows = [
            (sha256, use.last_used, use.uploaded, use.pinned) for sha256 in changed if (use := self._uses.get(sha256))
        ]
        gone = [(sha256,) for sha256 in changed if sha256 not in self._uses]
        try:
            with self._database.transaction() as db:
                db.executemany("INSERT OR REPLACE INTO model_use VALUES (?, ?, ?, ?)", rows)
                db.executemany("DELETE FROM model_use WHERE sha256 = ?", gone)
        except BaseException:
            self._unwritten |= changed
            raise


def read_usage(path: Path) -> dict[str, Use]:
    """What the database at `path` says, without a daemon and without changing it; nothing when it has not come to that yet."""
    if not path.exists():
        return {}
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return _read(db)
    except (
        sqlite3.DatabaseError
    ):  # of an older hali, or damaged: the next daemon says so; a list of models need not fail
        return {}


def _read(db: sqlite3.Connection) -> dict[str, Use]:
    rows = db.execute("SELECT sha256, last_used, uploaded, pinned FROM model_use")
    return {sha256: Use(last_used, uploaded, bool(pinned)) for sha256, last_used, uploaded, pinned in rows}

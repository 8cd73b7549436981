"""A library of small models for the tests of pruning."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hali.model.names import derive
from hali.share.leftovers import SETTLED_S
from hali.share.library import Library
from hali.share.space import Busy, Space
from hali.store.database import Database
from hali.store.models import Metadata, ModelStore, Record
from hali.store.usage import Usage

NOW = 2_000_000_000.0  # after everything that the tests write to disk
DAY = 86_400.0


class Nest:
    """A library of small models whose use is set by the test."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.torrents = folder, folder / "torrents"
        self.torrents.mkdir(parents=True)
        self.library = Library(ModelStore(folder / "models"), self.torrents, announce=lambda _: None)
        self.now = NOW
        self.usage = Usage(database, clock=lambda: self.now)
        self.busy = Busy()

    def add(self, letter: str, size: int, used: float) -> Record:
        """A model of `size` bytes, last used `used` days ago."""
        file = f"{letter.upper()}-7B.Q4_0.gguf"
        source = self.folder / file
        source.write_bytes(bytes(size))
        meta = Metadata(
            str(derive(file)), letter * 64, "0" * 64, letter * 40, letter * 64, [file], size, "2026-01-01T00:00:00Z", 0
        )
        record = self.library.store.place(source, derive(file), meta)
        self.library.scan()
        self.torrent(letter)
        self.now = NOW - used * DAY
        self.usage.used(meta.sha256)
        self.now = NOW
        return record

    def torrent(self, letter: str) -> Path:
        """A torrent file that has been there for a while."""
        path = self.torrents / f"{letter * 40}.torrent"
        path.write_bytes(b"d")
        old = time.time() - SETTLED_S - 10
        os.utime(path, (old, old))
        return path

    def unfinished(self, key: str, age: float) -> Path:
        """A folder of `.incoming` not touched for `age` days."""
        folder = self.library.store.incoming(key)
        for name in (f"{key}.gguf", "journal"):
            (folder / name).write_bytes(b"x" * 5000)
            os.utime(folder / name, (NOW - age * DAY, NOW - age * DAY))
        return folder

    def space(self, quota_gb: float = 0.0) -> Space:
        return Space(
            self.library, self.usage, self.torrents, quota_gb=quota_gb, busy=lambda: self.busy, clock=lambda: self.now
        )

    def left(self) -> str:
        return "".join(sorted(entry.record.meta.sha256[0] for entry in self.library.entries()))

"""Keys of the HTTP API that were given out, in the database: never the secrets, only what they hash to."""

from __future__ import annotations

import sqlite3

import msgspec

from hali.model.errors import NotFound, UsageError
from hali.store.database import Database

_COLUMNS = "name, digest, scopes, weight, rpm, tpm, tpd, created_at, expires_at"


class KeyRecord(msgspec.Struct, frozen=True):
    """One key. `digest` is the SHA-256 of its secret; limits None = the defaults of the configuration, 0 = none; times since 1970."""

    name: str
    digest: bytes
    scopes: tuple[str, ...]
    weight: float
    rpm: int | None  # requests a minute
    tpm: int | None  # tokens a minute
    tpd: int | None  # tokens a day
    created_at: float
    expires_at: float | None


class KeyStore:
    """All calls block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[KeyRecord]:
        """Oldest first, also those whose time is over."""
        with self._database.reading() as db:
            rows = db.execute(f"SELECT {_COLUMNS} FROM api_key ORDER BY created_at, name").fetchall()
        return [KeyRecord(name, digest, tuple(scopes.split()), *rest) for name, digest, scopes, *rest in rows]

    def add(self, key: KeyRecord) -> None:
        """Durable when this returns; UsageError when there is a key of that name."""
        row = (key.name, key.digest, " ".join(key.scopes), key.weight, key.rpm, key.tpm, key.tpd)
        try:
            with self._database.transaction() as db:
                places = ", ".join("?" * 9)
                db.execute(
                    f"INSERT INTO api_key ({_COLUMNS}) VALUES ({places})", (*row, key.created_at, key.expires_at)
                )
        except sqlite3.IntegrityError:
            hint = f"another name, or `hali keys revoke {key.name}` first"
            raise UsageError(f"there is a key called {key.name}", hint=hint, code="key_exists") from None

    def remove(self, name: str) -> None:
        """Durable when this returns; NotFound."""
        with self._database.transaction() as db:
            if not db.execute("DELETE FROM api_key WHERE name = ?", (name,)).rowcount:
                raise NotFound(f"there is no key called {name}", hint="`hali keys list` shows them")

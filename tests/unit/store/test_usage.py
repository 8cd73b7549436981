"""The record of use: kept over restarts, cheap while it grows, and gone with its model."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from hali.store.database import MIGRATIONS, Database
from hali.store.usage import UNUSED, Usage, Use, read_usage

A, B = "ab" * 32, "cd" * 32


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "d")
    yield made
    made.close()


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "100%41 #1?"
    folder.mkdir()
    made = Database(folder / "d")
    Usage(made).pin(A, True)
    made.close()
    assert read_usage(folder / "d")[A].pinned


def test_use_is_there_after_a_restart_once_it_was_written(database: Database, tmp_path: Path) -> None:
    usage = Usage(database, clock=lambda: 100.0)
    usage.used(A)
    usage.sent(A, 5)
    usage.sent(A, 7)
    assert Usage(database).of(A) == UNUSED
    usage.write()
    assert Usage(database).of(A) == Use(100.0, 12, False)
    assert read_usage(tmp_path / "d") == {A: Use(100.0, 12, False)}


def test_a_pin_is_durable_at_once_and_stays_over_use(database: Database) -> None:
    usage = Usage(database, clock=lambda: 100.0)
    usage.pin(A, True)
    usage.used(A)
    usage.write()
    assert Usage(database).of(A) == Use(100.0, 0, True)
    usage.pin(A, False)
    assert not Usage(database).of(A).pinned


def test_what_is_known_of_a_model_goes_with_it(database: Database) -> None:
    usage = Usage(database, clock=lambda: 100.0)
    usage.pin(A, True)
    usage.used(B)
    usage.forget(A)
    assert (Usage(database).of(A), Usage(database).of(B)) == (UNUSED, Use(100.0, 0, False))


def test_what_could_not_be_written_is_written_the_next_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = Usage(database, clock=lambda: 100.0)
    usage.used(A)
    with monkeypatch.context() as patch:
        patch.setattr(database, "transaction", lambda: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(OSError, match="full"):
            usage.write()
    usage.write()
    assert Usage(database).of(A).last_used == 100.0


def test_a_database_of_before_the_record_is_read_as_empty_and_left_as_it_is(tmp_path: Path) -> None:
    assert read_usage(tmp_path / "none") == {}
    raw = sqlite3.connect(tmp_path / "old")
    raw.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
    raw.close()
    before = (tmp_path / "old").read_bytes()
    assert read_usage(tmp_path / "old") == {}
    assert (tmp_path / "old").read_bytes() == before
    database = Database(tmp_path / "old")
    Usage(database).pin(A, True)
    database.close()
    assert read_usage(tmp_path / "old")[A].pinned

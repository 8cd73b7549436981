"""The database: migrations, transactions, jobs that survive."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from hali.model.errors import ConfigError, Failed, StoreDamaged
from hali.store.database import MIGRATIONS, Database


def test_jobs_and_facts_are_there_after_a_reopen(tmp_path: Path) -> None:
    first = Database(tmp_path / "d")
    first.set_state("port", "1")
    first.set_state("port", "2")
    first.add_job("a", "pull", "{}")
    first.add_job("a", "pull", "{}")
    first.add_job("b", "add", "{}")
    first.remove_job("b")
    first.close()
    again = Database(tmp_path / "d")
    assert (again.get_state("port"), again.get_state("other")) == ("2", None)
    assert again.jobs() == [("a", "{}", "normal")]
    again.close()


def test_a_database_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="unable to open") as caught:
        Database(tmp_path / "no such folder" / "d")
    assert not isinstance(caught.value, StoreDamaged)


def test_a_failed_transaction_changes_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "d")
    with pytest.raises(sqlite3.IntegrityError):
        _break(database)
    assert database.jobs() == []
    database.close()


def _break(database: Database) -> None:
    with database.transaction() as db:
        db.execute("INSERT INTO job VALUES ('x', 'pull', '{}', 0, 'low')")
        db.execute("INSERT INTO job VALUES ('y', 'no such kind', '{}', 0, 'low')")


def test_the_priority_of_waiting_work_is_remembered_and_old_databases_have_the_normal_one(tmp_path: Path) -> None:
    raw = sqlite3.connect(tmp_path / "d")
    raw.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1;")
    raw.execute("INSERT INTO job VALUES ('old', 'pull', '{}', 0)")
    raw.commit()
    raw.close()
    database = Database(tmp_path / "d")
    database.add_job("new", "pull", "{}", "high")
    database.add_job("other", "pull", "{}")
    database.set_job_priority("other", "low")
    assert database.jobs() == [("old", "{}", "normal"), ("new", "{}", "high"), ("other", "{}", "low")]
    database.close()


def test_a_database_of_a_newer_hali_is_refused(tmp_path: Path) -> None:
    Database(tmp_path / "d").close()
    raw = sqlite3.connect(tmp_path / "d")
    raw.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    raw.close()
    with pytest.raises(ConfigError, match="newer hali"):
        Database(tmp_path / "d")


def test_a_file_that_is_no_database_is_reported_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "d").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(StoreDamaged) as caught:
        Database(tmp_path / "d")
    assert "--repair database" in str(caught.value.hint)


@contextmanager
def no_file_grows(limit: int) -> Iterator[None]:
    """The system refuses to write beyond `limit` bytes of any file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_database_that_cannot_be_checkpointed_is_closed_and_loses_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "d")
    database.set_state("k", "x" * 10_000)
    with no_file_grows((tmp_path / "d").stat().st_size):
        with pytest.raises(Failed, match="cannot be written"):
            database.checkpoint()
        database.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        database.get_state("k")
    with closing(Database(tmp_path / "d")) as again:
        assert again.get_state("k") == "x" * 10_000

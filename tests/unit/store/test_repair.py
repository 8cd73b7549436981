"""What can be read of a damaged database is in the new one, and the damaged one is kept."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hali.model.errors import ConfigError, NoSpace
from hali.store.database import MIGRATIONS, Database
from hali.store.repair import repair
from tests.nodes import flip

ROWS = 400


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with rows over many pages."""
    path = tmp_path / "hali.db"
    with closing(Database(path)) as database, database.transaction() as db:
        db.executemany("INSERT INTO state VALUES (?, ?)", [(f"k{n:03}", "x" * 300) for n in range(ROWS)])
        db.execute("INSERT INTO model_use VALUES ('ab', 1.0, 2, 1)")
    return path


def leaves(path: Path) -> list[tuple[int, int]]:
    """(page, rows) of the leaves of the table `state`, in order."""
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT pageno, ncell FROM dbstat WHERE name = 'state' AND pagetype = 'leaf' ORDER BY path"
        return [(int(page), int(cells)) for page, cells in db.execute(query)]


def break_page(path: Path, page: int) -> None:
    """Make the header of a page nonsense."""
    for offset in range(8):
        flip(path, (page - 1) * 4096 + offset)


def keys(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        return [key for (key,) in db.execute("SELECT key FROM state ORDER BY key")]


@pytest.mark.parametrize("which", [[0], [3], [-1], [2, 6], [0, -1]])
def test_only_the_rows_of_broken_pages_are_lost(path: Path, which: list[int]) -> None:
    found = leaves(path)
    assert len(found) > 8
    lost = sum(found[index][1] for index in which)
    for index in which:
        break_page(path, found[index][0])
    damaged = path.read_bytes()
    done = repair(path)
    assert len(keys(path)) == ROWS - lost == done.rows["state"]
    assert done.rows["model_use"] == 1
    assert done.kept.read_bytes() == damaged


def test_a_whole_database_is_copied_whole(path: Path) -> None:
    repair(path)
    assert keys(path) == [f"k{n:03}" for n in range(ROWS)]


def test_what_was_only_in_the_write_ahead_log_is_saved_and_the_log_is_gone(path: Path, tmp_path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("INSERT INTO state VALUES ('late', 'x')")
    db.commit()
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for part in tmp_path.glob("hali.db*"):  # as a kill leaves them
        (crashed / part.name).write_bytes(part.read_bytes())
    db.close()
    assert (crashed / "hali.db-wal").stat().st_size
    repair(crashed / "hali.db")
    assert not (crashed / "hali.db-wal").exists()
    assert "late" in keys(crashed / "hali.db")


@pytest.mark.parametrize("content", [b"", b"no database" * 1000])
def test_of_what_is_no_database_a_new_one_is_made(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hali.db"
    path.write_bytes(content)
    assert sum(repair(path).rows.values()) == 0
    assert keys(path) == []


def test_a_new_one_that_is_not_all_in_its_file_takes_nobodys_place(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Database) -> None:
        raise NoSpace("the database cannot be written: database or disk is full")

    before = path.read_bytes()
    monkeypatch.setattr(Database, "checkpoint", full)
    with pytest.raises(NoSpace):
        repair(path)
    assert path.read_bytes() == before


def test_a_database_of_a_newer_hali_is_not_thrown_away(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"newer hali \(schema 99\)") as caught:
        repair(path)
    assert caught.value.hint == "`pip install --upgrade hali`"
    assert path.read_bytes() == before
    assert list(path.parent.glob("hali.db.*")) == []


def test_an_older_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "hali.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"{MIGRATIONS[0]} PRAGMA user_version = 1; INSERT INTO job VALUES ('j', 'pull', 's', 1.0);")
    assert repair(path).rows["job"] == 1
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT id, priority FROM job").fetchall() == [("j", "normal")]

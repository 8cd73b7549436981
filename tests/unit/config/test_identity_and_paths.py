"""The identity is made once and kept; the data directory is private."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hali.config.identity import load_or_create, verify
from hali.config.paths import Paths, from_environment
from hali.model.errors import ConfigError
from hali.store.database import Database


def test_an_identity_is_made_once_private_and_signs(tmp_path: Path) -> None:
    first, again = load_or_create(tmp_path / "k"), load_or_create(tmp_path / "k")
    assert first.node_id == again.node_id
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    signature = first.sign(b"x")
    assert verify(again.public_key, signature, b"x")
    assert not verify(again.public_key, signature, b"y")
    assert not verify(b"short", signature, b"x")


def test_a_key_that_others_can_read_or_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k"
    load_or_create(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="read by others"):
        load_or_create(path)
    path.chmod(0o600)
    path.write_bytes(b"-----BEGIN")
    with pytest.raises(ConfigError, match="damaged"):
        load_or_create(path)


def test_a_key_that_cannot_be_read_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "k").mkdir(mode=0o700)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_or_create(tmp_path / "k")


def test_hali_home_moves_everything_and_is_private(tmp_path: Path) -> None:
    paths = from_environment({"HALI_HOME": str(tmp_path / "x")})
    paths.create()
    assert paths.home == tmp_path / "x"
    assert paths.home.stat().st_mode & 0o777 == 0o700
    assert from_environment({}).home == Path.home() / ".hali"
    assert paths.models("~/m") == Path.home() / "m"


def test_a_home_that_no_folder_can_be_is_told_and_one_that_is_not_there_yet_is_not(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for wrong in ("a" * 256, "loop"):
        with pytest.raises(ConfigError, match="HALI_HOME cannot be a folder"):
            from_environment({"HALI_HOME": str(tmp_path / wrong)})
    assert from_environment({"HALI_HOME": str(tmp_path / "new" / "one")}).home == tmp_path / "new" / "one"


def test_a_home_is_as_long_as_the_database_can_be_opened_in(tmp_path: Path) -> None:
    def of_length(length: int) -> Path:
        root = tmp_path.resolve()
        parts = "/x" * ((length - len(os.fsencode(root))) // 2)
        return Path(f"{root}{parts}{'x' * (length - len(os.fsencode(root)) - len(parts))}")

    paths = from_environment({"HALI_HOME": str(of_length(496))})
    paths.create()
    Database(paths.database).close()
    (tmp_path / "link").symlink_to(of_length(497))
    for home in (of_length(497), tmp_path / "link"):
        with pytest.raises(ConfigError, match="HALI_HOME has 497 bytes, and the database takes 496 at most"):
            from_environment({"HALI_HOME": str(home)})


def test_a_data_directory_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "home"):
        with pytest.raises(ConfigError, match="is no folder"):
            Paths(home).create()


def test_a_home_whose_name_is_not_utf_8_is_refused_before_anything_has_to_tell_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not UTF-8"):
        from_environment({"HALI_HOME": str(tmp_path / "bad\udcff")})

"""Imports: links where possible, copies where not, and a broken copy is made again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hali.share import importing
from hali.share.importing import bring_in


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.gguf"
    path.write_bytes(b"model" * 1000)
    return path


def test_a_link_shares_the_bytes_and_leaves_the_source_alone(tmp_path: Path, source: Path) -> None:
    before = source.stat()
    target = tmp_path / "target.gguf"
    assert bring_in(source, target, link=True, tag="1") in ("reflink", "link")
    assert target.read_bytes() == source.read_bytes()
    assert source.stat().st_mtime_ns == before.st_mtime_ns


def test_a_copy_is_made_on_request_and_across_file_systems(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "target.gguf"
    assert bring_in(source, target, link=False, tag="1") == "copy"
    assert target.stat().st_ino != source.stat().st_ino

    def other_file_system(old: object, new: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other_file_system)
    monkeypatch.setattr(importing, "_reflink", lambda old, new: False)
    assert bring_in(source, tmp_path / "other.gguf", link=True, tag="1") == "copy"


def test_a_finished_import_is_kept_and_a_broken_or_outdated_one_is_made_again(tmp_path: Path, source: Path) -> None:
    target = tmp_path / "target.gguf"
    target.write_bytes(b"half")  # a copy that was killed: no note beside it
    assert bring_in(source, target, link=False, tag="1") == "copy"
    assert target.read_bytes() == source.read_bytes()
    assert bring_in(source, target, link=False, tag="1") == "kept"
    source.write_bytes(b"a newer version")
    assert bring_in(source, target, link=False, tag="2") == "copy"
    assert target.read_bytes() == b"a newer version"


def test_a_symlink_as_source_is_followed_once_to_the_real_file(tmp_path: Path, source: Path) -> None:
    alias = tmp_path / "alias.gguf"
    alias.symlink_to(source)
    target = tmp_path / "target.gguf"
    bring_in(alias, target, link=True, tag="1")
    assert not target.is_symlink()
    assert target.read_bytes() == source.read_bytes()

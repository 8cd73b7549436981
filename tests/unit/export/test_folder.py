"""The folder of another program: whole files only, and no way out of it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from hali.export import folder as module
from hali.export.folder import Folder
from hali.model.errors import NoSpace, Refused, UsageError
from tests.unit.export.stored import tree


@pytest.mark.parametrize("part", ["", ".", "..", "a/b", "/etc", ".hidden", "a\0b", "a\\b"])
def test_a_name_that_leads_elsewhere_is_refused(part: str, tmp_path: Path) -> None:
    folder = Folder(tmp_path / "f")
    for parts in ((part, "x"), ("x", part)):
        with pytest.raises(UsageError):
            folder.write(b"x", *parts)
    assert tree(tmp_path) == {}


def test_nothing_is_written_through_a_symbolic_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "f"
    root.mkdir()
    (root / "blobs").symlink_to(outside)
    source = tmp_path / "source"
    source.write_bytes(b"weights")
    for act in (lambda: Folder(root).write(b"x", "blobs", "x"), lambda: Folder(root).bring(source, "blobs", "x")):
        with pytest.raises(Refused, match="symbolic link"):
            act()
    assert list(outside.iterdir()) == []


def test_a_link_in_the_place_of_the_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    root = tmp_path / "f"
    root.mkdir()
    (root / "x").symlink_to(victim)
    assert Folder(root).write(b"new", "x")
    assert victim.read_bytes() == b"precious"
    assert (root / "x").read_bytes() == b"new" and not (root / "x").is_symlink()


def test_the_named_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    Folder(tmp_path / "alias").write(b"x", "a", "b")
    assert (tmp_path / "real/a/b").read_bytes() == b"x"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source that can neither be linked nor cloned, as on another file system."""

    def other(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", other)
    monkeypatch.setattr(module, "clone", lambda old, new: False)
    source = tmp_path / "source"
    source.write_bytes(b"weights" * 1000)
    return source


def test_across_file_systems_it_is_copied_whole(tmp_path: Path, elsewhere: Path) -> None:
    assert Folder(tmp_path / "f").bring(elsewhere, "x") == "copy"
    copy = tmp_path / "f/x"
    assert copy.read_bytes() == elsewhere.read_bytes() and stat.S_IMODE(copy.stat().st_mode) & 0o400


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_copy_that_fails_leaves_nothing_and_the_old_file_stays(
    failure: BaseException, tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "f")
    folder.write(b"old", "x")

    def half(old: object, new: object, size: int) -> None:
        new.write(b"half")  # type: ignore[attr-defined]
        raise failure

    monkeypatch.setattr(module.shutil, "copyfileobj", half)
    with pytest.raises(NoSpace if isinstance(failure, OSError) else KeyboardInterrupt):
        folder.bring(elsewhere, "x")
    assert [p.name for p in (tmp_path / "f").iterdir()] == ["x"]
    assert (tmp_path / "f/x").read_bytes() == b"old"


def test_a_copy_that_cannot_fit_is_not_begun(tmp_path: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.statvfs_result((4096, 4096, 10, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda fd: full)
    with pytest.raises(NoSpace, match=r"needs 7\.0 kB, 0 B are free"):
        Folder(tmp_path / "f").bring(elsewhere, "x")
    assert tree(tmp_path / "f") == {}


@pytest.mark.parametrize(
    ("number", "why"),
    [(errno.EROFS, "read-only"), (errno.EACCES, "no permission to write"), (errno.EPERM, "no permission")],
)
def test_a_folder_that_cannot_be_written_is_named(
    number: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "f").mkdir()
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(Refused, match=why):
        Folder(tmp_path / "f").write(b"x", "x")
    assert tree(tmp_path / "f") == {}

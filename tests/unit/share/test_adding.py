"""Which files of this machine are one model that is added."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.model.errors import NotFound, UsageError
from hali.share.importing import examine, sources_of

PARTS = [f"M-Q4_0-0000{n}-of-00003.gguf" for n in (1, 2, 3)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (*PARTS, "mmproj-F16.gguf", "Alone.gguf"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


@pytest.mark.parametrize("named", PARTS)
def test_any_part_means_all_of_them_and_a_projector_comes_only_when_told(named: str, folder: Path) -> None:
    assert list(sources_of(folder / named, None)) == [folder / name for name in PARTS]
    with_projector = list(sources_of(folder / named, folder / "mmproj-F16.gguf"))
    assert with_projector == [*(folder / name for name in PARTS), folder / "mmproj-F16.gguf"]
    assert list(sources_of(folder / "Alone.gguf", None)) == [folder / "Alone.gguf"]


def test_a_part_that_is_not_there_is_named_with_the_folder_it_should_be_in(folder: Path) -> None:
    (folder / PARTS[1]).unlink()
    with pytest.raises(NotFound, match=rf"{PARTS[0]} is one of 3 parts, and {PARTS[1]} is not beside it in {folder}"):
        examine(folder / PARTS[1], folder / PARTS[0])
    with pytest.raises(NotFound, match=f"no file {folder / 'mmproj.gguf'}"):
        examine(folder / "mmproj.gguf", folder / PARTS[0])


def test_an_empty_part_and_a_folder_are_no_parts(folder: Path) -> None:
    (folder / PARTS[1]).write_bytes(b"")
    with pytest.raises(UsageError, match="is empty"):
        examine(folder / PARTS[1], folder / PARTS[0])
    with pytest.raises(UsageError, match="is not a file"):
        examine(folder, folder / PARTS[0])


@pytest.mark.parametrize("numbers", ["00004-of-00003", "00000-of-00003", "00000-of-00000"])
def test_a_part_that_cannot_be_is_refused_and_not_taken_for_the_parts_beside_it(numbers: str, folder: Path) -> None:
    with pytest.raises(UsageError, match=f"M-Q4_0-{numbers}.gguf cannot be part"):
        sources_of(folder / f"M-Q4_0-{numbers}.gguf", None)

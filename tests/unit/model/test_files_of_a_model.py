"""Names, identity and pieces of models of several files."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hali.model.piecemap import PieceMap
from hali.model.splits import (
    each_part_beside,
    is_projector,
    main_first,
    part_name,
    part_names,
    part_of,
    parts_beside,
    stem,
)
from hali.wire.manifest import FileRef, identity, manifest

A, B = FileRef("é.gguf", 5, "aa" * 32), FileRef("B.gguf", 7, "bb" * 32)


def test_the_identity_of_several_files_is_the_sha256_of_their_list_in_canonical_json() -> None:
    listed = (
        f'[{{"name":"B.gguf","sha256":"{"bb" * 32}","size":7}},{{"name":"é.gguf","sha256":"{"aa" * 32}","size":5}}]'
    )
    assert manifest([A, B]) == manifest([B, A]) == listed.encode()
    assert identity([A, B]) == hashlib.sha256(listed.encode()).hexdigest()
    assert identity([A]) == "aa" * 32


@pytest.mark.parametrize("field", ["name", "size", "sha256"])
def test_every_field_of_every_file_counts(field: str) -> None:
    changed = {"name": FileRef("e.gguf", 5, "aa" * 32), "size": FileRef("é.gguf", 6, "aa" * 32)}
    other = changed.get(field, FileRef("é.gguf", 5, "ab" * 32))
    assert identity([A, B]) != identity([other, B])


def test_parts_know_each_other_and_what_they_are_parts_of() -> None:
    names = [f"M-Q4_0-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    for name in names:
        assert part_names(name) == names and stem(name) == "M-Q4_0"
    assert part_of(names[1]) == (2, 3)
    assert part_names("M.gguf") == ["M.gguf"] and part_of("M.gguf") is None and stem("M.gguf") == "M"
    assert [part_name(names[2], n) for n in (1, 2, 3)] == names and part_name("M.gguf", 1) == "M.gguf"


@pytest.mark.parametrize("name", ["M-00000-of-00000.gguf", "M-00004-of-00003.gguf"])
def test_an_impossible_part_is_a_part_of_nothing(name: str) -> None:
    assert part_names(name) == [name] and parts_beside(Path("x") / name) == [Path("x") / name]


def test_the_parts_that_a_name_promises_are_not_all_named_before_the_first_is_looked_at() -> None:
    class Counted(PurePosixPath):
        made = 0

        def with_name(self, name: str) -> PurePosixPath:
            Counted.made += 1
            return PurePosixPath(name)

    parts: Any = each_part_beside(cast(Any, Counted("M-00001-of-99999.gguf")))
    assert [next(parts).name, next(parts).name] == ["M-00001-of-99999.gguf", "M-00002-of-99999.gguf"]
    assert Counted.made == 2


def test_the_file_to_open_comes_first_and_no_projector_is_that() -> None:
    names = ["zephyr-00002-of-00002.gguf", "mmproj-F16.gguf", "README.md", "zephyr-00001-of-00002.gguf"]
    assert main_first(names) == [
        "zephyr-00001-of-00002.gguf",
        "zephyr-00002-of-00002.gguf",
        "README.md",
        "mmproj-F16.gguf",
    ]
    assert is_projector("x/mmproj-F16.gguf") and not is_projector("mmproj/x.gguf") and not is_projector("mmproj.bin")


@given(st.lists(st.integers(0, 100), min_size=1, max_size=8), st.integers(1, 16))
def test_pieces_of_the_whole_and_of_the_files_are_the_same_pieces(lengths: list[int], piece: int) -> None:
    """Against the plain way: write the files one after another, with zeros up to the next border, and cut."""
    pieces = PieceMap(lengths, piece)
    plain = [
        (file, local, min(piece, length - at), file)
        for file, length in enumerate(lengths)
        for local, at in enumerate(range(0, length, piece))
    ]
    assert pieces.count == len(plain)
    for index, (file, local, size, _) in enumerate(plain):
        assert pieces.locate(index) == (file, local) and pieces.index(file, local) == index
        assert pieces.size(index) == size and index in pieces.pieces_of(file)
        assert pieces.padding(index) == (piece - size if index < len(plain) - 1 else 0)
    assert [i for file in range(len(lengths)) for i in pieces.pieces_of(file)] == list(range(len(plain)))
    for outside in (-1, len(plain)):
        with pytest.raises(ValueError):
            pieces.locate(outside)

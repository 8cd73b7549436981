"""Several files on their way in: pieces numbered over all of them, one journal each, one piece of disk space."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from hali.hashing import padded_sha1
from hali.model.errors import NoSpace, Refused
from hali.model.sources import PieceSource, SourceKind
from hali.model.units import MIB, PIECE
from hali.share.incoming import JOURNALS
from hali.share.incoming_model import IncomingModel, Wanted
from tests.fakes.torrents import content

LENGTHS = {"M-00001-of-00002.gguf": 2 * PIECE, "M-00002-of-00002.gguf": PIECE + 5, "mmproj.gguf": 3 * MIB}
WHERE = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]  # file and piece of it, by piece of the whole
HTTP, SWARM = PieceSource(SourceKind.HTTP), PieceSource(SourceKind.SWARM)


@pytest.fixture(scope="module")
def contents() -> list[bytes]:
    return [content(length, name) for name, length in LENGTHS.items()]


def wanted() -> list[Wanted]:
    return [Wanted(name, length, path=f"x/{name}") for name, length in LENGTHS.items()]


def piece(contents: list[bytes], index: int) -> memoryview:
    file, local = WHERE[index]
    return memoryview(contents[file])[local * PIECE : (local + 1) * PIECE]


@pytest.mark.parametrize("streaming", [True, False])
async def test_each_piece_gets_into_its_file_and_each_file_has_its_own_digests(
    streaming: bool, contents: list[bytes], tmp_path: Path
) -> None:
    with await IncomingModel.open(tmp_path, wanted(), streaming=streaming) as model:
        for index in (4, 0, 3, 1, 2):
            assert not model.has(index)
            await model.write_piece(index, piece(contents, index), HTTP)
            assert model.has(index)
        assert (model.missing, model.done_bytes, model.length) == ([], sum(LENGTHS.values()), sum(LENGTHS.values()))
        told: list[int] = []
        arrived = await model.finish(told.append)
    assert [each.path.read_bytes() for each in arrived] == contents
    assert [each.digests.sha256 for each in arrived] == [hashlib.sha256(each).digest() for each in contents]
    assert [each.hf_path for each in arrived] == [f"x/{name}" for name in LENGTHS]
    assert [each.padded for each in arrived] == [padded_sha1(piece(contents, index)) for index in (1, 3, 4)]
    assert [each.padded for each in arrived][1] == hashlib.sha1(contents[1][PIECE:] + bytes(PIECE - 5)).digest()
    assert told == sorted(told) and (streaming or told[-1] == model.length)


async def test_a_restart_goes_on_with_every_file_where_it_was(contents: list[bytes], tmp_path: Path) -> None:
    with await IncomingModel.open(tmp_path, wanted()) as model:
        for index in (1, 2, 4):
            await model.write_piece(index, piece(contents, index), HTTP if index < 4 else SWARM)
    with await IncomingModel.open(tmp_path, wanted()) as model:
        assert (model.missing, model.have) == ([0, 3], {1, 2, 4})
        assert dict(model.hashed())[2].sha1 == hashlib.sha1(piece(contents, 2)).digest()
        assert model.sources() == {"http": 2 * PIECE, "torrent": 3 * MIB}
    assert sorted(path.name for path in (tmp_path / JOURNALS).iterdir()) == ["0", "1", "2"]


async def test_what_peers_brought_of_a_wrong_file_is_forgotten_and_nothing_else(
    contents: list[bytes], tmp_path: Path
) -> None:
    names = list(LENGTHS)
    with await IncomingModel.open(tmp_path, wanted()) as model:
        for index, source in enumerate((HTTP, SWARM, SWARM, HTTP, SWARM)):
            await model.write_piece(index, piece(contents, index), source)
        assert model.forget([names[1]], only_swarm=True)
    with await IncomingModel.open(tmp_path, wanted()) as model:
        assert model.missing == [2]
        assert not model.forget([names[1]], only_swarm=True)
        assert model.forget([names[1]], only_swarm=False)
    with await IncomingModel.open(tmp_path, wanted()) as model:
        assert model.missing == [2, 3]


async def test_pieces_of_a_torrent_are_mapped_to_the_files_too(contents: list[bytes], tmp_path: Path) -> None:
    """Of 1 MiB: 32 of the first file, 17 of the second, 3 of the third."""
    with await IncomingModel.open(tmp_path, wanted(), torrent_piece=MIB, tag="t") as model:
        assert [model.torrent_pieces_in(i) for i in range(5)] == [
            range(16),
            range(16, 32),
            range(32, 48),
            range(48, 49),
            range(49, 52),
        ]
        assert [model.piece_of(i) for i in (0, 15, 16, 31, 32, 48, 49, 51)] == [0, 0, 1, 1, 2, 3, 4, 4]
        assert [model.torrent_piece_size(i) for i in (31, 48, 51)] == [MIB, 5, MIB]
        for name, data in zip(LENGTHS, contents, strict=True):
            (tmp_path / name).write_bytes(data)
        for index in (49, 51, 48):
            model.record_torrent_piece(index, SWARM)
        assert model.completed_by(48) == [3] and model.completed_by(51) == []
        model.record_torrent_piece(50, SWARM)
        assert model.completed_by(50) == [4] and model.pieces_around(50) == [4]
        assert model.torrent_pieces == {48, 49, 50, 51}
        assert model.has_torrent_piece(48) and not model.has_torrent_piece(0)
        assert model.done_bytes == 5 + 3 * MIB
    with await IncomingModel.open(tmp_path, wanted(), torrent_piece=MIB, tag="t") as model:
        assert model.unhashed == [3, 4]


async def test_the_disk_must_have_room_for_all_files_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them alone would fit."""
    usage = type("Usage", (), {"free": 64 * MIB + 2 * PIECE + 5 * MIB})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(NoSpace):
        await IncomingModel.open(tmp_path, wanted())
    usage.free = 64 * MIB + sum(LENGTHS.values())
    with await IncomingModel.open(tmp_path, wanted()) as model:
        assert model.missing == [0, 1, 2, 3, 4]


async def test_no_file_of_a_model_takes_the_name_of_one_of_ours(tmp_path: Path) -> None:
    for name in (JOURNALS, "placing.json"):
        with pytest.raises(Refused):
            await IncomingModel.open(tmp_path, [Wanted("a.gguf", 5), Wanted(name, 5)])

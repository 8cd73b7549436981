"""16 MiB from a web seed against the hashes of torrents of every kind, made by libtorrent."""

from __future__ import annotations

from pathlib import Path

import libtorrent as lt
import pytest

from hali.model.units import KIB, MIB, PIECE
from hali.transfer.metainfo import of_info, parse
from hali.transfer.piece_check import PieceCheck
from tests.fakes.bundles import torrent_by_libtorrent, write
from tests.fakes.torrents import KINDS, info_of, make


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", [64 * KIB, MIB, PIECE])
@pytest.mark.parametrize("length", [20_000, 100_000, PIECE, 2 * PIECE + 3 * MIB + 5])
def test_right_units_pass_and_one_flipped_bit_fails(tmp_path: Path, kind: str, piece: int, length: int) -> None:
    sample = make(tmp_path, length, piece, KINDS[kind])
    check = PieceCheck(sample.metainfo)
    assert PieceCheck.fits(sample.metainfo) and check.can_tell
    for unit in range(-(-length // PIECE)):
        data = bytearray(sample.content[unit * PIECE : (unit + 1) * PIECE])
        assert check.is_right(unit, data)
        for at in (0, len(data) // 2, len(data) - 1):
            data[at] ^= 1
            assert not check.is_right(unit, data)
            data[at] ^= 1
        assert not check.is_right(unit + 1, data)


def test_a_v2_torrent_without_its_layers_cannot_tell(tmp_path: Path) -> None:
    sample = make(tmp_path, 3 * MIB, MIB, lt.create_torrent.v2_only)
    bare = parse(of_info(bytes(lt.bencode(info_of(sample.metainfo.raw)))))
    assert not PieceCheck(bare).can_tell


def test_pieces_that_do_not_divide_16_mib_do_not_fit(tmp_path: Path) -> None:
    assert not PieceCheck.fits(make(tmp_path, 100_000, 2 * PIECE).metainfo)


@pytest.mark.parametrize("flags", [lt.create_torrent.canonical_files_no_tail_padding, 0, lt.create_torrent.v2_only])
@pytest.mark.parametrize("piece", [MIB, PIECE])
def test_the_last_unit_of_each_file_is_judged_without_the_padding_behind_it(
    tmp_path: Path, flags: int, piece: int
) -> None:
    folder = write(tmp_path / "m", {"a": PIECE + 5, "b": 3 * MIB, "c": 20_000})
    metainfo = parse(bytes(lt.bencode(torrent_by_libtorrent(folder, piece, flags))))
    check = PieceCheck(metainfo)
    assert PieceCheck.fits(metainfo) and check.can_tell
    data = [(folder / name).read_bytes() for name in "abc"]
    units = [data[0][:PIECE], data[0][PIECE:], data[1], data[2]]
    for index, unit in enumerate(units):
        assert check.is_right(index, unit)
        assert not check.is_right(index, bytes([unit[0] ^ 1]) + unit[1:])
        assert not any(check.is_right(other, unit) for other in range(5) if other != index)

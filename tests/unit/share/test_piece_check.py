"""16 MiB from a web seed against the hashes of torrents of every kind, made by libtorrent."""

from __future__ import annotations

from pathlib import Path

import libtorrent as lt
import pytest

from hali.model.units import KIB, MIB, PIECE
from hali.share.piece_check import PieceCheck
from hali.transfer.metainfo import of_info, parse
from tests.fakes.torrents import info_of, make

KINDS = {"v1": lt.create_torrent.v1_only, "hybrid": 0, "v2": lt.create_torrent.v2_only}


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

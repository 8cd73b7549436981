"""The proof that 16 KiB are the beginning of a file, and the piece layer's way up to the root, against hali's own hasher."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from hali.hashing import hash_file
from hali.model.units import BLOCK, PIECE
from hali.registry.head import Head, layers_agree, proves, read
from hali.transfer import metainfo
from hali.transfer.metainfo import Metainfo

SIZES = [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 1000 * BLOCK + 5, PIECE, PIECE + 1, 2 * PIECE + 7, 4 * PIECE + 1]


def made(path: Path, size: int) -> tuple[Head, Metainfo]:
    path.write_bytes(random.Random(size).randbytes(min(size, 4 * BLOCK)))
    with path.open("r+b") as file:
        file.truncate(size)
    return read(path), metainfo.parse(metainfo.build(hash_file(path), path.name))


@pytest.mark.parametrize("size", SIZES)
def test_the_first_block_of_a_file_is_proven_by_its_torrent(size: int, tmp_path: Path) -> None:
    head, torrent = made(tmp_path / "file.bin", size)
    assert head.block == (tmp_path / "file.bin").read_bytes()[:BLOCK]
    assert proves(head, torrent)
    assert layers_agree(torrent)


@pytest.mark.parametrize("size", SIZES)
def test_another_block_or_proof_proves_nothing(size: int, tmp_path: Path) -> None:
    head, torrent = made(tmp_path / "file.bin", size)
    flipped = bytes([head.block[0] ^ 1]) + head.block[1:]
    assert not proves(Head(flipped, head.proof), torrent)
    assert not proves(Head(head.block + b"x", head.proof), torrent)
    assert not proves(Head(head.block, [*head.proof, bytes(32)]), torrent)
    for position in range(len(head.proof)):
        proof = list(head.proof)
        proof[position] = bytes(32) if proof[position] != bytes(32) else b"x" * 32
        assert not proves(Head(head.block, proof), torrent)


def test_a_piece_layer_with_a_false_piece_or_count_does_not_agree(tmp_path: Path) -> None:
    _, torrent = made(tmp_path / "file.bin", 2 * PIECE + 7)
    layer = torrent.v2_layer
    for forged in (
        layer[:-1] + bytes([layer[-1] ^ 1]),
        layer[32:],
        layer + bytes(32),
        b"",
        layer[32:64] + layer[:32] + layer[64:],
    ):
        file = msgspec.structs.replace(torrent.files[0], layer=forged)
        assert not layers_agree(msgspec.structs.replace(torrent, files=(file,)))
    assert not layers_agree(msgspec.structs.replace(torrent, sha1_pieces=torrent.sha1_pieces[20:]))
    assert not layers_agree(
        msgspec.structs.replace(torrent, files=(msgspec.structs.replace(torrent.files[0], root=None),))
    )

"""Leaves of a piece are believed only as they lead to the file's root."""

from __future__ import annotations

from pathlib import Path

import libtorrent as lt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hali.model.units import BLOCK, KIB, piece_count
from hali.wire import bittorrent, merkle
from hali.wire.merkle import HashRequest
from tests.fakes.torrents import make

PIECE = 64 * KIB
PER_PIECE = PIECE // BLOCK


def tree_of(content: bytes) -> list[list[bytes]]:
    """All layers, the leaves first."""
    leaves = [merkle.leaf(content[at : at + BLOCK]) for at in range(0, len(content), BLOCK)]
    width = 1 << (len(leaves) - 1).bit_length()
    layers = [leaves + [bytes(32)] * (width - len(leaves))]
    while len(layers[-1]) > 1:
        last = layers[-1]
        layers.append([merkle.leaf(last[i] + last[i + 1]) for i in range(0, len(last), 2)])
    return layers


def answer(layers: list[list[bytes]], asked: HashRequest) -> list[bytes]:
    """What an honest peer answers."""
    height = asked.count.bit_length() - 1
    uncles = [layer[(asked.index >> level) ^ 1] for level, layer in enumerate(layers[:-1]) if level >= height]
    return layers[0][asked.index : asked.index + asked.count] + uncles


@given(length=st.integers(1, 20 * BLOCK), data=st.data())
@settings(max_examples=60, deadline=None)
def test_true_leaves_are_proven_and_a_changed_one_is_not(length: int, data: st.DataObject) -> None:
    content = bytes(i * 7 % 251 for i in range(length))
    layers = tree_of(content)
    piece = data.draw(st.integers(0, piece_count(length, PIECE) - 1))
    asked = merkle.leaves_wanted(layers[-1][0], length, PIECE, piece)
    hashes = answer(layers, asked)
    leaves = merkle.proven(asked, length, hashes)
    assert leaves is not None
    for number, leaf in enumerate(leaves):
        begin = piece * PIECE + number * BLOCK
        assert leaf == (merkle.leaf(content[begin : begin + BLOCK]) if begin < length else bytes(32))
    wrong = data.draw(st.integers(0, len(hashes) - 1))
    assert merkle.proven(asked, length, [*hashes[:wrong], b"x" * 32, *hashes[wrong + 1 :]]) is None
    assert merkle.proven(asked, length, hashes[:-1]) is None
    assert merkle.proven(asked, length, [*hashes, bytes(32)]) is None


def test_the_tree_is_that_of_libtorrent(tmp_path: Path) -> None:
    sample = make(tmp_path, 5 * PIECE + 3, PIECE, lt.create_torrent.v2_only)
    assert tree_of(sample.content)[-1] == [sample.metainfo.v2_root]


@pytest.mark.parametrize("body", [bytes(7), bytes(9 + BLOCK)])
def test_what_is_no_block_is_refused(body: bytes) -> None:
    with pytest.raises(bittorrent.ProtocolError):
        bittorrent.block_of(body)


def test_a_message_without_end_is_refused() -> None:
    with pytest.raises(bittorrent.ProtocolError):
        bittorrent.length_of(b"\xff\xff\xff\xff")


def test_a_bitfield_tells_who_has_a_piece() -> None:
    assert [bittorrent.has(b"\x41", piece) for piece in (0, 1, 7, 8)] == [False, True, True, False]


def test_hashes_that_answer_another_request_are_none() -> None:
    asked = HashRequest(b"r" * 32, index=4, count=4, proofs=2)
    other = HashRequest(b"r" * 32, index=0, count=4, proofs=2)
    assert bittorrent.hashes_of(asked.encode() + bytes(64), asked) == [bytes(32)] * 2
    assert bittorrent.hashes_of(other.encode() + bytes(64), asked) is None
    assert bittorrent.hashes_of(asked.encode() + bytes(63), asked) is None

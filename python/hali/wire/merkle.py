"""BEP 52's tree over the 16 KiB blocks of a file: where a piece's leaves lie in it, and whether they are proven. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hali.model.units import BLOCK, piece_count
from hali.wire.bittorrent import HashRequest


def leaves_wanted(root: bytes, length: int, piece_length: int, piece: int) -> HashRequest:
    """What to ask for to know the leaves of a file's piece, proven up to the file's root."""
    width = _width(piece_count(length, BLOCK))
    count = min(width, piece_length // BLOCK)
    # The last layer below the root: with it all uncles come that are not computed from the leaves themselves.
    return HashRequest(root, index=piece * (piece_length // BLOCK), count=count, proofs=max(0, _height(width) - 1))


def proven(asked: HashRequest, length: int, hashes: Sequence[bytes]) -> list[bytes] | None:
    """The leaves, if the uncles behind them lead to the root of a file of `length` bytes; else None."""
    width = _width(piece_count(length, BLOCK))
    if len(hashes) != asked.count + _height(width) - _height(asked.count):
        return None
    leaves, uncles = list(hashes[: asked.count]), hashes[asked.count :]
    node, place = _top(leaves), asked.index // asked.count
    for uncle in uncles:
        node = _parent(uncle, node) if place % 2 else _parent(node, uncle)
        place //= 2
    return leaves if node == asked.root else None


def leaf(block: bytes) -> bytes:
    """Of a block, as long as the file has it."""
    return hashlib.sha256(block).digest()


def _top(layer: Sequence[bytes]) -> bytes:
    while len(layer) > 1:
        layer = [_parent(layer[i], layer[i + 1]) for i in range(0, len(layer), 2)]
    return layer[0]


def _parent(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(left + right).digest()


def _width(blocks: int) -> int:
    return 1 << (blocks - 1).bit_length()


def _height(width: int) -> int:
    return width.bit_length() - 1

"""Proof that 16 KiB are the first block of a file, by the file's BEP 52 merkle root: so a registry reads a header without the file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from hali.model.units import BLOCK, PIECE
from hali.transfer.metainfo import Metainfo

LEAVES = PIECE // BLOCK
_PROOF = Annotated[
    list[Annotated[bytes, Meta(min_length=32, max_length=32)]], Meta(max_length=10)
]  # 2**10 leaves a piece


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The block, and the hashes beside its path up to the first piece's root, or to the file's when it is smaller."""

    block: Annotated[bytes, Meta(min_length=1, max_length=BLOCK)]
    proof: _PROOF


def read(path: Path) -> Head:
    """The head of a file. Reads its first 16 MiB; call in a thread."""
    with path.open("rb") as file:
        piece = file.read(PIECE)
        whole = not file.read(1)
    layer = [hashlib.sha256(piece[at : at + BLOCK]).digest() for at in range(0, len(piece), BLOCK)]
    # BEP 52: a file of one piece is padded to the next power of two of blocks only, a larger one to whole pieces.
    width = 1 << (len(layer) - 1).bit_length() if whole else LEAVES
    layer += [bytes(32)] * (width - len(layer))
    proof = []
    while len(layer) > 1:
        proof.append(layer[1])
        layer = [_parent(layer[i], layer[i + 1]) for i in range(0, len(layer), 2)]
    return Head(piece[:BLOCK], proof)


def proves(head: Head, torrent: Metainfo) -> bool:
    """True if `head.block` is the first block of the torrent's only file."""
    if torrent.v2_root is None or torrent.piece_length != PIECE or len(head.block) != min(BLOCK, torrent.length):
        return False
    blocks = LEAVES if torrent.length > PIECE else -(-torrent.length // BLOCK)
    if len(head.proof) != (blocks - 1).bit_length():
        return False
    node = hashlib.sha256(head.block).digest()
    for beside in head.proof:
        node = _parent(node, beside)
    return node == (torrent.v2_layer[:32] if torrent.length > PIECE else torrent.v2_root)


def layers_agree(torrent: Metainfo) -> bool:
    """True if the v2 piece layer hashes up to the file's root (BEP 52) and v1 has as many pieces."""
    if torrent.v2_root is None or len(torrent.sha1_pieces) != 20 * torrent.pieces:
        return False
    if torrent.length <= torrent.piece_length:
        return not torrent.v2_layer
    if len(torrent.v2_layer) != 32 * torrent.pieces:
        return False
    layer = [torrent.v2_layer[at : at + 32] for at in range(0, len(torrent.v2_layer), 32)]
    empty = _empty_piece(torrent.piece_length)
    while len(layer) > 1:
        if len(layer) % 2:
            layer.append(empty)
        layer = [_parent(layer[i], layer[i + 1]) for i in range(0, len(layer), 2)]
        empty = _parent(empty, empty)
    return layer[0] == torrent.v2_root


def _empty_piece(piece_length: int) -> bytes:
    """The root of a piece that holds no block: BEP 52 pads with zero hashes, not with hashes of zeros."""
    node = bytes(32)
    for _ in range((piece_length // BLOCK).bit_length() - 1):
        node = _parent(node, node)
    return node


def _parent(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(left + right).digest()

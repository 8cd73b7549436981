"""Whether 16 MiB that came by HTTP are what a torrent says, before they are given to anybody."""

from __future__ import annotations

import hashlib

from hali.model.units import BLOCK, PIECE
from hali.transfer.metainfo import Metainfo

_NOTHING = bytes(32)  # BEP 52: the leaf of a block behind the end of the file


class PieceCheck:
    """The hashes of one torrent whose pieces divide 16 MiB."""

    def __init__(self, metainfo: Metainfo) -> None:
        self._metainfo = metainfo
        root = metainfo.v2_root if metainfo.length <= metainfo.piece_length else None
        self._layer = metainfo.v2_layer or root or b""

    @staticmethod
    def fits(metainfo: Metainfo) -> bool:
        """Whether units of 16 MiB hold whole pieces of this torrent."""
        return PIECE % metainfo.piece_length == 0

    @property
    def can_tell(self) -> bool:
        """False for a v2 torrent whose piece layers are not known (yet)."""
        return bool(self._metainfo.sha1_pieces or self._layer)

    def is_right(self, unit: int, data: bytes | memoryview) -> bool:
        """Whether `data` is the 16 MiB unit of that index (the last may be shorter), by v1 hashes or else by v2's."""
        view, size = memoryview(data), self._metainfo.piece_length
        first = unit * (PIECE // size)
        return all(self._is_piece(first + i, view[at : at + size]) for i, at in enumerate(range(0, len(view), size)))

    def _is_piece(self, index: int, data: memoryview) -> bool:
        if hashes := self._metainfo.sha1_pieces:
            return hashes[20 * index : 20 * index + 20] == hashlib.sha1(data).digest()
        alone = self._metainfo.length <= self._metainfo.piece_length
        return self._layer[32 * index : 32 * index + 32] == self._node(data, alone)

    def _node(self, data: memoryview, alone: bool) -> bytes:
        """The node of the piece layer (BEP 52); of a file of one piece, its root: padded to a power of two of blocks only."""
        level = [hashlib.sha256(data[at : at + BLOCK]).digest() for at in range(0, len(data), BLOCK)]
        blocks = self._metainfo.piece_length // BLOCK if not alone else 1 << (len(level) - 1).bit_length()
        level += [_NOTHING] * (blocks - len(level))
        while len(level) > 1:
            level = [hashlib.sha256(level[i] + level[i + 1]).digest() for i in range(0, len(level), 2)]
        return level[0]

"""Whether bytes from elsewhere, by HTTP or off the disk, are what a torrent says, before they are given to anybody."""

from __future__ import annotations

import hashlib

from hali.model.piecemap import PieceMap
from hali.model.units import BLOCK, PIECE
from hali.transfer.metainfo import Metainfo
from hali.transfer.torrent_files import TorrentFile

_NOTHING = bytes(32)  # BEP 52: the leaf of a block behind the end of the file


class PieceCheck:
    """The hashes of one torrent."""

    def __init__(self, metainfo: Metainfo) -> None:
        self._metainfo = metainfo
        self._units, self._pieces = PieceMap([file.length for file in metainfo.files]), metainfo.map
        self._layers = [_layer(file, metainfo.piece_length) for file in metainfo.files]

    @staticmethod
    def fits(metainfo: Metainfo) -> bool:
        """Whether units of 16 MiB hold whole pieces of this torrent."""
        return PIECE % metainfo.piece_length == 0 and metainfo.is_aligned

    @property
    def can_tell(self) -> bool:
        """False for a v2 torrent whose piece layers are not known (yet)."""
        return bool(self._metainfo.sha1_pieces) or all(self._layers)

    def is_right(self, unit: int, data: bytes | memoryview) -> bool:
        """Whether `data` is the 16 MiB unit of that index (the last of a file may be shorter), by v1 hashes or else by v2's."""
        view, size = memoryview(data), self._metainfo.piece_length
        if unit >= self._units.count or len(view) != self._units.size(unit):
            return False
        file, local = self._units.locate(unit)
        first = local * (PIECE // size)
        return all(
            self.is_piece(file, first + i, view[at : at + size]) for i, at in enumerate(range(0, len(view), size))
        )

    def is_piece(self, file: int, local: int, data: bytes | memoryview) -> bool:
        """Whether `data` is the piece `local` of a file, counted within it."""
        if hashes := self._metainfo.sha1_pieces:
            index = self._pieces.index(file, local)
            digest = hashlib.sha1(data)
            digest.update(bytes(self._pieces.padding(index)))
            return hashes[20 * index : 20 * index + 20] == digest.digest()
        alone = self._metainfo.files[file].length <= self._metainfo.piece_length
        return self._layers[file][32 * local : 32 * local + 32] == self._node(data, alone)

    def _node(self, data: bytes | memoryview, alone: bool) -> bytes:
        """The node of the piece layer (BEP 52); of a file of one piece, its root: padded to a power of two of blocks only."""
        level = [hashlib.sha256(data[at : at + BLOCK]).digest() for at in range(0, len(data), BLOCK)]
        blocks = self._metainfo.piece_length // BLOCK if not alone else 1 << (len(level) - 1).bit_length()
        level += [_NOTHING] * (blocks - len(level))
        while len(level) > 1:
            level = [hashlib.sha256(level[i] + level[i + 1]).digest() for i in range(0, len(level), 2)]
        return level[0]


def _layer(file: TorrentFile, piece_length: int) -> bytes:
    """A file of one piece has its root only."""
    return file.layer or (file.root if file.length <= piece_length else None) or b""

"""Pieces of several files in a row, each file on a piece border (BEP 47, BEP 52): no piece has bytes of two files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from hali.model.units import PIECE, piece_count, piece_span


class PieceMap:
    """Which piece of the whole is which piece of which file. An empty file has no piece."""

    __slots__ = ("_first", "_tail", "lengths", "piece")

    def __init__(self, lengths: Sequence[int], piece: int = PIECE, *, tail: int = 0) -> None:
        self.lengths, self.piece = tuple(lengths), piece
        self._tail = tail
        self._first = [0, *accumulate(piece_count(length, piece) for length in self.lengths)]

    @property
    def count(self) -> int:
        """Pieces of all files."""
        return self._first[-1]

    def locate(self, index: int) -> tuple[int, int]:
        """(file, piece of that file) of a piece of the whole; ValueError outside."""
        if not 0 <= index < self.count:
            raise ValueError(f"piece {index} of {self.count}")
        file = bisect_right(self._first, index) - 1
        return file, index - self._first[file]

    def index(self, file: int, local: int) -> int:
        """The piece of the whole that is piece `local` of `file`."""
        return self._first[file] + local

    def pieces_of(self, file: int) -> range:
        """The pieces of one file."""
        return range(self._first[file], self._first[file + 1])

    def size(self, index: int) -> int:
        """Bytes of the file in a piece."""
        file, local = self.locate(index)
        return piece_span(local, self.lengths[file], self.piece)[1]

    def padding(self, index: int) -> int:
        """Zeros that BEP 47 has between this piece's bytes and the next file; behind the last one there are `tail`."""
        return self._tail if index == self.count - 1 else self.piece - self.size(index)

"""The rows of one llama_decode. Worker only."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

from llama_cpp import llama_cpp as low

from hali.engine.schedule import Slice


class Batch:
    """A llama_batch over arrays of ours, filled anew for each decode; nothing is allocated per call."""

    def __init__(self, rows: int) -> None:
        self._token = (low.llama_token * rows)()
        self._pos = (low.llama_pos * rows)()
        self._n_seq = (ctypes.c_int32 * rows)(*[1] * rows)
        self._seq = (low.llama_seq_id * rows)()
        width = ctypes.sizeof(low.llama_seq_id)
        first = ctypes.addressof(self._seq)
        pointer = ctypes.POINTER(low.llama_seq_id)
        self._seq_at = (pointer * rows)(*(ctypes.cast(first + width * row, pointer) for row in range(rows)))
        self._logits = (ctypes.c_int8 * rows)()
        self.native = low.llama_batch(0, self._token, None, self._pos, self._n_seq, self._seq_at, self._logits)
        self.row_of_last: dict[int, int] = {}

    def fill(
        self, slices: Sequence[Slice], tokens: Callable[[int], Sequence[int]], start: Callable[[int], int]
    ) -> None:
        """Put the rows of `slices` one after the other; the last pending row of each and all ahead of it ask for logits."""
        at = 0
        self.row_of_last = {}
        ctypes.memset(self._logits, 0, len(self._logits))
        for part in slices:
            begin, end = start(part.key), at + part.rows
            self._token[at:end] = [*tokens(part.key)[begin : begin + part.count], *part.ahead]
            self._pos[at:end] = list(range(begin, begin + part.rows))
            self._seq[at:end] = [part.key] * part.rows
            self.row_of_last[part.key] = at + part.count - 1
            self._logits[at + part.count - 1 : end] = [1] * (1 + len(part.ahead))
            at = end
        self.native.n_tokens = at

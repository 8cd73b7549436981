"""Prefixes shared between requests: the KV cells of past texts, kept in memory outside the KV cache. Worker only.

Outside, because cells that nobody reads still cost every decode: attention runs over all cells up to the last used one
(4,096 idle ones made SmolLM2 four times slower).
And because a session that is alone shall lie in the cache as in a new one, whatever was computed before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from llama_cpp import llama_cpp as low

from hali.engine.prefix import PrefixTree, reusable

MOST_BYTES = 1 << 30  # for large models; else as many tokens as the KV cache has cells


class Retained:
    """Takes cells out of sequences and puts them into others. `scratch` is a sequence id that no session uses."""

    def __init__(self, ctx: Any, *, n_kv: int, n_batch: int, scratch: int) -> None:
        self._ctx, self._memory = ctx, low.llama_get_memory(ctx)
        self._n_kv, self._n_batch, self._scratch = n_kv, n_batch, scratch
        self.tree = PrefixTree(0)
        self.hits = self.hit_tokens = 0

    def reusable(self, tokens: Sequence[int]) -> int:
        """How many of `tokens` need not be computed where they are at hand."""
        return reusable(len(tokens), self._n_batch)

    def kept(self, tokens: Sequence[int]) -> int:
        """How many of the first `tokens` are at hand."""
        return sum(count for _, count in self.tree.match(tokens, self.reusable(tokens)))

    def attach(self, key: int, tokens: Sequence[int], length: int) -> int:
        """Give the empty sequence `key` the kept cells of the first `length` of `tokens`; 0 if there is no room for them."""
        done = 0
        for state, count in self.tree.match(tokens, length):
            if not self._put(key, state, done, count):
                low.llama_memory_seq_rm(self._memory, key, -1, -1)
                return 0
            done += count
        self._count(done)
        return done

    def share(self, source: int, key: int, length: int) -> None:
        """Give the empty sequence `key` the first `length` cells of `source`, which keeps them too."""
        low.llama_memory_seq_cp(self._memory, source, key, 0, length)
        self._count(length)

    def _count(self, length: int) -> None:
        self.hits += length > 0
        self.hit_tokens += length

    def keep(self, key: int, tokens: Sequence[int]) -> None:
        """Keep the cells of `tokens`, all computed in sequence `key`."""
        self.tree.keep(tokens, lambda start, end: self._take(key, start, end))

    def _take(self, key: int, start: int, end: int) -> bytearray:
        """The state of one block of a sequence; empty if llama.cpp gives none."""
        low.llama_memory_seq_cp(self._memory, key, self._scratch, start, end)
        try:
            state = bytearray(low.llama_state_seq_get_size(self._ctx, self._scratch))
        except MemoryError:  # at the worker's limit: what is kept is the first thing to do without
            state = bytearray()
        written = low.llama_state_seq_get_data(self._ctx, _array(state), len(state), self._scratch) if state else 0
        low.llama_memory_seq_rm(self._memory, self._scratch, -1, -1)
        if not written or written != len(state):
            return bytearray()
        self.tree.budget = self.tree.budget or min(MOST_BYTES, self._n_kv * written // (end - start))
        return state

    def _put(self, key: int, state: bytearray, start: int, count: int) -> bool:
        """Append the first `count` tokens of a block that began at `start`."""
        read = low.llama_state_seq_set_data(self._ctx, _array(state), len(state), self._scratch)
        if read == len(state):
            low.llama_memory_seq_cp(self._memory, self._scratch, key, start, start + count)
        low.llama_memory_seq_rm(self._memory, self._scratch, -1, -1)
        return bool(read == len(state))


def _array(state: bytearray) -> Any:
    return (ctypes.c_uint8 * len(state)).from_buffer(state)

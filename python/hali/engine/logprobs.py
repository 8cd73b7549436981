"""Probabilities of tokens, told to clients. Worker only (numpy)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hali.model.errors import UsageError
from hali.model.generation import Candidate, TokenLogprob

MAX_TOP = 20  # OpenAI's own limit
FLOOR = -9999.0  # OpenAI's value for "very unlikely": JSON has no -inf
_BLOCK = 64  # tokens; see _likeliest


def check_top(count: int | None) -> None:
    """UsageError for a number of alternatives that is not told."""
    if count is not None and not 0 <= count <= MAX_TOP:
        raise UsageError(f"logprobs tells 0 to {MAX_TOP} alternatives, not {count}", code="logprobs")


def told(logits: Any, token: int, top: int, temperature: float, piece: Callable[[int], bytes]) -> TokenLogprob:
    """The chosen token and the `top` likeliest, by softmax of `logits` (f32[n_vocab]) over the temperature.

    At temperature 0, where all of it would lie on one token, the model's own probabilities are told.
    """
    scaled = logits if temperature in (0, 1) else logits * np.float32(1 / temperature)
    peak = scaled.max()
    norm = float(peak) + float(np.log(np.exp(scaled - peak).sum(dtype=np.float64)))

    def candidate(which: int) -> Candidate:
        return Candidate(which, piece(which), max(float(scaled[which]) - norm, FLOOR))

    return TokenLogprob(candidate(token), tuple(candidate(which) for which in _likeliest(scaled, top)))


def _likeliest(scores: Any, count: int) -> Sequence[int]:
    """Indices of the `count` largest, largest first, the lower index first among equals.

    Each of them is in one of the `count` blocks with the largest maxima: two small partitions instead of a large one.
    """
    if count == 0:
        return []
    whole = len(scores) // _BLOCK
    if whole <= count:
        near = np.arange(len(scores))
    else:
        peaks = scores[: whole * _BLOCK].reshape(whole, _BLOCK).max(axis=1)
        least = np.partition(peaks, whole - count)[whole - count]
        near = np.flatnonzero(scores >= least)
    order = np.lexsort((near, -scores[near]))[:count]
    return [int(which) for which in near[order]]

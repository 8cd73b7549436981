"""A token by temperature, top_k, top_p and min_p alone, as most requests want it. Worker only, but pure.

The same tokens with the same probabilities as llama.cpp's samplers of these names, in their order. Those first copy the whole
vocabulary into a list of their own: a draw from 49,152 tokens takes them 0.1 to 0.5 ms, and this 0.02 to 0.1.
"""

from __future__ import annotations

import math
import secrets
from typing import Any, NamedTuple

import numpy as np

from hali.model.generation import SamplingParams

_BLOCK = 64  # tokens whose weights are added up before one of them is looked for
_REACH = 8.0  # logits below the best: in most rows the 40 likeliest tokens are within
_WIDER = 1.5
_MANY = 16  # times as many candidates as were wanted: a smaller reach will do
_FAR = 1e6  # beyond it, everything is looked at
_NEUTRAL = SamplingParams()
_OTHERS = (
    "repeat_penalty", "presence_penalty", "frequency_penalty", "typical_p", "xtc_probability", "dynatemp_range", "mirostat",
    "dry_multiplier",
)  # fmt: skip


class Kept(NamedTuple):
    """What may come: positions in the row (None: all of it), and how likely each is, in units that do not matter."""

    tokens: Any
    weights: Any


class Draw:
    """One request's draws; they depend on nothing but the logits and the seed."""

    @staticmethod
    def covers(params: SamplingParams) -> bool:
        """Whether nothing else is asked for; temperature 0, which draws nothing, is not covered."""
        others = all(getattr(params, name) == getattr(_NEUTRAL, name) for name in _OTHERS)
        return others and params.temperature > 0 and params.top_n_sigma <= 0

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        seed = secrets.randbits(64) if params.seed is None else params.seed % (1 << 32)
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._reach = _REACH

    def choose(self, logits: Any) -> int:
        """A position in f32[n] `logits`, of which the largest is finite."""
        tokens, weights = self.kept(logits)
        chosen = self._pick(weights)
        return chosen if tokens is None else int(tokens[chosen])

    def kept(self, logits: Any) -> Kept:
        """What the cuts leave, with the temperature."""
        params, peak = self._params, logits.max()
        heat = np.float32(1 / params.temperature)
        if params.top_k <= 0 and params.top_p >= 1:
            if params.min_p <= 0:
                return Kept(None, np.exp((logits - peak) * heat))
            tokens = np.flatnonzero(logits >= peak + np.float32(math.log(params.min_p)))
            return Kept(tokens, np.exp((logits[tokens] - peak) * heat))
        tokens, total = self._likeliest(logits, peak)
        scores = logits[tokens] - peak
        weights = np.exp(scores, dtype=np.float64)
        if params.top_p < 1:
            total = weights.sum() if params.top_k > 0 else total
            kept = int(np.searchsorted(np.cumsum(weights), params.top_p * total)) + 1
            tokens, scores, weights = tokens[:kept], scores[:kept], weights[:kept]
        if params.min_p > 0:
            kept = max(1, int(np.count_nonzero(weights >= params.min_p)))
            tokens, scores = tokens[:kept], scores[:kept]
        return Kept(tokens, np.exp(scores * heat))

    def _likeliest(self, logits: Any, peak: Any) -> tuple[Any, float]:
        """The likeliest tokens, in that order: `top_k`, or at least as many as make up `top_p` of all; and the weight of all."""
        count, share = min(self._params.top_k, len(logits)), self._params.top_p
        total = 0.0 if count > 0 else float(np.exp(logits - peak).sum(dtype=np.float64))
        reach = self._reach
        while True:
            tokens = np.flatnonzero(logits >= peak - np.float32(reach))
            if count > 0:
                enough = len(tokens) >= count
            else:
                enough = float(np.exp(logits[tokens] - peak).sum(dtype=np.float64)) >= share * total
            if enough or not math.isfinite(reach):
                break
            reach = reach * _WIDER if reach < _FAR else math.inf
        self._reach = reach / _WIDER if len(tokens) > _MANY * max(count, _BLOCK) else min(reach, _FAR)
        order = tokens[np.argsort(-logits[tokens], kind="stable")]
        return order[:count] if count > 0 else order, total

    def _pick(self, weights: Any) -> int:
        """A position, each as likely as its weight."""
        if len(weights) <= _BLOCK * _BLOCK:
            return self._within(weights, self._random.random())
        blocks = np.add.reduceat(weights, np.arange(0, len(weights), _BLOCK))
        sums = np.cumsum(blocks, dtype=np.float64)
        wanted = self._random.random() * sums[-1]
        block = min(int(np.searchsorted(sums, wanted, side="right")), len(sums) - 1)
        begin = block * _BLOCK
        inside = (wanted - (sums[block] - blocks[block])) / blocks[block]
        return begin + self._within(weights[begin : begin + _BLOCK], min(max(float(inside), 0.0), 1.0))

    @staticmethod
    def _within(weights: Any, share: float) -> int:
        sums = np.cumsum(weights, dtype=np.float64)
        found = int(np.searchsorted(sums, share * sums[-1], side="right"))
        # All of it is asked for by rounding only: the last one that can come at all.
        return found if found < len(sums) else int(np.searchsorted(sums, sums[-1]))

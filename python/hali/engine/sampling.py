"""Sampler chains of llama.cpp, one a session. Worker only."""

from __future__ import annotations

import ctypes
import secrets
from typing import Any

from llama_cpp import llama_cpp as low

from hali.model.errors import UsageError
from hali.model.generation import SamplingParams

PENALTY_WINDOW = 64  # tokens looked back at; llama-cpp-python's last_n_tokens_size
_MIN_KEEP = 1


class Sampler:
    """One chain: logit_bias, penalties, then greedy, or top_k, top_p, min_p, temperature and a seeded draw.

    `alive` counts the chains not yet closed, in the whole process.
    """

    alive = 0

    def __init__(self, params: SamplingParams, n_vocab: int) -> None:
        check(params, n_vocab)
        self._chain: Any = low.llama_sampler_chain_init(low.llama_sampler_chain_default_params())
        Sampler.alive += 1
        self._add_bias(params.logit_bias, n_vocab)
        self._add(
            low.llama_sampler_init_penalties(
                n_vocab, PENALTY_WINDOW, params.repeat_penalty, params.frequency_penalty, params.presence_penalty
            )
        )
        if params.temperature == 0:
            self._add(low.llama_sampler_init_greedy())
        else:
            self._add_draw(params)

    def _add(self, sampler: Any) -> None:
        low.llama_sampler_chain_add(self._chain, sampler)  # the chain owns it from here on

    def _add_bias(self, bias: dict[int, float], n_vocab: int) -> None:
        if bias:
            entries = (low.llama_logit_bias * len(bias))(*(low.llama_logit_bias(t, b) for t, b in bias.items()))
            self._add(low.llama_sampler_init_logit_bias(n_vocab, len(bias), entries))

    def _add_draw(self, params: SamplingParams) -> None:
        self._add(low.llama_sampler_init_top_k(params.top_k))
        self._add(low.llama_sampler_init_top_p(params.top_p, _MIN_KEEP))
        self._add(low.llama_sampler_init_min_p(params.min_p, _MIN_KEEP))
        self._add(low.llama_sampler_init_temp(params.temperature))
        seed = secrets.randbits(32) if params.seed is None else params.seed % (1 << 32)
        self._add(low.llama_sampler_init_dist(seed))

    def sample(self, ctx: Any, row: int) -> int:
        """Draw from the logits of a batch row and remember the token for the penalties."""
        return int(low.llama_sampler_sample(self._chain, ctx, row))

    def close(self) -> None:
        """Free the chain; further calls do nothing."""
        if self._chain is not None:
            low.llama_sampler_free(ctypes.c_void_p(self._chain) if isinstance(self._chain, int) else self._chain)
            self._chain = None
            Sampler.alive -= 1


def check(params: SamplingParams, n_vocab: int) -> None:
    """UsageError for values that llama.cpp would take without a word, or die of."""
    wrong = [
        name
        for name, low_end, high_end in (
            ("temperature", 0.0, 100.0),
            ("top_p", 0.0, 1.0),
            ("min_p", 0.0, 1.0),
            ("repeat_penalty", 1e-3, 100.0),  # llama.cpp divides by it
            ("presence_penalty", -100.0, 100.0),
            ("frequency_penalty", -100.0, 100.0),
        )
        if not low_end <= getattr(params, name) <= high_end  # also catches NaN
    ]
    if not 0 <= params.top_k < 1 << 31:
        wrong.append("top_k")
    if params.max_tokens is not None and params.max_tokens < 0:
        wrong.append("max_tokens")
    if any(not 0 <= token < n_vocab or bias != bias for token, bias in params.logit_bias.items()):
        wrong.append("logit_bias")
    if wrong:
        raise UsageError(f"sampling parameter out of range: {', '.join(wrong)}", code="sampling")

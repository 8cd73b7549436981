"""llama.cpp's samplers in llama.cpp's default order, as one native chain. Worker only."""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from llama_cpp import llama_cpp as low

from hali.model.generation import SamplingParams

_MIN_KEEP = 1
_MIROSTAT_M = 100  # tokens that the estimate of mirostat 1 looks at; llama.cpp's own value


class Vocabulary(Protocol):
    """What is needed of a model."""

    vocab: Any  # llama.cpp's handle
    n_vocab: int
    n_ctx: int


def build(params: SamplingParams, model: Vocabulary, prompt: Sequence[int]) -> Any:
    """A new chain for checked `params`; free it with `free`. `prompt` is what DRY has seen already.

    Order of common/sampling.cpp: penalties, DRY, then greedy, or top_n_sigma, top_k, typical, top_p, min_p, XTC,
    temperature and a draw. Samplers that would change nothing are left out. `logit_bias`, which comes before all of
    them, is no part of it: where some tokens are left out, llama.cpp looks for each biased one among all others.
    """
    chain = low.llama_sampler_chain_init(low.llama_sampler_chain_default_params())
    for sampler in _samplers(params, model, prompt):
        low.llama_sampler_chain_add(chain, sampler)  # the chain owns it from here on
    return chain


def only_greedy(params: SamplingParams) -> bool:
    """Whether the likeliest token is taken, and nothing but `logit_bias` changes which one that is."""
    penalties = (params.repeat_penalty, params.frequency_penalty, params.presence_penalty)
    return params.temperature == 0 and penalties == (1, 0, 0) and params.dry_multiplier <= 0


def free(chain: Any) -> None:
    """Give back a chain with all its samplers."""
    low.llama_sampler_free(ctypes.c_void_p(chain) if isinstance(chain, int) else chain)


def _samplers(params: SamplingParams, model: Vocabulary, prompt: Sequence[int]) -> Iterator[Any]:
    yield low.llama_sampler_init_penalties(
        model.n_vocab,
        _window(params.repeat_last_n, model),
        params.repeat_penalty,
        params.frequency_penalty,
        params.presence_penalty,
    )
    if params.dry_multiplier > 0:
        yield _dry(params, model, prompt)
    if params.temperature == 0:
        yield low.llama_sampler_init_greedy()
        return
    seed = secrets.randbits(32) if params.seed is None else params.seed % (1 << 32)
    if params.mirostat:
        yield from _mirostat(params, model, seed)
    else:
        yield from _cuts(params, seed)
        yield low.llama_sampler_init_dist(seed)


def _window(tokens: int, model: Vocabulary) -> int:
    """How far a penalty looks back; llama.cpp allocates that much, and nothing lies further back than the context."""
    return model.n_ctx if tokens < 0 else min(tokens, model.n_ctx)


def _dry(params: SamplingParams, model: Vocabulary, prompt: Sequence[int]) -> Any:
    """DRY looks at the prompt too, as in llama.cpp's server; the other penalties do not, as in llama-cpp-python."""
    words = [text.encode() for text in params.dry_sequence_breakers]
    breakers = (ctypes.c_char_p * len(words))(*words)
    window = _window(params.dry_penalty_last_n, model)
    sampler = low.llama_sampler_init_dry(
        model.vocab,
        params.dry_multiplier,
        params.dry_base,
        params.dry_allowed_length,
        window,
        ctypes.cast(breakers, ctypes.POINTER(ctypes.c_char_p)),
        len(words),
    )
    for token in prompt[-window:] if window else ():
        low.llama_sampler_accept(sampler, token)
    return sampler


def _mirostat(params: SamplingParams, model: Vocabulary, seed: int) -> Iterator[Any]:
    yield low.llama_sampler_init_temp(params.temperature)
    tau, eta = params.mirostat_tau, params.mirostat_eta
    if params.mirostat == 1:
        yield low.llama_sampler_init_mirostat(model.n_vocab, seed, tau, eta, _MIROSTAT_M)
    else:
        yield low.llama_sampler_init_mirostat_v2(seed, tau, eta)


def _cuts(params: SamplingParams, seed: int) -> Iterator[Any]:
    if params.top_n_sigma > 0:
        yield low.llama_sampler_init_top_n_sigma(params.top_n_sigma)
    yield low.llama_sampler_init_top_k(params.top_k)
    if params.typical_p < 1:
        yield low.llama_sampler_init_typical(params.typical_p, _MIN_KEEP)
    yield low.llama_sampler_init_top_p(params.top_p, _MIN_KEEP)
    yield low.llama_sampler_init_min_p(params.min_p, _MIN_KEEP)
    if params.xtc_probability > 0:
        yield low.llama_sampler_init_xtc(params.xtc_probability, params.xtc_threshold, _MIN_KEEP, seed)
    if params.dynatemp_range > 0:
        yield low.llama_sampler_init_temp_ext(params.temperature, params.dynatemp_range, params.dynatemp_exponent)
    else:
        yield low.llama_sampler_init_temp(params.temperature)

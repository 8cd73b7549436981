"""Which sampling parameters are taken: what llama.cpp would accept without a word, or die of, is refused here. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from hali.model.errors import UsageError
from hali.model.generation import SamplingParams

COLD = 1e-6  # the likeliest token has all of the probability already; far below, logits over it are no float32 any more
MAX_BIAS = 1e6  # far beyond any logit; float32 keeps such sums finite
MAX_BREAKERS, MAX_BREAKER_BYTES = 16, 40  # llama.cpp walks the vocabulary for each, and cuts longer ones
_INT32 = (1 << 31) - 1

_FLOATS = {  # NaN lies in none of them
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "typical_p": (0.0, 1.0),
    "top_n_sigma": (-100.0, 100.0),
    "repeat_penalty": (1e-3, 100.0),  # llama.cpp divides by it
    "presence_penalty": (-100.0, 100.0),
    "frequency_penalty": (-100.0, 100.0),
    "xtc_probability": (0.0, 1.0),
    "xtc_threshold": (0.0, 1.0),
    "dynatemp_range": (0.0, 100.0),
    "dynatemp_exponent": (1e-3, 100.0),
    "mirostat_tau": (1e-3, 100.0),
    "mirostat_eta": (0.0, 100.0),
    "dry_multiplier": (0.0, 100.0),
    "dry_base": (1.0, 100.0),  # below 1 llama.cpp silently leaves DRY out
}
_INTS = {
    "top_k": (0, _INT32),
    "min_tokens": (0, _INT32),
    "mirostat": (0, 2),
    "repeat_last_n": (-1, _INT32),
    "dry_allowed_length": (1, _INT32),
    "dry_penalty_last_n": (-1, _INT32),
}


def check(params: SamplingParams, n_vocab: int) -> None:
    """UsageError that names each parameter out of its range."""
    if wrong := list(_wrong(params, n_vocab)):
        raise UsageError(f"sampling parameter out of range: {', '.join(wrong)}", code="sampling")


def settled(params: SamplingParams) -> SamplingParams:
    """With temperature 0, which is greedy, for one that is as good as that."""
    return msgspec.structs.replace(params, temperature=0.0) if params.temperature < COLD else params


def _wrong(params: SamplingParams, n_vocab: int) -> Iterator[str]:
    for name, (least, most) in (*_FLOATS.items(), *_INTS.items()):
        value = getattr(params, name)
        if not least <= value <= most:
            yield f"{name} ({value}; {least:g} to {most:g})"
    if params.max_tokens is not None and params.max_tokens < 0:
        yield f"max_tokens ({params.max_tokens}; at least 0)"
    elif params.max_tokens and params.min_tokens > params.max_tokens:
        yield f"min_tokens ({params.min_tokens}; at most max_tokens, {params.max_tokens})"
    if reason := _wrong_bias(params.logit_bias, n_vocab):
        yield f"logit_bias ({reason})"
    breakers = [text.encode() for text in params.dry_sequence_breakers]
    if len(breakers) > MAX_BREAKERS or any(b"\0" in text or len(text) > MAX_BREAKER_BYTES for text in breakers):
        yield f"dry_sequence_breakers (at most {MAX_BREAKERS} of {MAX_BREAKER_BYTES} bytes each)"


def _wrong_bias(bias: dict[int, float], n_vocab: int) -> str:
    """-inf bans a token; any other value must leave the logits finite."""
    if any(not 0 <= token < n_vocab for token in bias):
        return f"token ids are 0 to {n_vocab - 1}"
    if any(not abs(value) <= MAX_BIAS and value != -math.inf for value in bias.values()):
        return f"-{MAX_BIAS:g} to {MAX_BIAS:g}, or -inf"
    if sum(value == -math.inf for value in bias.values()) == n_vocab:
        return "it bans every token"
    return ""

"""How tokens are chosen, under the names that OpenAI, llama.cpp's server and vLLM give it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hali.api.openai_format import FormatFields
from hali.api.refusals import Asks, given, invalid, other_than
from hali.model.generation import MAX_STOPS, SamplingParams

MAX_BREAKERS = 64  # each costs a look through the vocabulary
LARGEST_SEED = 2**63 - 1
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0, le=1000)]
NotNegative = Annotated[float, Meta(ge=0, le=1000)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Lookback = Annotated[int, Meta(ge=-1, le=2**31 - 1)]  # tokens; -1 = the whole context
Repeat = Annotated[float, Meta(gt=0, le=10)]
Bias = Annotated[float, Meta(ge=-100, le=100)]


class SamplingFields(FormatFields, kw_only=True):
    """The fields of every body that generates; those of its format are inherited, as structs have one parent only."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    max_tokens: Count | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=LARGEST_SEED)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[int, Bias] | None = None
    # llama.cpp's and vLLM's additions
    top_k: Lookback | None = None  # 0 and -1 = off
    min_p: Probability | None = None
    min_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    repeat_penalty: Repeat | None = None
    repetition_penalty: Repeat | None = None  # vLLM's name of it
    repeat_last_n: Lookback | None = None
    n_predict: Lookback | None = None  # llama.cpp's name of max_tokens; -1 = no limit
    typical_p: Probability | None = None
    top_n_sigma: Annotated[float, Meta(ge=-1, le=1000)] | None = None
    xtc_probability: Probability | None = None
    xtc_threshold: Probability | None = None
    dynatemp_range: NotNegative | None = None
    dynatemp_exponent: NotNegative | None = None
    mirostat: Literal[0, 1, 2] | None = None
    mirostat_tau: NotNegative | None = None
    mirostat_eta: Probability | None = None
    dry_multiplier: NotNegative | None = None
    dry_base: Positive | None = None
    dry_allowed_length: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    dry_penalty_last_n: Lookback | None = None
    dry_sequence_breakers: Annotated[list[str], Meta(max_length=MAX_BREAKERS)] | None = None
    # refused unless they ask for nothing
    allowed_token_ids: Any = None
    bad_words: Any = None
    ignore_eos: Any = None
    include_stop_str_in_output: Any = None
    length_penalty: Any = None
    lora: Any = None
    n_probs: Any = None
    prompt_logprobs: Any = None
    samplers: Any = None
    skip_special_tokens: Any = None
    stop_token_ids: Any = None
    truncate_prompt_tokens: Any = None
    use_beam_search: Any = None


REFUSED: dict[str, Asks] = {
    **dict.fromkeys(("allowed_token_ids", "bad_words", "ignore_eos", "include_stop_str_in_output", "lora"), given),
    **dict.fromkeys(("n_probs", "prompt_logprobs", "samplers", "stop_token_ids", "use_beam_search"), given),
    "length_penalty": other_than(1),
    "skip_special_tokens": other_than(True),
    "truncate_prompt_tokens": other_than(),
}


def sampling(body: SamplingFields, max_tokens: int | None = None) -> SamplingParams:
    """What the engine is told; `max_tokens` is the dialect's newer name of that field, and wins."""
    named = {name: getattr(body, name) for name in SamplingParams.__struct_fields__}
    told = {name: value for name, value in named.items() if value is not None}
    told["stop"] = _stops(body.stop)
    if body.top_k is not None:
        told["top_k"] = max(body.top_k, 0)
    if body.dry_sequence_breakers is not None:
        told["dry_sequence_breakers"] = tuple(body.dry_sequence_breakers)
    if (repeat := _one(body, "repeat_penalty", "repetition_penalty")) is not None:
        told["repeat_penalty"] = repeat
    told["max_tokens"] = max_tokens or _limit(body)
    return SamplingParams(**told)


def with_seed(params: SamplingParams, index: int) -> SamplingParams:
    """The same for the `index`-th of several replies: its own seed, derived from the one that was given."""
    if params.seed is None or index == 0:
        return params
    return msgspec.structs.replace(params, seed=(params.seed + index) % (LARGEST_SEED + 1))


def _limit(body: SamplingFields) -> int | None:
    if body.max_tokens is not None or body.n_predict in (None, -1):
        return body.max_tokens
    if body.n_predict == 0:
        raise invalid("n_predict", "must be -1 or at least 1")
    return body.n_predict


def _one(body: SamplingFields, name: str, other: str) -> Any:
    """The value of a field that has two names; `UsageError` if they disagree."""
    first, second = getattr(body, name), getattr(body, other)
    if first is not None and second is not None and first != second:
        raise invalid(other, f"differs from {name}, which means the same")
    return first if second is None else second


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > MAX_STOPS or "" in stops:
        raise invalid("stop", f"at most {MAX_STOPS} strings, none of them empty")
    return stops

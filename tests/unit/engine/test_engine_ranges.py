"""Which sampling parameters are refused, and how it is said."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hali.engine.ranges import MAX_BIAS, check
from hali.model.errors import UsageError
from hali.model.generation import SamplingParams

VOCABULARY = 10
WRONG: list[tuple[str, Any]] = [
    *((name, value) for name in ("temperature", "top_p", "min_p", "typical_p", "top_n_sigma") for value in (math.nan, 1e9)),
    *((name, math.nan) for name in ("repeat_penalty", "presence_penalty", "frequency_penalty", "mirostat_tau")),
    *((name, -0.1) for name in ("temperature", "xtc_probability", "xtc_threshold", "dynatemp_range", "dry_multiplier")),
    ("repeat_penalty", 0.0),
    ("dynatemp_exponent", 0.0),
    ("mirostat_tau", 0.0),
    ("mirostat_eta", -1.0),
    ("dry_base", 0.9),
    ("top_k", -1),
    ("top_k", 1 << 31),
    ("mirostat", 3),
    ("min_tokens", -1),
    ("max_tokens", -1),
    ("repeat_last_n", -2),
    ("dry_penalty_last_n", -2),
    ("dry_allowed_length", 0),
    ("dry_sequence_breakers", ("a\0b",)),
    ("dry_sequence_breakers", ("x" * 41,)),
    ("dry_sequence_breakers", ("x",) * 17),
    ("logit_bias", {VOCABULARY: 1.0}),
    ("logit_bias", {-1: 1.0}),
    ("logit_bias", {0: math.nan}),
    ("logit_bias", {0: math.inf}),
    ("logit_bias", {0: MAX_BIAS * 2}),
    ("logit_bias", dict.fromkeys(range(VOCABULARY), -math.inf)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG, ids=str)
def test_a_value_out_of_range_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        check(SamplingParams(**{name: value}), VOCABULARY)
    assert caught.value.code == "sampling"


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(UsageError, match=r"top_p \(2\.0; 0 to 1\).*mirostat \(9; 0 to 2\)"):
        check(SamplingParams(top_p=2.0, mirostat=9), VOCABULARY)


def test_more_tokens_at_least_than_at_most_are_refused() -> None:
    with pytest.raises(UsageError, match="min_tokens"):
        check(SamplingParams(min_tokens=5, max_tokens=4), VOCABULARY)
    check(SamplingParams(min_tokens=5, max_tokens=0), VOCABULARY)  # 0: no limit


def test_the_ends_of_the_ranges_are_taken() -> None:
    check(SamplingParams(), VOCABULARY)
    check(
        SamplingParams(temperature=0, top_p=0, top_n_sigma=-1, repeat_last_n=-1, min_tokens=4, max_tokens=4), VOCABULARY
    )
    check(SamplingParams(logit_bias={**dict.fromkeys(range(1, VOCABULARY), -math.inf), 0: -MAX_BIAS}), VOCABULARY)

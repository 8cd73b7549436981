"""Whether a model fits this machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hali.runtime.memory import Memory
from hali.share.fit import fit, memory_needed

GB = 10**9
TOKENS = 8192


@pytest.mark.parametrize(
    ("size", "tokens", "low", "high"),
    [
        (4.9e9, 8192, 6.0e9, 6.5e9),  # Llama 3 8B Q4_K_M: 1.07 GB of KV cache, 4.9 GB of weights
        (42.5e9, 8192, 45e9, 47e9),  # Llama 3 70B Q4_K_M: 2.7 GB of KV cache
        (0.8e9, 8192, 1.3e9, 1.8e9),  # Llama 3.2 1B Q4_K_M: 0.27 GB
    ],
)
def test_the_estimate_is_near_what_known_models_take(size: float, tokens: int, low: float, high: float) -> None:
    assert low < memory_needed(int(size), tokens) < high


@pytest.mark.parametrize(
    ("ram", "gpu", "where"),
    [
        (16 * GB, None, "ram"),
        (16 * GB, 24 * GB, "gpu"),
        (None, 24 * GB, "gpu"),
        (4 * GB, 4 * GB, "shared"),
        (2 * GB, 2 * GB, "no"),
        (2 * GB, None, "no"),
        (0, None, "no"),
        (None, None, None),
        (None, 1 * GB, None),
    ],
)
def test_where_a_model_of_five_gigabytes_fits(ram: int | None, gpu: int | None, where: str | None) -> None:
    assert fit(4_900_000_000, Memory(ram, gpu), TOKENS) == where


@given(st.integers(1, 10**12), st.integers(1, 10**12), st.integers(1, 10**6), st.integers(0, 10**12))
def test_a_smaller_model_or_a_shorter_context_never_needs_more(one: int, other: int, tokens: int, ram: int) -> None:
    small, large = sorted((one, other))
    assert small < memory_needed(small, tokens) <= memory_needed(large, tokens) <= memory_needed(large, tokens + 1)
    if fit(large, Memory(ram), tokens) == "ram":
        assert fit(small, Memory(ram), tokens) == "ram"

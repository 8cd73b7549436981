"""Our own draw leaves the tokens that llama.cpp's samplers leave, as likely as they make them."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

low = pytest.importorskip("llama_cpp").llama_cpp

from hali.engine.draw import _BLOCK, Draw  # noqa: E402 - the skip comes first
from hali.model.generation import SamplingParams  # noqa: E402

ROW = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])  # llama_token_data
CUTS: list[dict[str, Any]] = [
    {}, {"top_k": 1}, {"top_k": 40}, {"top_k": 10**6}, {"top_p": 0.0}, {"top_p": 0.5}, {"top_p": 0.95}, {"min_p": 0.05},
    {"min_p": 1.0}, {"top_k": 40, "top_p": 0.9}, {"top_k": 100, "min_p": 0.02}, {"top_p": 0.9, "min_p": 0.1},
    {"top_k": 40, "top_p": 0.9, "min_p": 0.05},
]  # fmt: skip


def row(seed: int, count: int) -> Any:
    """Logits of which some stand out, as a model's do."""
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal(count) * rng.uniform(0.5, 4)).astype(np.float32)
    best = rng.integers(0, count, max(1, count // 500))
    logits[best] += rng.uniform(0, 12, len(best)).astype(np.float32)
    return logits


def by_llama_cpp(logits: Any, params: SamplingParams) -> dict[int, float]:
    """Token and probability, of those that its samplers leave."""
    rows = np.zeros(len(logits), ROW)
    rows["id"], rows["logit"] = np.arange(len(logits)), logits
    data = ctypes.cast(rows.ctypes.data, ctypes.POINTER(low.llama_token_data))
    native = low.llama_token_data_array(data, len(rows), -1, False)
    chain = low.llama_sampler_chain_init(low.llama_sampler_chain_default_params())
    for sampler in (
        low.llama_sampler_init_top_k(params.top_k),
        low.llama_sampler_init_top_p(params.top_p, 1),
        low.llama_sampler_init_min_p(params.min_p, 1),
        low.llama_sampler_init_temp(params.temperature),
    ):
        low.llama_sampler_chain_add(chain, sampler)
    low.llama_sampler_apply(chain, ctypes.byref(native))
    low.llama_sampler_free(chain)
    left = [(int(native.data[i].id), float(native.data[i].logit)) for i in range(native.size)]
    weights = np.exp(np.array([logit for _, logit in left]) - max(logit for _, logit in left))
    return dict(zip((token for token, _ in left), (weights / weights.sum()).tolist(), strict=True))


def ours(logits: Any, params: SamplingParams) -> dict[int, float]:
    tokens, weights = Draw(params).kept(logits)
    tokens = np.arange(len(logits)) if tokens is None else tokens
    return dict(zip(tokens.tolist(), (weights / weights.sum(dtype=np.float64)).tolist(), strict=True))


@pytest.mark.parametrize("cuts", CUTS, ids=str)
@pytest.mark.parametrize("count", [1, 7, 300, 20_000])
def test_what_may_come_is_what_llama_cpp_lets_come(count: int, cuts: dict[str, Any]) -> None:
    for seed in range(6):
        logits = row(seed, count)
        params = SamplingParams(temperature=[0.3, 1.0, 1.7][seed % 3], **cuts)
        theirs, found = by_llama_cpp(logits, params), ours(logits, params)
        # It adds up in 32 bits, so the last token of `top_p` may be another.
        assert len(found.keys() ^ theirs.keys()) <= (1 if params.top_p < 1 else 0)
        both = found.keys() & theirs.keys()
        share = sum(found[token] for token in both) / sum(theirs[token] for token in both)
        for token in both:
            assert found[token] == pytest.approx(theirs[token] * share, rel=1e-4)


def test_a_draw_takes_the_same_when_it_has_looked_farther_or_less_far_before() -> None:
    """The reach in which candidates are looked for follows the rows; it must not show."""
    params = SamplingParams(temperature=1.0, top_k=20)
    draw, flat, steep = Draw(params), np.zeros(5000, np.float32), np.arange(5000, dtype=np.float32)
    for logits in (flat, steep, flat, row(1, 5000), steep * 100, row(2, 5000)):
        found = draw.kept(logits)
        tokens, _ = Draw(params).kept(logits)
        assert found.tokens.tolist() == tokens.tolist() and len(tokens) == 20


@pytest.mark.parametrize("count", [3, 500, 70_001])  # the last in blocks
def test_tokens_come_as_often_as_they_are_likely(count: int) -> None:
    logits = row(3, count)
    params, draws = SamplingParams(temperature=1.0, seed=5), 20_000
    draw, likely = Draw(params), ours(logits, params)
    often = np.bincount([draw.choose(logits) for _ in range(draws)], minlength=count)
    top = sorted(likely, key=lambda token: -likely[token])[:50]
    for token in top:  # five deviations of a binomial distribution; the seed is fixed
        p = likely[token]
        assert abs(often[token] - draws * p) < 5 * (draws * p * (1 - p)) ** 0.5 + 1
    halves = sum(p for token, p in likely.items() if token < count // 2)
    assert abs(often[: count // 2].sum() / draws - halves) < 0.02


def test_what_is_impossible_never_comes() -> None:
    logits = np.full(10 * _BLOCK * _BLOCK, -np.inf, np.float32)
    logits[[5, 4000, 39_999]] = 1.0
    for cuts in CUTS:
        draw = Draw(SamplingParams(temperature=1.0, seed=1, **cuts))
        assert {draw.choose(logits) for _ in range(200)} <= {5, 4000, 39_999}


def test_the_last_of_all_is_not_passed_over_by_rounding() -> None:
    weights = np.array([1.0, 2.0, 0.0, 0.0], np.float32)
    assert Draw._within(weights, 1.0) == 1
    assert Draw._within(weights, 0.0) == 0


@pytest.mark.parametrize(
    "more",
    [{"repeat_penalty": 1.1}, {"presence_penalty": 0.1}, {"frequency_penalty": -0.1}, {"typical_p": 0.9}, {"top_n_sigma": 1.0},
     {"xtc_probability": 0.1}, {"dynatemp_range": 0.5}, {"mirostat": 2}, {"dry_multiplier": 0.8}, {"temperature": 0.0}],
    ids=str,
)  # fmt: skip
def test_whatever_else_is_asked_for_is_llama_cpps_to_do(more: dict[str, Any]) -> None:
    plain = {"temperature": 1.0, "top_k": 40, "top_p": 0.9, "min_p": 0.1, "seed": 1, "logit_bias": {1: 2.0}}
    assert Draw.covers(SamplingParams(**plain))
    assert not Draw.covers(SamplingParams(**{**plain, **more}))

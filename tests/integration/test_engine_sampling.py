"""Samplers on the real logits of one row: each parameter changes what is drawn, the seed makes it the same again."""

from __future__ import annotations

import ctypes
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("llama_cpp")

from llama_cpp import llama_cpp as low

from hali.engine import chain
from hali.engine.backend import Model
from hali.engine.constraint import Formats
from hali.engine.native_log import NativeLog
from hali.engine.options import EngineOptions
from hali.engine.ranges import COLD
from hali.engine.sampling import Sampler
from hali.engine.schedule import Slice
from hali.engine.telling import Drawn
from hali.model.errors import EngineFailed, UsageError
from hali.model.generation import GenerateRequest, ReplyFormat, SamplingParams

pytestmark = pytest.mark.model

PROMPT = "The cat sat on the mat. The cat sat on the mat. The cat sat on"
SEEDS = 40
LAST = -1  # llama.cpp's word for the last row with logits


@dataclass
class Row:
    """A model that has computed the logits after `PROMPT`, once for all tests."""

    model: Model
    tokens: list[int]
    formats: Formats

    @property
    def logits(self) -> Any:
        address = ctypes.addressof(low.llama_get_logits_ith(self.model.ctx, LAST).contents)
        return np.ctypeslib.as_array((ctypes.c_float * self.model.n_vocab).from_address(address))

    def request(self, **sampling: Any) -> GenerateRequest:
        return GenerateRequest(prompt=PROMPT, sampling=SamplingParams(**{"seed": 1, **sampling}))

    def sampler(self, request: GenerateRequest) -> Sampler:
        return Sampler(request, self.model, self.tokens, self.formats)

    def draw(self, count: int = 1, **sampling: Any) -> list[int]:
        """`count` tokens by one sampler, as if the row were computed again and again."""
        sampler = self.sampler(self.request(**sampling))
        try:
            return [sampler.sample(self.model.ctx, LAST) for _ in range(count)]
        finally:
            sampler.close()

    def spread(self, **sampling: Any) -> set[int]:
        """What comes first under many seeds."""
        return {self.draw(**{**sampling, "seed": seed})[0] for seed in range(SEEDS)}


@pytest.fixture(scope="module")
def row(smollm2: Path) -> Iterator[Row]:
    model = Model(smollm2, EngineOptions(n_ctx=256, threads=1), NativeLog(), lambda _: None)
    tokens = model.tokenize(PROMPT, add_special=False)
    model.decode([Slice(0, len(tokens))], lambda _: tokens, lambda _: 0)
    yield Row(model, tokens, Formats(model))
    model.close()


def wild(**sampling: Any) -> dict[str, Any]:
    return {"temperature": 1.5, **sampling}


def test_temperature_0_takes_the_likeliest_and_heat_takes_others(row: Row) -> None:
    best = int(row.logits.argmax())
    assert row.spread(temperature=0) == {best}
    assert row.spread(temperature=0.05) == {best}
    assert len(row.spread(**wild())) > 10


@pytest.mark.parametrize("temperature", [1e-6, 1e-7, 1e-40, 1e-46, 5e-324])
def test_a_temperature_of_nearly_nothing_draws_and_tells_as_0_does(row: Row, temperature: float) -> None:
    def told(temperature: float) -> tuple[int, Drawn]:
        request = row.request(temperature=temperature, top_k=0, top_p=1.0, min_p=0.0)
        sampler = row.sampler(msgspec.structs.replace(request, logprobs=2))
        try:
            return sampler.sample(row.model.ctx, LAST), sampler.drawn()
        finally:
            sampler.close()

    token, drawn = told(temperature)
    assert token == int(row.logits.argmax())
    assert drawn.logprob is not None and all(one.logprob <= 0 for one in drawn.logprob.top), "NaN is none of these"
    if temperature < COLD:
        assert (token, drawn) == told(0.0)


@pytest.mark.parametrize(
    "narrow", [{"top_k": 1}, {"top_p": 0.01}, {"min_p": 1.0}, {"typical_p": 0.01}, {"top_n_sigma": 0.01}], ids=str
)
def test_what_cuts_the_tail_leaves_one_token(row: Row, narrow: dict[str, Any]) -> None:
    assert len(row.spread(**wild(**narrow))) == 1


def test_xtc_leaves_out_the_likeliest_above_its_threshold(row: Row) -> None:
    best = int(row.logits.argmax())
    assert best in row.spread(temperature=1.0)
    assert best not in row.spread(temperature=1.0, xtc_probability=1.0, xtc_threshold=0.02)
    assert best in row.spread(temperature=1.0, xtc_probability=1.0, xtc_threshold=0.5), "no two tokens are above it"
    mixed = [row.draw(temperature=1.0, xtc_probability=0.5, xtc_threshold=0.02, seed=seed) for seed in range(SEEDS)]
    assert [best] in mixed and mixed != [row.draw(temperature=1.0, seed=seed) for seed in range(SEEDS)]


def test_dynamic_temperature_follows_the_entropy(row: Row) -> None:
    flat = row.spread(temperature=1.0)
    hot = row.spread(temperature=1.0, dynatemp_range=1.0, dynatemp_exponent=0.1)  # nearly 2 at any entropy
    cold = row.spread(temperature=1.0, dynatemp_range=1.0, dynatemp_exponent=50.0)  # nearly 0
    assert len(cold) < len(flat) < len(hot)


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_steers_towards_its_tau_as_fast_as_eta_says(row: Row, version: int) -> None:
    def kinds(**more: Any) -> int:
        return len(set(row.draw(60, **wild(mirostat=version, **more))))

    assert kinds(mirostat_tau=1.0) < kinds(mirostat_tau=8.0)
    slow, fast = (row.draw(60, **wild(mirostat=version, mirostat_eta=eta)) for eta in (0.01, 0.9))
    assert slow != fast


@pytest.mark.parametrize(
    "penalty", [{"repeat_penalty": 50.0}, {"presence_penalty": 90.0}, {"frequency_penalty": 90.0}], ids=str
)
def test_a_penalty_counts_within_its_window(row: Row, penalty: dict[str, Any]) -> None:
    assert len(set(row.draw(3, temperature=0))) == 1
    assert len(set(row.draw(3, temperature=0, **penalty))) == 3
    first, second, third = row.draw(3, temperature=0, repeat_last_n=1, **penalty)
    assert first == third != second
    assert len(set(row.draw(3, temperature=0, repeat_last_n=0, **penalty))) == 1
    assert len(set(row.draw(3, temperature=0, repeat_last_n=-1, **penalty))) == 3


def test_dry_ends_what_the_prompt_repeats(row: Row) -> None:
    best = row.draw(temperature=0)
    assert row.draw(temperature=0, dry_multiplier=5.0) != best
    for off in (
        {"dry_penalty_last_n": 0},
        {"dry_allowed_length": 100},
        {"dry_sequence_breakers": (" on",)},
        {"dry_multiplier": 1e-6, "dry_base": 1.0},
    ):
        assert row.draw(temperature=0, **{"dry_multiplier": 5.0, **off}) == best, off
    assert row.draw(temperature=0, dry_multiplier=1e-6, dry_base=50.0) != best, "the base counts the length in"


def test_a_bias_prefers_and_bans(row: Row) -> None:
    best, rare = int(row.logits.argmax()), int(row.logits.argmin())
    assert row.draw(temperature=0, logit_bias={rare: 100.0}) == [rare]
    assert row.draw(logit_bias={rare: 1e6}) == [rare]
    assert best not in row.spread(**wild(logit_bias={best: -math.inf}))


def biased_by_llama_cpp(row: Row, count: int, params: SamplingParams) -> list[int]:
    """What llama.cpp draws with its own sampler for biases before the others."""
    entries = [low.llama_logit_bias(token, value) for token, value in params.logit_bias.items()]
    native = low.llama_sampler_chain_init(low.llama_sampler_chain_default_params())
    biased = low.llama_sampler_init_logit_bias(
        row.model.n_vocab, len(entries), (low.llama_logit_bias * len(entries))(*entries)
    )
    for sampler in (biased, chain.build(params, row.model, row.tokens)):
        low.llama_sampler_chain_add(native, sampler)
    try:
        return [int(low.llama_sampler_sample(native, row.model.ctx, LAST)) for _ in range(count)]
    finally:
        chain.free(native)


@pytest.mark.parametrize("seed", range(20))
def test_a_bias_does_what_llama_cpps_own_does(row: Row, seed: int) -> None:
    rng = random.Random(seed)
    likely = [int(token) for token in np.argsort(row.logits)[-300:]]
    bias = {token: rng.uniform(-6, 6) for token in rng.sample(likely, rng.choice([1, 20, 200]))}
    params = {
        "seed": seed, "temperature": rng.choice([0, 0.7, 1.5]), "repeat_penalty": rng.choice([1, 1.3]), "logit_bias": bias,
        **rng.choice([{}, {"top_k": 0, "top_p": 1.0}, {"typical_p": 0.9}, {"mirostat": 1}, {"mirostat": 2}, {"dry_multiplier": 1.0}]),
    }  # fmt: skip
    right = biased_by_llama_cpp(row, 20, SamplingParams(**params))
    assert row.draw(20, **params) == right
    never = int(row.logits.argmin())
    assert row.draw(20, **{**params, "logit_bias": {**bias, never: -math.inf}}) == right, "where some are left out"


def test_biases_are_no_sampler_that_would_look_for_each_among_all(row: Row) -> None:
    def samplers(**sampling: Any) -> int:
        sampler = row.sampler(row.request(**sampling))
        try:
            return int(low.llama_sampler_chain_n(sampler._chain))
        finally:
            sampler.close()

    assert samplers(logit_bias=dict.fromkeys(range(row.model.n_vocab), 0.5)) == samplers()


def test_the_same_seed_draws_the_same_and_another_or_none_does_not(row: Row) -> None:
    everything = wild(
        typical_p=0.99, top_n_sigma=5.0, xtc_probability=0.5, xtc_threshold=0.05, dynatemp_range=0.5, dry_multiplier=1.0,
        repeat_penalty=1.1, top_k=1000, top_p=0.99, min_p=0.0001,
    )  # fmt: skip
    once = row.draw(30, **everything, seed=7)
    assert row.draw(30, **everything, seed=7) == once
    assert row.draw(30, **everything, seed=8) != once
    assert row.draw(30, **everything, seed=None) != row.draw(30, **everything, seed=None)


def test_what_is_left_out_of_a_draw_does_not_change_the_rest(row: Row) -> None:
    never = int(row.logits.argmin())
    assert row.draw(60, **wild(logit_bias={never: -math.inf})) == row.draw(60, **wild())


def test_no_end_comes_before_min_tokens(row: Row) -> None:
    end = row.formats.ends[0]
    assert row.draw(2, logit_bias={end: 100.0}) == [end, end]
    drawn = row.draw(4, logit_bias=dict.fromkeys(row.formats.ends, 100.0), min_tokens=3)
    assert not {*drawn[:3]} & {*row.formats.ends} and drawn[3] in row.formats.ends


# --- formats


def formatted(row: Row, wanted: ReplyFormat, **sampling: Any) -> tuple[bytes, bool]:
    """(text, whether it was complete) of a reply that always sees the same logits."""
    request = GenerateRequest(prompt=PROMPT, sampling=SamplingParams(**{"seed": 1, **sampling}), format=wanted)
    sampler, text = row.sampler(request), b""
    try:
        for _ in range(50):
            token = sampler.sample(row.model.ctx, LAST)
            complete = sampler.drawn().complete
            if complete or row.model.is_end(token):
                return text + row.model.piece(token), complete
            text += row.model.piece(token)
        return text, False
    finally:
        sampler.close()


@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize(
    "wanted", [ReplyFormat(schema={"const": [1, "é"]}), ReplyFormat(grammar='root ::= "[1," [ ]? "\\"é\\"]"')]
)
def test_a_reply_is_complete_when_nothing_can_follow(row: Row, wanted: ReplyFormat, temperature: float) -> None:
    text, complete = formatted(row, wanted, temperature=temperature)
    assert complete
    assert text.decode().replace(" ", "").replace("\n", "") == '[1,"é"]'


def test_a_reply_ends_only_where_the_grammar_lets_it(row: Row) -> None:
    ends = dict.fromkeys(row.formats.ends, 1000.0)  # the model wants to end at once
    assert formatted(row, ReplyFormat(grammar='root ::= "ab" "#"*'), logit_bias=ends) == (b"ab", True)


def test_a_complete_format_ends_before_min_tokens(row: Row) -> None:
    assert formatted(row, ReplyFormat(schema={"const": 5}), min_tokens=40) == (b"5", True)
    assert formatted(row, ReplyFormat(grammar='root ::= ""'), min_tokens=40) == (b"", True)


def test_who_draws_ahead_is_told_of_each_token_by_itself(row: Row) -> None:
    request = GenerateRequest(prompt=PROMPT, format=ReplyFormat(grammar="root ::= [ab] [ab] [c]"), logprobs=0)
    banned = {t: -math.inf for t in range(row.model.n_vocab) if len(row.model.piece(t)) > 1}
    sampler = row.sampler(msgspec.structs.replace(request, sampling=SamplingParams(logit_bias=banned)))
    tokens = [sampler.sample(row.model.ctx, LAST) for _ in "abc"]
    told = [sampler.drawn() for _ in "abc"]
    sampler.close()
    assert b"".join(map(row.model.piece, tokens)) in (b"aac", b"abc", b"bac", b"bbc")
    assert [one.complete for one in told] == [False, False, True]
    assert [one.logprob.chosen.token for one in told if one.logprob] == tokens


def test_samplers_work_on_the_few_tokens_that_a_format_leaves(row: Row) -> None:
    for more in ({"typical_p": 0.5}, {"mirostat": 1}, {"mirostat": 2}, {"top_n_sigma": 1.0}, {"xtc_probability": 1.0}):
        text, complete = formatted(row, ReplyFormat(schema={"enum": [True, 10, "x"]}), **wild(**more))
        assert complete and text in (b"true", b"10", b'"x"'), more


# --- malformed


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_an_error_and_not_a_draw(row: Row, value: float) -> None:
    kept = row.logits.copy()
    row.logits[5] = value
    try:
        with pytest.raises(EngineFailed, match="no numbers"):
            row.draw()
    finally:
        row.logits[:] = kept
    assert row.draw(temperature=0) == [int(kept.argmax())]


def test_a_logit_of_minus_infinity_is_a_token_that_never_comes(row: Row) -> None:
    kept = row.logits.copy()
    row.logits[int(kept.argmax())] = -math.inf
    try:
        assert row.draw(temperature=0) == [int(np.argsort(kept)[-2])]
    finally:
        row.logits[:] = kept


def test_when_bias_and_format_leave_no_token_it_is_said(row: Row) -> None:
    banned = dict.fromkeys(range(row.model.n_vocab - 1), -math.inf)
    with pytest.raises(UsageError, match="no token is left"):
        formatted(row, ReplyFormat(grammar='root ::= "yes"'), logit_bias=banned)
    assert Sampler.alive == 0


# --- logprobs


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.5])
def test_logprobs_are_of_the_models_own_logits_over_the_temperature(row: Row, temperature: float) -> None:
    sampling = SamplingParams(temperature=temperature, seed=1, presence_penalty=10.0, top_k=3, logit_bias={7: 5.0})
    sampler = row.sampler(GenerateRequest(prompt=PROMPT, sampling=sampling, logprobs=4))
    tokens = [sampler.sample(row.model.ctx, LAST) for _ in range(3)]
    told = [sampler.drawn().logprob for _ in range(3)]
    sampler.close()
    scaled = row.logits.astype(np.float64) / (temperature or 1)
    right = scaled - scaled.max() - np.log(np.exp(scaled - scaled.max()).sum())
    for token, one in zip(tokens, told, strict=True):
        assert one is not None and one.chosen.token == token
        assert one.chosen.text == row.model.piece(token)
        assert [c.token for c in one.top] == [int(t) for t in np.argsort(-right, kind="stable")[:4]]
        assert [c.logprob for c in (one.chosen, *one.top)] == pytest.approx(
            [right[c.token] for c in (one.chosen, *one.top)], abs=1e-4
        )


def test_nobody_who_did_not_ask_is_told(row: Row) -> None:
    sampler = row.sampler(row.request())
    sampler.sample(row.model.ctx, LAST)
    assert sampler.drawn() == Drawn()
    sampler.close()

"""Damaged models by the thousand: the checker refuses them, or a worker loads them and answers or says what is wrong.

What passes the checker must not end the worker. A few hundred in CI; `HALI_LONG=1` runs 10,000 from a new seed each
time. A failure prints the architecture and the seed, which make the same file again.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest

from hali._native import ggufcheck
from tests.fakes import tiny_models
from tests.fakes.gguf_image import STRING, U32, Image, Key, text, texts, unpack
from tests.fakes.gguf_mutants import DAMAGES, mutant
from tests.fakes.nursery import Nursery

LONG = bool(os.environ.get("HALI_LONG"))
MODELS = {
    **tiny_models.DECODERS,
    "bert": tiny_models.bert,
    "ranks": lambda: tiny_models.bert(pooling=4, ranks=True),
}
ROUNDS = 1250 if LONG else 40  # for each architecture; an execution takes 35 ms, a template that does not end a second
SEED = random.SystemRandom().getrandbits(32) if LONG else 0


@pytest.mark.parametrize("arch", MODELS)
def test_a_damaged_model_is_refused_or_answers_or_says_what_is_wrong(arch: str, tmp_path: Path) -> None:
    whole = unpack(MODELS[arch]().write(tmp_path / "whole.gguf").read_bytes())
    start = SEED + ROUNDS * [*MODELS].index(arch)  # so that each kind of damage is done to some
    ends: Counter[str] = Counter()
    with Nursery() as nursery:
        for seed in range(start, start + ROUNDS):
            kind, data = mutant(whole, seed)
            path = tmp_path / "mutant.gguf"
            path.write_bytes(data)
            end = _end(nursery, path, 0.8 if seed % 2 else 0.0)
            assert not end.startswith("died"), f"{arch}, seed {seed}, {kind}: {end}"
            ends[end.split(" ")[0]] += 1
    print(f"{arch}: {dict(ends)}")
    assert ends.total() == ROUNDS
    assert min(ends["stopped"], ends["answered"], ends["refused"]) >= ROUNDS // 20, "each end is seen"


def _end(nursery: Nursery, path: Path, temperature: float) -> str:
    """`stopped` by the checker with a reason, or how a worker ended."""
    try:
        ggufcheck.check([path])
    except ggufcheck.Refused as error:
        reason, message, number = error.args
        assert reason and message and number == 0
        return f"stopped {reason}"
    return nursery.ending(path, temperature)


@pytest.mark.parametrize("arch", MODELS)
def test_whole_models_of_each_architecture_pass(arch: str, tmp_path: Path) -> None:
    ggufcheck.check([MODELS[arch]().write(tmp_path / "whole.gguf")])


def test_every_kind_of_damage_changes_the_file(tmp_path: Path) -> None:
    whole = unpack(tiny_models.qwen2().write(tmp_path / "whole.gguf").read_bytes())
    good = whole.pack()
    assert mutant(whole, 7) == mutant(whole, 7) and whole.pack() == good
    for number, damage in enumerate(DAMAGES):
        seeds = range(number, number + 20 * len(DAMAGES), len(DAMAGES))
        assert any(mutant(whole, seed)[1] != good for seed in seeds), damage.__name__


def _number(name: str, value: int) -> Key:
    return Key(name.encode(), U32, value.to_bytes(4, "little"))


def _no_blocks(image: Image) -> None:
    image.key("llama.block_count").value = bytes(4)


def _unknown_scaling(image: Image) -> None:
    image.keys.append(Key(b"llama.rope.scaling.type", STRING, text(b"circular")))


def _token_twice(image: Image) -> None:
    tokens = image.key("tokenizer.ggml.tokens")
    tokens.value = texts([*tokens.texts()[:-1], b"<s>"])


def _byte_without_token(image: Image) -> None:
    tokens = image.key("tokenizer.ggml.tokens")
    tokens.value = texts([token if token != b"<0xC3>" else b"<0xc3>" for token in tokens.texts()])  # of ö


def _too_many_used_experts(image: Image) -> None:
    image.keys.append(_number("llama.expert_used_count", 2))


def _negative_epsilon(image: Image) -> None:
    image.key("llama.attention.layer_norm_rms_epsilon").value = b"\0\0\x80\xbf"  # -1


def _norm_of_integers(image: Image) -> None:
    next(tensor for tensor in image.tensors if tensor.name == b"output_norm.weight").kind = 26


LIES = [_no_blocks, _unknown_scaling, _token_twice, _byte_without_token, _too_many_used_experts]
LIES += [_negative_epsilon, _norm_of_integers]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__.strip("_"))
def test_what_the_checker_refuses_would_have_ended_the_worker(lie: object, tmp_path: Path) -> None:
    image = unpack(tiny_models.llama().write(tmp_path / "model.gguf").read_bytes())
    assert callable(lie)
    lie(image)
    path = tmp_path / "model.gguf"
    path.write_bytes(image.pack())
    with pytest.raises(ggufcheck.Refused):
        ggufcheck.check([path])
    with Nursery() as nursery:
        assert nursery.ending(path).startswith("died SIGABRT")


def test_a_rotation_of_no_elements_which_would_never_end_is_refused(tmp_path: Path) -> None:
    """Of architectures that rotate a part of each head; where the whole is rotated, 0 is not its length."""
    image = unpack(MODELS["gemma2"]().write(tmp_path / "model.gguf").read_bytes())
    for count, refused in ((0, True), (2, False)):
        image.keys = [key for key in image.keys if key.name != b"gemma2.rope.dimension_count"]
        image.keys.append(_number("gemma2.rope.dimension_count", count))
        (tmp_path / "model.gguf").write_bytes(image.pack())
        with pytest.raises(ggufcheck.Refused, match="is 0") if refused else nullcontext():
            ggufcheck.check([tmp_path / "model.gguf"])

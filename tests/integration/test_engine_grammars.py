"""GBNF with a real vocabulary: the same tokens are allowed as llama.cpp's own interpreter allows."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llama_cpp")

from llama_cpp import llama_cpp as low

from hali.engine.constraint import Formats
from hali.model.generation import ReplyFormat
from tests.vocabulary import Vocabulary

pytestmark = pytest.mark.model

ROW = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
TEXTS = (
    "[a-c]",
    "[^a-z]",
    "[ab日-本]",
    r"[\x41-\x5A\n]",
    ".",
    '"a"',
    '"ab"',
    '"abc"',
    '" the"',
    '"日本"',
    r'"\n"',
    r'"\"é"',
)
JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws (string ":" ws value ("," ws string ":" ws value)*)? "}" ws
array  ::= "[" ws (value ("," ws value)*)? "]" ws  # a comment
string ::= "\"" ([^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}))* "\"" ws
number ::= "-"? ([0-9] | [1-9] [0-9]{0,15}) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"""


@pytest.fixture(scope="module")
def vocabulary(smollm2: Path) -> Iterator[Vocabulary]:
    found = Vocabulary(smollm2)
    yield found
    found.close()


@pytest.fixture(scope="module")
def formats(vocabulary: Vocabulary) -> Formats:
    return Formats(vocabulary)


class Reference:
    """llama.cpp's own grammar sampler."""

    def __init__(self, vocabulary: Vocabulary, grammar: str) -> None:
        self.native: Any = low.llama_sampler_init_grammar(vocabulary.vocab, grammar.encode(), b"root")
        assert self.native, grammar
        self._rows = np.zeros(vocabulary.n_vocab, ROW)

    def allowed(self) -> Any:
        self._rows["id"], self._rows["logit"] = np.arange(len(self._rows)), 0
        data = ctypes.cast(self._rows.ctypes.data, ctypes.POINTER(low.llama_token_data))
        array = low.llama_token_data_array(data, len(self._rows), -1, False)
        low.llama_sampler_apply(self.native, ctypes.byref(array))
        return np.isfinite(self._rows["logit"])

    def close(self) -> None:
        low.llama_sampler_free(self.native)


def _random_grammar(rng: random.Random) -> str:
    """Each sequence begins with text: llama.cpp refuses left recursion, or worse, does not see it."""
    names = ["root", "r1", "r2"]

    def item(depth: int, named: list[str]) -> str:
        bracket = [f"({sequence(depth - 1)} | {sequence(depth - 1)})"] if depth and rng.random() < 0.3 else []
        found = rng.choice([*named, *bracket, *TEXTS])
        return found + rng.choice(["", "", "", "?", "*", "+", "{2}", "{1,3}", "{2,}", "{0,2}"])

    def sequence(depth: int, named: list[str] = names) -> str:
        rest = [item(depth, named) for _ in range(rng.choice([0, 1, 1, 2]))]
        return " ".join([rng.choice(['"a"', "[a-d]", '"b"', '"日"']), *rest])

    def rule() -> str:
        """Its first sequence is finite."""
        return " | ".join([sequence(0, []), *(sequence(2) for _ in range(rng.randint(0, 2)))])

    return "\n".join(f"{name} ::= {rule()}" for name in names)


@pytest.fixture(scope="module")
def text(vocabulary: Vocabulary) -> Any:
    """Not the control tokens, which llama.cpp takes for their spelling, nor those with NUL, which ends its strings."""
    pieces = [vocabulary.piece(token) for token in range(vocabulary.n_vocab)]
    return np.array([vocabulary.is_end(t) or (piece != b"" and b"\0" not in piece) for t, piece in enumerate(pieces)])


def _differences(
    vocabulary: Vocabulary, formats: Formats, text: Any, grammar: str, rng: random.Random, steps: int
) -> list[str]:
    """Where the two disagree about the tokens of `text` on a random walk."""
    limits = formats.constraint(ReplyFormat(grammar=grammar))
    assert limits is not None
    theirs, found, said = Reference(vocabulary, grammar), [], b""
    for _ in range(steps):
        ours, reference = limits.allowed() & text, theirs.allowed() & text
        if ours.sum() == 1:  # only one text can follow: llguidance spells it in the tokenizer's own tokens alone
            reference &= ours
        found += [f"{said!r} then {vocabulary.piece(int(t))!r}: {ours[t]}" for t in np.flatnonzero(ours != reference)]
        next_ones = [int(t) for t in np.flatnonzero(ours & reference) if not vocabulary.is_end(int(t))]
        if found or not next_ones:
            break
        token = rng.choice(next_ones)
        limits.take(token)
        low.llama_sampler_accept(theirs.native, token)
        said += vocabulary.piece(token)
    theirs.close()
    return found


def test_a_grammar_allows_what_llama_cpp_allows(vocabulary: Vocabulary, formats: Formats, text: Any) -> None:
    for seed in range(15):
        rng = random.Random(seed)
        grammar = _random_grammar(rng)
        assert _differences(vocabulary, formats, text, grammar, rng, 5) == [], grammar


def test_the_grammar_of_json_allows_what_llama_cpp_allows(vocabulary: Vocabulary, formats: Formats, text: Any) -> None:
    assert _differences(vocabulary, formats, text, JSON, random.Random(1), 20) == []

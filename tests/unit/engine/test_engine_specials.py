"""Texts with more special tokens than llama.cpp can look for in time."""

from __future__ import annotations

import pytest

from hali.engine.specials import SpecialTexts

SPECIAL = SpecialTexts([b"<s>", b"</s>", b"<|im_end|>", b"", b"[INST]"])


@pytest.mark.parametrize(
    ("data", "most", "said"),
    [
        (b"", 0, False),
        (b"<s>", 3, False),  # shorter than there may be
        (b"<s><s>", 1, True),
        (b"<s></s>", 1, True),
        (b"<s></s>", 2, False),
        (b"<" * 100, 10, False),  # begins like one and is none
        (b"<|im_end|>" * 11, 10, True),
        (b"<|im_end|>" * 10, 10, False),
        (b"[INST] a" * 6, 5, True),
        (b"plain text " * 100, 5, False),
    ],
)
def test_special_tokens_are_counted_as_far_as_it_matters(data: bytes, most: int, said: bool) -> None:
    assert SPECIAL.too_many(data, most) is said


def test_a_vocabulary_without_special_tokens_has_never_too_many() -> None:
    assert not SpecialTexts([]).too_many(b"<s>" * 100_000)

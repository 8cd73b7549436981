"""What a model is good for, told from its metadata."""

from __future__ import annotations

import pytest

from hali.engine.embedding import packed
from hali.engine.kinds import kind_of, pooling_of, rows_of, sequences_of


def meta(**said: str):
    values = {"general.architecture": "a", **{f"a.{name}".replace("__", "."): value for name, value in said.items()}}
    return lambda key: values.get(key, "")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({}, "chat"),
        ({"pooling_type": "0"}, "chat"),
        ({"pooling_type": "77"}, "chat"),
        ({"pooling_type": "1"}, "embedding"),
        ({"pooling_type": "3"}, "embedding"),
        ({"pooling_type": "4"}, "rerank"),
        ({"attention__causal": "false"}, "embedding"),
        ({"attention__causal": "true"}, "chat"),
        ({"attention__causal": "false", "pooling_type": "4"}, "rerank"),
    ],
)
def test_the_kind_follows_from_pooling_and_attention(said: dict[str, str], kind: str) -> None:
    assert kind_of(meta(**said), encoder_only=False) == kind


def test_an_encoder_alone_makes_vectors_whatever_it_says() -> None:
    assert kind_of(meta(), encoder_only=True) == "embedding"


def test_pooling_is_as_the_file_says_and_else_the_mean() -> None:
    assert [pooling_of(meta(pooling_type=text)) for text in ("2", "3", "0", "9", "-1", "x")] == [2, 3, 1, 1, 1, 1]


def test_an_embedding_model_takes_what_it_was_trained_for_and_a_chat_model_a_batch() -> None:
    assert rows_of("embedding", trained=512, wanted=0, n_batch=64) == 512
    assert rows_of("embedding", trained=32_768, wanted=0, n_batch=64) == 2048
    assert rows_of("rerank", trained=32_768, wanted=8192, n_batch=64) == 8192
    assert rows_of("chat", trained=8192, wanted=4096, n_batch=512) == 512


def test_as_many_texts_are_computed_together_as_divide_the_rows() -> None:
    assert [sequences_of(rows, 8) for rows in (512, 514, 511, 509, 6, 1)] == [8, 2, 7, 1, 6, 1]


def test_texts_are_packed_in_order_as_many_as_fit() -> None:
    assert packed([], rows=8, sequences=2) == []
    assert packed([8, 1, 7, 8], rows=8, sequences=9) == [[0], [1, 2], [3]]
    assert packed([1, 1, 1, 1, 1], rows=8, sequences=2) == [[0, 1], [2, 3], [4]]

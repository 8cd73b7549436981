"""Questions whose answers are worked out at once: what would take long is refused before it is begun, or done in steps."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("llama_cpp")

from hali.engine import embedding
from hali.engine.backend import Model
from hali.engine.chat import Prompter
from hali.engine.embedding import Embedder
from hali.engine.lengths import SHORT
from hali.engine.options import EngineOptions
from hali.engine.queries import Answerer
from hali.model.errors import UsageError
from hali.model.generation import Answer, Detokenize, Embed, Query, Rerank, Text, Tokenize, Tokens

N_CTX = 100_000


class FakeModel:
    """A token a byte."""

    n_vocab, n_ctx, n_trained, longest_token = 256, N_CTX, N_CTX, 1

    def __init__(self, kind: str = "chat") -> None:
        self.kind = kind
        self.asked = 0

    def tokenize(self, text: str, **_: bool) -> list[int]:
        self.asked += 1
        return [*text.encode()]

    def piece(self, token: int, *, special: bool) -> bytes:
        return bytes([token])

    def meta(self, key: str) -> str:
        return ""

    def specials(self) -> Any:
        return SimpleNamespace(bos=-1, eos=-1, separator=-1, add_bos=False, add_eos=False)


def answers(model: FakeModel, query: Query) -> Iterator[Answer | None]:
    options = EngineOptions(n_ctx=N_CTX, n_batch=N_CTX)
    return Answerer(cast(Model, model), cast(Prompter, None), Embedder(cast(Model, model), options)).answer(query)


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("chat", lambda text: Tokenize(text)),
        ("embedding", lambda text: Embed(("a", text))),
        ("rerank", lambda text: Rerank(text[:50], (text[50:],))),
    ],
)
def test_a_text_too_long_for_any_tokens_is_refused_before_they_are_made(kind: str, query: Any) -> None:
    model = FakeModel(kind)
    with pytest.raises(UsageError, match="never holds more than 100000") as caught:
        next(answers(model, query("1" * (N_CTX + 1))))
    assert caught.value.code == "context_length"
    assert model.asked == (kind == "embedding"), "the short one before it"


def test_a_text_as_long_as_the_context_becomes_tokens_and_text_again() -> None:
    model = FakeModel()
    made = next(answers(model, Tokenize("1" * N_CTX)))
    assert isinstance(made, Tokens) and len(made.tokens) == N_CTX
    assert next(answers(model, Detokenize(made.tokens))) == Text("1" * N_CTX)


def test_more_tokens_than_a_context_holds_do_not_become_text() -> None:
    with pytest.raises(UsageError, match="100001 tokens, at most 100000") as caught:
        next(answers(FakeModel(), Detokenize((49,) * (N_CTX + 1))))
    assert caught.value.code == "context_length"


def test_small_contexts_do_not_limit_what_takes_milliseconds() -> None:
    model = FakeModel()
    model.n_ctx = 8  # type: ignore[misc]
    made = next(answers(model, Tokenize("1" * SHORT)))
    assert isinstance(made, Tokens)
    assert next(answers(model, Detokenize(made.tokens))) == Text("1" * SHORT)


@pytest.mark.parametrize("kind", ["embedding", "rerank"])
def test_the_tokens_of_many_texts_are_made_a_few_at_a_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "STEP_TOKENS", 100)
    model = FakeModel(kind)
    texts = ("1" * 40,) * 9
    steps = answers(model, Rerank("", texts) if kind == "rerank" else Embed(texts))
    asked = []
    for _ in range(3):
        assert next(steps) is None
        asked.append(model.asked // (2 if kind == "rerank" else 1))
    assert asked == [3, 6, 9]

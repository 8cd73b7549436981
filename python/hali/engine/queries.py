"""Questions to a loaded model that generate nothing. Worker only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from hali.engine.backend import Model
from hali.engine.chat import Prompter
from hali.engine.embedding import Embedder
from hali.engine.lengths import SHORT, SPLIT, check_length, size_of
from hali.model.errors import UsageError
from hali.model.generation import Answer, Detokenize, Embed, Query, Render, Rerank, Text, Tokenize, Tokens


class Answerer:
    """Answers between two batches: at once what needs no computing, else batch by batch."""

    def __init__(self, model: Model, prompter: Prompter, embedder: Embedder) -> None:
        self._model, self._prompter, self._embedder = model, prompter, embedder

    def answer(self, query: Query) -> Iterator[Answer | None]:
        """The answer, None for each batch before it. UsageError for what this model cannot answer."""
        if isinstance(query, Embed):
            yield from self._embedder.embed(query)
        elif isinstance(query, Rerank):
            yield from self._embedder.rerank(query)
        else:
            yield self._at_once(query)

    def _at_once(self, query: Tokenize | Detokenize | Render) -> Answer:
        if isinstance(query, Tokenize):
            return self._tokenized(query)
        if isinstance(query, Render):
            return self._render(query)
        most = max(SHORT, self._model.n_ctx)
        if len(query.tokens) > most:
            raise UsageError(f"{len(query.tokens)} tokens, at most {most} at once", hint=SPLIT, code="context_length")
        return Text(b"".join(self._spelled(query.tokens)).decode("utf-8", "replace"))

    def _tokenized(self, query: Tokenize) -> Tokens:
        check_length("the text", size_of(query.text), self._model, self._model.n_ctx, hint=SPLIT)
        return self._tokens(
            self._model.tokenize(query.text, add_special=query.add_special, parse_special=query.parse_special)
        )

    def _render(self, query: Render) -> Tokens:
        """The rows of an image are tokens too, as many as the image takes: below 0, and without bytes."""
        prompt = self._prompter.prompt(query.request)
        for picture in prompt.pictures:
            picture.close()
        if prompt.pictures:
            return Tokens(tuple(prompt.tokens), prompt.text)
        answer = self._tokens(prompt.tokens)
        return msgspec.structs.replace(answer, text=prompt.text) if prompt.text else answer

    def _tokens(self, tokens: Sequence[int]) -> Tokens:
        pieces = self._spelled(tokens)
        return Tokens(tuple(tokens), b"".join(pieces).decode("utf-8", "replace"), pieces)

    def _spelled(self, tokens: Sequence[int]) -> tuple[bytes, ...]:
        """The bytes of each token, special ones as they are spelled."""
        for token in tokens:
            if not 0 <= token < self._model.n_vocab:
                raise UsageError(f"there is no token {token}; this model has {self._model.n_vocab}", code="token")
        return tuple(self._model.piece(token, special=True) for token in tokens)

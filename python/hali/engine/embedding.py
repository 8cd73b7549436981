"""Vectors and scores of texts: a context of its own kind beside (or, in an embedding model, instead of) that for chats. Worker only."""

from __future__ import annotations

import ctypes
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from llama_cpp import llama_cpp as low
from numpy.typing import NDArray

from hali.engine.backend import Model
from hali.engine.batch import Batch
from hali.engine.kinds import rows_of, sequences_of
from hali.engine.lengths import SPLIT, check_length, size_of
from hali.engine.options import EngineOptions
from hali.engine.schedule import Slice
from hali.model.errors import EngineFailed, UsageError
from hali.model.generation import Embed, Embeddings, Rerank, Scores

MAX_INPUTS = 2048  # of one query, as in the OpenAI API
STEP_TOKENS = 8192  # made at once: 20 ms
Vector = NDArray[np.float32]
T = TypeVar("T")


class Embedder:
    """Answers `Embed` and `Rerank` for one model. The context is made at the first question."""

    def __init__(self, model: Model, options: EngineOptions) -> None:
        self._model, self._options = model, options
        self._ctx: Any = None
        self._batch: Batch | None = None

    @property
    def rows(self) -> int:
        """The longest text, in tokens."""
        options, model = self._options, self._model
        return rows_of(model.kind, trained=model.n_trained, wanted=options.n_ctx, n_batch=options.n_batch)

    def close(self) -> None:
        """Give the context back, if there is one of our own. Before the model's end."""
        if self._ctx is not None and self._ctx is not self._model.ctx:
            low.llama_free(self._ctx)
        self._ctx = None

    # --- questions

    def embed(self, query: Embed) -> Iterator[Embeddings | None]:
        """One vector an input, None after each step before the last. UsageError for a model that ranks, and for wrong inputs."""
        if self._model.kind == "rerank":
            raise UsageError("this model scores documents; it makes no vectors", code="unsupported")
        numbered = enumerate(_few(query.inputs), query.first)
        texts = yield from _a_few_at_a_time(self._tokens(*item) for item in numbered)
        width = int(low.llama_model_n_embd_out(self._model.model))
        found: list[bytes] = []
        for vectors in self._vectors(texts, width):
            found += ((_unit(vector) if query.normalize else vector).astype("<f4").tobytes() for vector in vectors)
            if len(found) < len(texts):
                yield None
        yield Embeddings(tuple(found), sum(map(len, texts)))

    def rerank(self, query: Rerank) -> Iterator[Scores | None]:
        """One score a document, None after each step before the last. UsageError for a model that has no classifier."""
        if self._model.kind != "rerank":
            raise UsageError(
                "this model has no score to give; rerank with one that was trained for it", code="unsupported"
            )
        documents = enumerate(_few(query.documents))
        texts = yield from _a_few_at_a_time(self._pair(number, query.query, text) for number, text in documents)
        scores: list[float] = []
        for vectors in self._vectors(texts, 1):
            scores += (float(vector[0]) for vector in vectors)
            if len(scores) < len(texts):
                yield None
        yield Scores(tuple(scores), sum(map(len, texts)))

    # --- tokens

    def _tokens(self, number: int, text: str | tuple[int, ...]) -> list[int]:
        if isinstance(text, str):
            self._check_length(number, text)
            tokens = self._model.tokenize(text, add_special=True, parse_special=False)
        else:
            tokens = list(text)
            wrong = next((token for token in tokens if not 0 <= token < self._model.n_vocab), None)
            if wrong is not None:
                raise UsageError(f"there is no token {wrong}; this model has {self._model.n_vocab}", code="token")
        return self._checked(number, tokens)

    def _check_length(self, number: int, *texts: str) -> None:
        """UsageError before the tokens are made, where the texts cannot be few enough."""
        check_length(f"input {number}", size_of(*texts), self._model, self.rows, hint=SPLIT)

    def _checked(self, number: int, tokens: list[int]) -> list[int]:
        if not tokens:
            raise UsageError(f"input {number} is empty", code="empty_prompt")
        if len(tokens) > self.rows:
            raise UsageError(
                f"input {number} has {len(tokens)} tokens; this model takes at most {self.rows} at once",
                hint=SPLIT,
                code="context_length",
                details={"prompt_tokens": len(tokens), "n_ctx": self.rows, "input": number},
            )
        return tokens

    def _pair(self, number: int, query: str, document: str) -> list[int]:
        self._check_length(number, query, document)
        return self._checked(number, self._together(query, document))

    def _together(self, query: str, document: str) -> list[int]:
        """As the model was trained: by its own template if it has one, else both texts with what its vocabulary puts between."""
        template = self._model.meta("tokenizer.chat_template.rerank")
        if template:
            text = template.replace("{query}", query).replace("{document}", document)
            return self._model.tokenize(text, add_special=False)
        special = self._model.specials()
        end = special.eos if special.add_eos and special.eos >= 0 else None
        between = [token for token in (end, special.separator) if token is not None and token >= 0]
        return [
            *([special.bos] if special.add_bos and special.bos >= 0 else []),
            *self._model.tokenize(query, add_special=False, parse_special=False),
            *between,
            *self._model.tokenize(document, add_special=False, parse_special=False),
            *([end] if end is not None else between),
        ]

    # --- computing

    def _vectors(self, texts: Sequence[list[int]], width: int) -> Iterator[list[Vector]]:
        """What the pooling makes of each text, in their order, as many at once as are computed together."""
        for group in packed(
            [len(text) for text in texts], rows=self.rows, sequences=sequences_of(self.rows, self._options.n_seq_max)
        ):
            yield self._compute([texts[number] for number in group], width)

    def _compute(self, texts: Sequence[list[int]], width: int) -> list[Vector]:
        ctx, batch = self._context()
        low.llama_memory_clear(low.llama_get_memory(ctx), False)
        slices = [Slice(number, len(text)) for number, text in enumerate(texts)]
        batch.fill(slices, lambda number: texts[number], lambda _: 0)
        ctypes.memset(batch.native.logits, 1, batch.native.n_tokens)  # every row counts for the pooling
        self._model.abort[0] = b"\0"
        code = int(low.llama_decode(ctx, batch.native))
        if code != 0:
            raise EngineFailed(f"llama_decode of {batch.native.n_tokens} rows for vectors failed with {code}")
        return [self._read(ctx, number, width) for number in range(len(texts))]

    def _read(self, ctx: Any, number: int, width: int) -> Vector:
        found = low.llama_get_embeddings_seq(ctx, number)
        if not found:
            raise EngineFailed("llama.cpp computed no vector")
        vector = np.ctypeslib.as_array(found, shape=(width,)).copy()
        if not np.isfinite(vector).all():
            raise EngineFailed("the model computed a vector that is not made of numbers")
        return vector

    def _context(self) -> tuple[Any, Batch]:
        if self._ctx is None or self._batch is None:
            own = self._model.kind == "chat"
            self._ctx = self._model.embedding_context(self._options, self.rows) if own else self._model.ctx
            self._batch = Batch(self.rows)
        return self._ctx, self._batch


def packed(lengths: Sequence[int], *, rows: int, sequences: int) -> list[list[int]]:
    """The numbers of the texts that are computed together: in order, as many as fit `rows` tokens and `sequences`."""
    groups: list[list[int]] = []
    used = rows
    for number, length in enumerate(lengths):
        if used + length > rows or len(groups[-1]) >= sequences:
            groups.append([])
            used = 0
        groups[-1].append(number)
        used += length
    return groups


def _few(items: tuple[T, ...]) -> tuple[T, ...]:
    if len(items) > MAX_INPUTS:
        raise UsageError(f"{len(items)} inputs, at most {MAX_INPUTS} at once", code="too_many_inputs")
    return items


def _a_few_at_a_time(texts: Iterable[list[int]]) -> Generator[None, None, list[list[int]]]:
    """All of them, None after each `STEP_TOKENS` tokens: those of many texts take seconds, and replies go on meanwhile."""
    found: list[list[int]] = []
    made = 0
    for tokens in texts:
        found.append(tokens)
        made += len(tokens)
        if made >= STEP_TOKENS:
            made = 0
            yield None
    return found


def _unit(vector: Vector) -> Vector:
    """The same direction with length 1; a vector of zeros has none and stays."""
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return vector if length == 0.0 else (vector / length).astype(np.float32)

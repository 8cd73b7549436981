"""What a model is good for, as its file says. Pure."""

from __future__ import annotations

from collections.abc import Callable

from hali.model.errors import UsageError
from hali.model.generation import EngineKind

RANK = 4  # llama_pooling_type: a score instead of a vector
POOLINGS = (1, 2, 3, RANK)  # mean, first token, last token, score; 0 is one vector a token, which nobody asks for
MEAN = 1  # what is made of models that do not say, as sentence-transformers does
ENCODER_ROWS = 2048  # the attention of one head is a square of them: 200 MB with 12 heads


def kind_of(meta: Callable[[str], str], *, encoder_only: bool) -> EngineKind:
    """What the metadata (`meta(key)`, empty if there is none) says. Texts cannot be made by a model that sees them whole."""
    arch = meta("general.architecture")
    if pooling_of(meta) == RANK:
        return "rerank"
    if encoder_only or _said(meta) is not None or meta(f"{arch}.attention.causal") == "false":
        return "embedding"
    return "chat"


def pooling_of(meta: Callable[[str], str]) -> int:
    """How the vectors of a text's tokens become one (llama_pooling_type)."""
    return _said(meta) or MEAN


def must_write(kind: EngineKind) -> None:
    """`UsageError` for a model that makes no text."""
    if kind != "chat":
        what = "scores documents" if kind == "rerank" else "makes vectors of texts"
        raise UsageError(f"this model {what}; it cannot write", code="unsupported")


def _said(meta: Callable[[str], str]) -> int | None:
    text = meta(f"{meta('general.architecture')}.pooling_type")
    return int(text) if text in map(str, POOLINGS) else None


def sequences_of(rows: int, most: int) -> int:
    """Texts computed together: a divisor of `rows`, or llama.cpp aborts when it plans a batch for all of them."""
    return next(count for count in range(min(rows, most), 0, -1) if rows % count == 0)


def rows_of(kind: EngineKind, *, trained: int, wanted: int, n_batch: int) -> int:
    """The longest text, in tokens, that is made a vector: it is computed in one piece.

    A chat model computes the probabilities of all tokens besides, at each row, and so gets no more than a batch.
    """
    if kind == "chat":
        return min(trained, n_batch)
    return min(trained, wanted or ENCODER_ROWS)

"""The shapes of llama-server's answers, for the OpenAPI document; tests read every answer by them, strictly."""

from __future__ import annotations

from typing import Literal

from hali.api.openai_shapes import Shape


class Piece(Shape):
    """A token and what it stands for: a text, or its bytes where it is no UTF-8 alone."""

    id: int
    piece: str | list[int]


class TokenList(Shape):
    """The answer of /tokenize; pieces if they were asked for."""

    tokens: list[int | Piece]


class TextOfTokens(Shape):
    """The answer of /detokenize."""

    content: str


class RenderedPrompt(Shape):
    """The answer of /apply-template."""

    prompt: str


class RankUsage(Shape):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class RankedText(Shape):
    """A document that was sent."""

    text: str


class Rank(Shape):
    """How well the `index`-th document answers."""

    index: int
    relevance_score: float
    document: RankedText | None = None


class Ranking(Shape):
    """The best first."""

    model: str
    object: Literal["list"]
    usage: RankUsage
    results: list[Rank]


class TextRank(Shape):
    """The same as Hugging Face's TEI tells it."""

    index: int
    score: float
    text: str | None = None

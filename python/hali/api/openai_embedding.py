"""What POST /v1/embeddings takes and answers."""

from __future__ import annotations

import base64
from array import array
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hali.api.openai_completion import Token, prompts_of
from hali.api.refusals import invalid
from hali.api.vectors import numbers, packed, shortened
from hali.model.generation import Embed, Embeddings

MAX_INPUTS = 2048  # OpenAI's limit


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """The body. Fields that are not named here are ignored: they do not change the vectors."""

    model: str
    input: str | list[Token | str | list[Token]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65536)] | None = None


class Embedding(msgspec.Struct, frozen=True):
    """The vector of the `index`-th input; as text, its little-endian float32 in base64."""

    index: int
    embedding: str | list[float]
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(msgspec.Struct, frozen=True):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(msgspec.Struct, frozen=True):
    """One vector an input, in their order."""

    model: str
    data: list[Embedding]
    usage: EmbeddingUsage
    object: Literal["list"] = "list"


def embed_query(body: EmbeddingRequest) -> Embed:
    """What the engine is asked; `UsageError` for inputs that say nothing."""
    inputs = prompts_of(body.input, "input")
    if len(inputs) > MAX_INPUTS:
        raise invalid("input", f"at most {MAX_INPUTS} in one request")
    if "" in inputs:
        raise invalid("input", "must not be empty")
    return Embed(tuple(inputs))


def embedding_list(body: EmbeddingRequest, model: str, made: Embeddings) -> EmbeddingList:
    """The answer, as `encoding_format` and `dimensions` want it; `UsageError` if vectors have fewer dimensions."""
    vectors = [_cut(numbers(each), body.dimensions) for each in made.vectors]
    encode = _as_text if body.encoding_format == "base64" else _as_numbers
    data = [Embedding(index, encode(vector)) for index, vector in enumerate(vectors)]
    return EmbeddingList(model, data, EmbeddingUsage(made.prompt_tokens, made.prompt_tokens))


def _cut(vector: array[float], dimensions: int | None) -> array[float]:
    if dimensions is None:
        return vector
    if dimensions > len(vector):
        raise invalid("dimensions", f"this model's vectors have {len(vector)} dimensions")
    return shortened(vector, dimensions)


def _as_text(vector: array[float]) -> str:
    return base64.b64encode(packed(vector)).decode()


def _as_numbers(vector: array[float]) -> Any:
    return vector.tolist()

"""The shapes of Ollama's answers, for the OpenAPI document; tests read every answer by them, strictly.

Durations are nanoseconds, sizes bytes, times RFC 3339.
"""

from __future__ import annotations

from typing import Any, Literal

from hali.api.openai_shapes import ChosenToken, Shape


class NumberedFunction(Shape):
    """A call that the model wants made."""

    index: int
    name: str
    arguments: dict[str, Any]


class NumberedCall(Shape):
    """The same with its id."""

    id: str
    function: NumberedFunction


class SpokenMessage(Shape):
    """What the model said."""

    role: Literal["assistant"]
    content: str
    thinking: str | None = None
    tool_calls: list[NumberedCall] | None = None


class Reply(Shape, kw_only=True):
    """What whole answers have in common; to load or unload a model takes no tokens and no durations."""

    model: str
    created_at: str
    done: Literal[True]
    done_reason: Literal["stop", "length", "load", "unload"]
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    logprobs: list[ChosenToken] | None = None


class ChatReply(Reply, kw_only=True):
    """The answer of /api/chat."""

    message: SpokenMessage


class GenerateReply(Reply, kw_only=True):
    """The answer of /api/generate."""

    response: str
    thinking: str | None = None
    tool_calls: list[NumberedCall] | None = None


class EmbedReply(Shape):
    """The answer of /api/embed: a vector for each input."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    prompt_eval_count: int


class EmbeddingsReply(Shape):
    """The answer of /api/embeddings."""

    embedding: list[float]


class Version(Shape):
    """Of hali."""

    version: str


class Details(Shape):
    """What a model is, by its name or its file."""

    parent_model: Literal[""]
    format: Literal["gguf"]
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class ListedModel(Shape):
    """A model that can answer."""

    name: str
    model: str
    digest: str
    size: int
    modified_at: str
    details: Details


class ListedModels(Shape):
    """All of them."""

    models: list[ListedModel]


class RunningModel(Shape):
    """A model in memory; a `context_length` of 0 is not known yet."""

    name: str
    model: str
    digest: str
    size: int
    details: Details
    size_vram: int
    expires_at: str
    context_length: int


class RunningModels(Shape):
    """All of them."""

    models: list[RunningModel]


class ShownModel(Shape):
    """What the file of a model says about it."""

    modified_at: str
    modelfile: str
    parameters: Literal[""]
    template: str
    license: str
    details: Details
    model_info: dict[str, str | int]
    capabilities: list[Literal["completion", "vision", "tools", "thinking", "embedding"]]


class PullEnd(Shape):
    """The last line of a pull, alone if it is not streamed."""

    status: Literal["success"]

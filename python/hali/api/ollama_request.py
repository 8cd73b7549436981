"""What Ollama's API takes: typed. Fields that are not named here do not change what a model of ours says."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Probability = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
_LAST = 2**31 - 1
Small = Annotated[int, Meta(ge=-_LAST - 1, le=_LAST)] | Annotated[float, Meta(ge=-_LAST - 1, le=_LAST)]


class Options(msgspec.Struct):
    """How tokens are chosen. Defaults are Ollama's own; those of loading (num_ctx, num_gpu, …) are hali's to decide.

    As with Ollama, a whole number may be written as a float: some clients keep all options as floats.
    """

    temperature: Annotated[float, Meta(ge=0, le=10)] | None = None
    top_k: Small | None = None  # 0 and below = off
    top_p: Probability | None = None
    min_p: Probability | None = None
    typical_p: Probability | None = None
    repeat_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None
    repeat_last_n: Annotated[int, Meta(ge=-1, le=_LAST)] | Annotated[float, Meta(ge=-1, le=_LAST)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    seed: Small | None = None  # -1 = drawn anew
    num_predict: Small | None = None  # below 0 = until it stops
    stop: str | list[str] | None = None
    mirostat: Annotated[int, Meta(ge=0, le=2)] | Annotated[float, Meta(ge=0, le=2)] | None = None
    mirostat_tau: Annotated[float, Meta(ge=0)] | None = None
    mirostat_eta: Annotated[float, Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        for name in ("top_k", "repeat_last_n", "seed", "num_predict", "mirostat"):
            value = getattr(self, name)
            if isinstance(value, float):
                if not value.is_integer():
                    raise ValueError(f"`{name}` is a whole number, not {value}")
                setattr(self, name, int(value))


class Function(msgspec.Struct):
    """A function that was called."""

    name: str
    arguments: dict[str, Any] = {}


class Call(msgspec.Struct):
    """A call of an earlier turn; older clients send no id."""

    function: Function
    id: str | None = None


ROLES = ("system", "user", "assistant", "tool")


class ChatMessage(msgspec.Struct):
    """One turn. Whether a role is written large does not matter to Ollama."""

    role: Annotated[str, Meta(description=f"one of {', '.join(ROLES)}")]
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None  # base64
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None

    def __post_init__(self) -> None:
        self.role = self.role.lower()
        if self.role not in ROLES:
            raise ValueError(f"`role` is one of {', '.join(ROLES)}, not {self.role[:40]!r}")


class FunctionSpec(msgspec.Struct):
    """A function that may be called."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolSpec(msgspec.Struct):
    """A tool; functions are the only kind."""

    function: FunctionSpec
    type: str | None = None


class Generation(msgspec.Struct):
    """What both ways to generate have in common."""

    model: str
    stream: bool | None = None  # None = yes
    format: str | dict[str, Any] | None = None
    options: Options | None = None
    keep_alive: float | str | None = None
    think: bool | Literal["low", "medium", "high"] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


class ChatBody(Generation, kw_only=True):
    """The body of POST /api/chat."""

    messages: list[ChatMessage] | None = None
    tools: list[ToolSpec] | None = None


class GenerateBody(Generation, kw_only=True):
    """The body of POST /api/generate."""

    prompt: str | None = None
    system: str | None = None
    images: list[str] | None = None
    raw: bool | None = None
    suffix: str | None = None  # this and the next two are refused unless empty
    template: str | None = None
    context: list[int] | None = None


class EmbedBody(msgspec.Struct):
    """The body of POST /api/embed."""

    model: str
    input: str | list[str]
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    keep_alive: float | str | None = None


class EmbeddingsBody(msgspec.Struct):
    """The body of POST /api/embeddings, the older form."""

    model: str
    prompt: str | None = None
    keep_alive: float | str | None = None


class Named(msgspec.Struct):
    """A body that names a model; `name` is the older word for it."""

    model: str | None = None
    name: str | None = None


class PullBody(Named):
    """The body of POST /api/pull."""

    stream: bool | None = None

"""What a client asks of a model, and what comes back, independent of any HTTP dialect."""

from __future__ import annotations

from typing import Literal

import msgspec

FinishReason = Literal["stop", "length", "cancelled"]


class Message(msgspec.Struct, frozen=True):
    """One turn of a chat."""

    role: str
    content: str
    name: str | None = None


class SamplingParams(msgspec.Struct, frozen=True):
    """How tokens are chosen. Defaults are the OpenAI API's where it has one, else llama.cpp's neutral values."""

    temperature: float = 1.0  # 0 = greedy
    top_p: float = 1.0
    top_k: int = 0  # 0 = off
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None  # None = drawn anew for each request
    max_tokens: int | None = None  # None = until a stop or the context is full
    stop: tuple[str, ...] = ()
    logit_bias: dict[int, float] = {}


class GenerateRequest(msgspec.Struct, frozen=True):
    """A request to one loaded model: a chat (`messages`) or a raw `prompt`, never both."""

    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    sampling: SamplingParams = SamplingParams()


class Chunk(msgspec.Struct, frozen=True, tag="chunk"):
    """Text that is final: complete UTF-8, past every stop string. `tokens` counts the tokens sampled since the last one."""

    text: str
    tokens: int


class Usage(msgspec.Struct, frozen=True):
    """Tokens of a finished request and the seconds it took; `ttft_s` is None if no token came."""

    prompt_tokens: int
    completion_tokens: int
    ttft_s: float | None
    total_s: float


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The last event of every generation that did not fail."""

    reason: FinishReason
    usage: Usage


GenerationEvent = Chunk | Done


class EngineInfo(msgspec.Struct, frozen=True):
    """What a loaded engine says about itself."""

    model_id: str
    pid: int
    n_ctx: int  # context of one sequence, tokens
    n_seq_max: int  # sequences decoded together
    n_vocab: int
    n_layer: int
    layer_start: int
    layer_end: int
    architecture: str
    memory_bytes: int | None = None  # None = not measured
    has_chat_template: bool = False

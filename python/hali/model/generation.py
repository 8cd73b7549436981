"""What a client asks of a model, and what comes back, independent of any HTTP dialect."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]
EngineKind = Literal["chat", "embedding", "rerank"]
ToolChoice = Literal["auto", "none", "required"]
MEDIA = "<__media__>"  # where an image belongs in a message's text; libmtmd's own default marker


class ToolCall(msgspec.Struct, frozen=True):
    """A call that a model wants made; `arguments` is the JSON text of an object."""

    id: str
    name: str
    arguments: str


class Tool(msgspec.Struct, frozen=True):
    """A function that a model may call; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] = {}
    strict: bool = False  # a call that must be made is refused, not made without a schema that no grammar can say


class Message(msgspec.Struct, frozen=True):
    """One turn of a chat. `content` has the marker `MEDIA` for each of `images` (whole files), in their order."""

    role: str
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()  # of an assistant
    tool_call_id: str | None = None  # of a tool's answer
    reasoning: str | None = None  # what an assistant thought before `content`
    images: tuple[bytes, ...] = ()


MAX_STOPS = 16  # stop strings; OpenAI takes 4, programs for llama.cpp and vLLM send more, and each is searched for at each token


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
    min_tokens: int = 0  # no end of the reply before so many tokens
    typical_p: float = 1.0
    top_n_sigma: float = -1.0  # below 0 = off
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    mirostat: int = 0  # 0 = off, 1, 2: then instead of top_k, top_p, …
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    repeat_last_n: int = 64  # tokens looked back at by the penalties; -1 = the whole context
    dry_multiplier: float = 0.0  # 0 = off
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")


class ReplyFormat(msgspec.Struct, frozen=True):
    """What a reply must look like: an instance of a JSON `schema`, or a text of a GBNF `grammar`; never both."""

    schema: dict[str, Any] | bool | None = None
    grammar: str | None = None


class GenerateRequest(msgspec.Struct, frozen=True, tag="generate"):
    """A request to one loaded model: a chat (`messages`), a raw `prompt` or its `tokens`; exactly one of the three."""

    messages: tuple[Message, ...] | None = None
    prompt: str | None = None
    sampling: SamplingParams = SamplingParams()
    tokens: tuple[int, ...] | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    tool_name: str | None = None  # with tool_choice "required": this tool and no other
    parallel_tool_calls: bool = True
    format: ReplyFormat | None = None
    logprobs: int | None = None  # how many alternatives to tell for each token, 0 to 20; None = no logprobs
    template_kwargs: dict[str, Any] = {}  # further variables of the chat template, for example enable_thinking
    again: bool = False  # one more reply to a prompt: its tokens are counted with the first
    goes_on: bool = False  # the reply is the rest of the last turn, which is the assistant's


class Candidate(msgspec.Struct, frozen=True):
    """A token, its bytes, and the natural logarithm of its probability before any sampler but the temperature's."""

    token: int
    text: bytes
    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token that was chosen, and the likeliest ones at its place."""

    chosen: Candidate
    top: tuple[Candidate, ...] = ()


class Usage(msgspec.Struct, frozen=True):
    """Tokens of a request and the seconds it took; `ttft_s` is None if no token came."""

    prompt_tokens: int
    completion_tokens: int
    ttft_s: float | None
    total_s: float
    cached_tokens: int = 0  # of the prompt, that were in the KV cache already
    queue_s: float = 0.0  # until its first row was computed
    reasoning_tokens: int = 0


class Chunk(msgspec.Struct, frozen=True, tag="chunk"):
    """Text that is final: complete UTF-8, past every stop string. `tokens` counts the tokens sampled since the last one."""

    text: str
    tokens: int
    reasoning: bool = False  # a thought, not the answer
    logprobs: tuple[TokenLogprob, ...] = ()  # of those tokens, where they were asked for
    usage: Usage | None = None  # so far, with the first event of a reply


class ToolCalled(msgspec.Struct, frozen=True, tag="tool_call"):
    """A whole call, the `index`-th of its reply."""

    index: int
    call: ToolCall
    tokens: int = 0
    usage: Usage | None = None  # so far, with the first event of a reply


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The last event of every generation that did not fail; `stop` is the stop string that ended it."""

    reason: FinishReason
    usage: Usage
    stop: str | None = None


GenerationEvent = Chunk | ToolCalled | Done


# --- questions with one answer, which generate nothing


class Tokenize(msgspec.Struct, frozen=True, tag="tokenize"):
    """Which tokens are this text? Answered by `Tokens`."""

    text: str
    add_special: bool = False  # BOS and EOS as the vocabulary asks
    parse_special: bool = True  # special tokens spelled in the text count as such


class Detokenize(msgspec.Struct, frozen=True, tag="detokenize"):
    """Which text are these tokens? Answered by `Text`."""

    tokens: tuple[int, ...]


class Render(msgspec.Struct, frozen=True, tag="render"):
    """What is the prompt of this chat, by the model's own template? Answered by `Tokens` with its text."""

    request: GenerateRequest


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    """Which vectors stand for these texts (or their tokens)? Answered by `Embeddings`."""

    inputs: tuple[str | tuple[int, ...], ...]
    normalize: bool = True  # to length 1
    first: int = 0  # the number of the first, where others were asked about before


class Rerank(msgspec.Struct, frozen=True, tag="rerank"):
    """How well does each document answer the query? Answered by `Scores`."""

    query: str
    documents: tuple[str, ...]


class Tokens(msgspec.Struct, frozen=True, tag="tokens"):
    """Token ids, the text they stand for, and the bytes of each."""

    tokens: tuple[int, ...]
    text: str
    pieces: tuple[bytes, ...] = ()


class Text(msgspec.Struct, frozen=True, tag="text"):
    """A text; bytes that are no UTF-8 are replaced."""

    text: str


class Embeddings(msgspec.Struct, frozen=True, tag="embeddings"):
    """One vector an input, as little-endian float32."""

    vectors: tuple[bytes, ...]
    prompt_tokens: int


class Scores(msgspec.Struct, frozen=True, tag="scores"):
    """One score a document, larger is better."""

    scores: tuple[float, ...]
    prompt_tokens: int


Query = Tokenize | Detokenize | Render | Embed | Rerank
Answer = Tokens | Text | Embeddings | Scores


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
    reads_images: bool = False
    kind: EngineKind = "chat"  # what it is for: texts, vectors (`Embed`) or scores (`Rerank`); chats give vectors too
    gpu_layers: int = 0  # of the layers, and one more for the output matrix, those on GPUs
    draft: bool = False  # a draft model guesses beside it

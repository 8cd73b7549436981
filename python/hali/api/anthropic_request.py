"""What POST /v1/messages takes: typed, and nothing else that would change the answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hali.model.generation import MAX_STOPS

Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Probability = Annotated[float, Meta(ge=0, le=1)]


class Base64Source(msgspec.Struct, tag="base64"):
    """An image in the request itself."""

    data: str
    media_type: str | None = None  # the file's own first bytes decide


class UrlSource(msgspec.Struct, tag="url"):
    """An image elsewhere: refused, or a request could make this machine connect to any other."""

    url: str


class TextBlock(msgspec.Struct, tag="text"):
    """Text."""

    text: str


class ImageBlock(msgspec.Struct, tag="image"):
    """An image of the user's, or of a tool's answer."""

    source: Base64Source | UrlSource


class ThinkingBlock(msgspec.Struct, tag="thinking"):
    """What the assistant thought in an earlier turn."""

    thinking: str
    signature: str | None = None


class RedactedBlock(msgspec.Struct, tag="redacted_thinking"):
    """A thought that only its maker can read."""

    data: str


class ToolUseBlock(msgspec.Struct, tag="tool_use"):
    """A call that the assistant made in an earlier turn."""

    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(msgspec.Struct, tag="tool_result"):
    """What came of it."""

    tool_use_id: str
    content: str | list[TextBlock | ImageBlock] | None = None
    is_error: bool | None = None


UserBlock = TextBlock | ImageBlock | ToolResultBlock
AssistantBlock = TextBlock | ThinkingBlock | RedactedBlock | ToolUseBlock


class UserTurn(msgspec.Struct, tag="user", tag_field="role"):
    """What the user says, and what tools answered."""

    content: str | list[UserBlock]


class AssistantTurn(msgspec.Struct, tag="assistant", tag_field="role"):
    """What the model said."""

    content: str | list[AssistantBlock]


class SystemTurn(msgspec.Struct, tag="system", tag_field="role"):
    """An instruction between turns."""

    content: str | list[TextBlock]


Turn = UserTurn | AssistantTurn | SystemTurn


class ToolSpec(msgspec.Struct):
    """A tool of the client's own; Anthropic's server tools have another `type` and no schema."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class Choice(msgspec.Struct):
    """Whether and which tool is to be used."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct):
    """Whether the model thinks first, and whether its thoughts are told."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = None  # no local model keeps to one; thoughts count as tokens of the reply
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(msgspec.Struct, tag="json_schema"):
    """The reply is an instance of `schema`."""

    schema: dict[str, Any]


class OutputConfig(msgspec.Struct):
    """What the reply looks like, and how much work goes into it."""

    format: OutputFormat | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


class Countable(msgspec.Struct):
    """All that becomes part of the prompt; also the body of POST /v1/messages/count_tokens.

    Fields that are not named here are ignored: they do not change what a model of ours says.
    """

    model: str
    messages: list[Turn]
    system: str | list[TextBlock] | None = None
    tools: list[ToolSpec] | None = None
    tool_choice: Choice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None  # the older name of output_config.format
    mcp_servers: Any = None  # refused unless empty: hali calls no server in a client's name
    container: Any = None  # … and has none to run code in


class MessagesRequest(Countable, kw_only=True):
    """The body of POST /v1/messages."""

    max_tokens: Count
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop_sequences: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(max_length=MAX_STOPS)] | None = None

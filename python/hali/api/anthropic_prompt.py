"""From Anthropic's turns and blocks to a generation. Pure.

Tool results become messages of the role `tool` before the rest of their turn, and neighbouring turns of one role become one, as
Anthropic does it: many chat templates insist that user and assistant take turns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import msgspec

from hali.api.anthropic_request import (
    AssistantTurn,
    Base64Source,
    Choice,
    Countable,
    ImageBlock,
    MessagesRequest,
    RedactedBlock,
    SystemTurn,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolSpec,
    ToolUseBlock,
    Turn,
    UserTurn,
)
from hali.api.media import image_of, unmistakable, with_images
from hali.api.refusals import invalid, unsupported
from hali.api.tool_schemas import object_schema
from hali.model.generation import GenerateRequest, Message, ReplyFormat, SamplingParams, Tool, ToolCall

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_EFFORTS = {"xhigh": "high", "max": "high"}  # templates that know an effort know low, medium and high


def generate_request(body: Countable) -> GenerateRequest:
    """What the engine is asked; `UsageError` naming the field."""
    for name in ("mcp_servers", "container"):
        if getattr(body, name):
            raise unsupported(name, "is not supported: hali calls no server and runs no code in a client's name")
    if not body.messages:
        raise invalid("messages", "at least one is needed")
    choice, tools = body.tool_choice or Choice("auto"), tuple(_tools(body.tools or []))
    if len({tool.name for tool in tools}) < len(tools):
        raise invalid("tools", "two tools have the same name")
    if choice.type in ("any", "tool") and not tools:
        raise invalid("tool_choice", "there are no tools to choose from")
    if choice.type == "tool" and choice.name not in {tool.name for tool in tools}:
        raise invalid("tool_choice.name", f"there is no tool {str(choice.name)[:80]!r}")
    sampling = _sampling(body) if isinstance(body, MessagesRequest) else SamplingParams()
    messages = unmistakable(_messages(body), tools=tools)
    return GenerateRequest(
        messages=messages,
        sampling=sampling,
        tools=tools,
        tool_choice="none" if choice.type == "none" else "auto" if choice.type == "auto" else "required",
        tool_name=choice.name if choice.type == "tool" else None,
        parallel_tool_calls=not choice.disable_parallel_tool_use,
        format=_format(body),
        template_kwargs=_template_kwargs(body),
        goes_on=_goes_on(body, messages[-1]),
    )


def _goes_on(body: Countable, last: Message) -> bool:
    """Whether the reply is the rest of what the assistant said last (prefill); `UsageError` where nothing can go on."""
    if last.role != "assistant":
        return False
    if last.tool_calls or not last.content.strip():
        raise invalid("messages", "the last turn is the assistant's, and has no text that could go on")
    if last.content != last.content.rstrip():
        raise invalid("messages", "what the assistant said last must not end with white space")
    for name, asked in {
        "thinking": thinks(body),
        "output_config": _format(body) is not None,
        "tool_choice": body.tool_choice is not None and body.tool_choice.type in ("any", "tool"),
    }.items():
        if asked:
            raise invalid(
                name, "does not go together with a last turn of the assistant, which the reply would go on with"
            )
    return True


def thinks(body: Countable) -> bool:
    """Thoughts are asked for and told. A client that does not ask gets none, as with Anthropic, though the model may have some."""
    return body.thinking is not None and body.thinking.type != "disabled" and body.thinking.display != "omitted"


def _template_kwargs(body: Countable) -> dict[str, Any]:
    on = body.thinking is not None and body.thinking.type != "disabled"
    effort = body.output_config.effort if body.output_config else None
    return {"enable_thinking": on, **({"reasoning_effort": _EFFORTS.get(effort, effort)} if effort else {})}


def _format(body: Countable) -> ReplyFormat | None:
    wanted = (body.output_config.format if body.output_config else None) or body.output_format
    return ReplyFormat(schema=wanted.schema) if wanted else None


def _sampling(body: MessagesRequest) -> SamplingParams:
    named = {"temperature": body.temperature, "top_p": body.top_p, "top_k": body.top_k}
    given: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
    return SamplingParams(max_tokens=body.max_tokens, stop=tuple(body.stop_sequences or ()), **given)


def _tools(specs: Iterable[ToolSpec]) -> Iterator[Tool]:
    for index, spec in enumerate(specs):
        if spec.type not in (None, "custom"):
            where = f"tools[{index}].type"
            raise unsupported(where, f"tools of type {spec.type[:80]!r} are not supported, only your own")
        if _TOOL_NAME.fullmatch(spec.name) is None:
            raise invalid(
                f"tools[{index}].name", f"{spec.name[:80]!r} is no name: letters, digits, '_' and '-', at most 128"
            )
        if spec.input_schema is None:
            raise invalid(f"tools[{index}].input_schema", "is missing")
        yield Tool(spec.name, spec.description, object_schema(spec.input_schema, f"tools[{index}].input_schema"))


# ---- turns


def _messages(body: Countable) -> Iterator[Message]:
    names = {block.id: block.name for block in _calls(body.messages)}
    if body.system:
        yield Message("system", _plain(body.system))
    said = (message for index, turn in enumerate(body.messages) for message in _turn(turn, f"messages[{index}]", names))
    for role, group in groupby(said, lambda message: message.role):
        neighbours = list(group)
        yield from neighbours if role == "tool" else [_merged(neighbours)]


def _calls(turns: Iterable[Turn]) -> Iterator[ToolUseBlock]:
    for turn in turns:
        if isinstance(turn, AssistantTurn) and not isinstance(turn.content, str):
            yield from (block for block in turn.content if isinstance(block, ToolUseBlock))


def _turn(turn: Turn, where: str, names: dict[str, str]) -> Iterator[Message]:
    if turn.content == []:
        raise invalid(f"{where}.content", "must not be empty")
    if isinstance(turn, AssistantTurn):
        yield _assistant(turn)
    elif isinstance(turn, SystemTurn):
        yield Message("system", _plain(turn.content))
    else:
        yield from _user(turn, where, names)


def _user(turn: UserTurn, where: str, names: dict[str, str]) -> Iterator[Message]:
    blocks = [TextBlock(turn.content)] if isinstance(turn.content, str) else turn.content
    rest: list[TextBlock | ImageBlock] = []
    for block in blocks:
        if isinstance(block, ToolResultBlock):
            yield _result(block, where, names)
        else:
            rest.append(block)
    if rest:
        content, images = with_images(_parts(rest, where))
        yield Message("user", content, images=images)


def _result(block: ToolResultBlock, where: str, names: dict[str, str]) -> Message:
    """No template has a word for failure, so it is said in the text."""
    if block.tool_use_id not in names:
        raise invalid(where, f"no earlier turn has a tool_use {block.tool_use_id[:80]!r}")
    parts = [TextBlock(block.content)] if isinstance(block.content, str) else block.content or []
    content, images = with_images(_parts(parts, where))
    told = f"Error: {content}" if block.is_error else content
    return Message("tool", told, name=names[block.tool_use_id], tool_call_id=block.tool_use_id, images=images)


def _assistant(turn: AssistantTurn) -> Message:
    blocks = [TextBlock(turn.content)] if isinstance(turn.content, str) else turn.content
    if any(isinstance(block, RedactedBlock) for block in blocks):
        raise unsupported("messages", "a redacted thought can be read by its maker only")
    calls = [
        ToolCall(block.id, block.name, msgspec.json.encode(block.input).decode())
        for block in blocks
        if isinstance(block, ToolUseBlock)
    ]
    return Message(
        "assistant",
        "".join(block.text for block in blocks if isinstance(block, TextBlock)),
        tool_calls=tuple(calls),
        reasoning="".join(block.thinking for block in blocks if isinstance(block, ThinkingBlock)) or None,
    )


def _parts(blocks: Iterable[TextBlock | ImageBlock], where: str) -> Iterator[str | bytes]:
    for block in blocks:
        if isinstance(block, TextBlock):
            yield block.text
        elif isinstance(block.source, Base64Source):
            yield image_of(block.source.data, where)
        else:
            raise unsupported(where, "images are taken as base64 only: hali fetches no address for a client")


def _plain(content: str | list[TextBlock]) -> str:
    return content if isinstance(content, str) else "\n".join(block.text for block in content)


def _merged(group: list[Message]) -> Message:
    """Neighbours of one role as one message."""
    if len(group) == 1:
        return group[0]
    return Message(
        group[0].role,
        "\n".join(message.content for message in group if message.content),
        tool_calls=tuple(call for message in group for call in message.tool_calls),
        reasoning="\n".join(message.reasoning for message in group if message.reasoning) or None,
        images=tuple(image for message in group for image in message.images),
    )

"""Messages as the chat API takes them, and what they are to the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from hali.api.media import unmistakable, with_images
from hali.api.openai_images import image_bytes
from hali.api.refusals import invalid, unsupported
from hali.model.generation import Message, Tool, ToolCall

# `developer` is OpenAI's new name of `system`; templates know only the old one.
SPEAKERS = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
ROLES = {**SPEAKERS, "tool": "tool", "function": "tool"}
_JSON_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


class ImageUrl(msgspec.Struct):
    """Where an image is: in the URL itself."""

    url: str
    detail: str | None = None


class Part(msgspec.Struct, omit_defaults=True):
    """A piece of a message's content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None


class FunctionCalled(msgspec.Struct):
    """A call of a function with the JSON text of its arguments."""

    name: str
    arguments: str = ""


class CalledTool(msgspec.Struct):
    """A call that an assistant made in an earlier turn."""

    id: str
    function: FunctionCalled
    type: str = "function"


class ChatMessage(msgspec.Struct):
    """One turn, as sent."""

    role: str
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[CalledTool] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCalled | None = None
    reasoning_content: str | None = None  # DeepSeek's and vLLM's name of what was thought
    reasoning: str | None = None
    refusal: str | None = None  # what an assistant said in place of an answer


def messages_of(sent: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> tuple[Message, ...]:
    """The turns for the engine; `UsageError` naming the place of what is wrong."""
    if not sent:
        raise invalid("messages", "at least one is needed")
    made: list[Message] = []
    called: dict[str, str] = {}  # function → id of its last call so far
    for index, message in enumerate(sent):
        made.append(_message(message, index, called))
        called |= {call.name: call.id for call in made[-1].tool_calls}
    return unmistakable(made, tools=tools)


def _message(sent: ChatMessage, index: int, called: Mapping[str, str]) -> Message:
    where = f"messages[{index}]"
    if (role := ROLES.get(sent.role)) is None:
        raise invalid(f"{where}.role", f"{sent.role[:40]!r} is not one of {', '.join(ROLES)}")
    calls = _calls(sent, where, index)
    if calls and role != "assistant":
        raise invalid(f"{where}.tool_calls", "only an assistant calls tools")
    reasoning = sent.reasoning_content or sent.reasoning
    # A reply that was refused, or cut while the model thought, is sent back without content: that is how clients got it.
    silent = bool(calls) or (role == "assistant" and bool(sent.refusal or reasoning))
    text, images = content_of(sent.content, f"{where}.content", optional=silent)
    return Message(
        role=role,
        content=text or (sent.refusal if role == "assistant" else None) or "",
        name=sent.name,
        tool_calls=calls,
        tool_call_id=_answered(sent, where, called),
        reasoning=reasoning,
        images=images,
    )


def content_of(content: str | list[Part] | None, where: str, *, optional: bool) -> tuple[str, tuple[bytes, ...]]:
    """Text with a marker for each image, and the images."""
    if content is None:
        if not optional:
            raise invalid(where, "text is missing")
        return "", ()
    if isinstance(content, str):
        return content, ()
    return with_images((_part(part, f"{where}[{index}]") for index, part in enumerate(content)), between="")


def _part(part: Part, where: str) -> str | bytes:
    # the responses API says input_text, output_text and input_image for the same things
    if part.type in ("text", "input_text", "output_text"):
        if part.text is None:
            raise invalid(f"{where}.text", "is missing")
        return part.text
    if part.type == "refusal":
        return part.refusal or ""
    if part.type not in ("image_url", "input_image"):
        raise unsupported(where, f"parts of type {part.type[:40]!r} are not supported, only text and images")
    if part.image_url is None:
        raise invalid(f"{where}.image_url", "is missing")
    url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
    return image_bytes(url, f"{where}.image_url")


def _calls(sent: ChatMessage, where: str, turn: int) -> tuple[ToolCall, ...]:
    made = []
    for index, call in enumerate(sent.tool_calls or ()):
        place = f"{where}.tool_calls[{index}]"
        if call.type != "function":
            raise unsupported(f"{place}.type", f"{call.type[:40]!r} is not supported, only function")
        made.append(tool_call(call.id, call.function.name, call.function.arguments, f"{place}.function.arguments"))
    if (called := sent.function_call) is not None:  # the old form has no id: its turn is one
        made.append(tool_call(f"call_{turn}", called.name, called.arguments, f"{where}.function_call.arguments"))
    return tuple(made)


def tool_call(call_id: str, name: str, arguments: str, where: str) -> ToolCall:
    """A call whose arguments are checked to be a JSON object, as templates take them apart; none is an empty object."""
    try:
        _JSON_OBJECT.decode(arguments.strip() or "{}")
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        raise invalid(where, "must be the JSON text of an object") from None
    return ToolCall(id=call_id, name=name, arguments=arguments.strip() or "{}")


def _answered(sent: ChatMessage, where: str, called: Mapping[str, str]) -> str | None:
    """The id of the call that a tool's message answers."""
    if sent.role == "tool" and not sent.tool_call_id:
        raise invalid(f"{where}.tool_call_id", "says which call this answers, and is missing")
    if sent.role != "function":
        return sent.tool_call_id if sent.role == "tool" else None
    if (call := called.get(sent.name or "")) is None:
        raise invalid(f"{where}.name", "no function of this name was called before")
    return call

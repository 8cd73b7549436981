"""Images inside JSON, and texts with images in them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator

import msgspec

from hali.api.refusals import invalid
from hali.model.errors import UsageError
from hali.model.generation import MEDIA, Message, Tool
from hali.wire.images import check_picture

_SPACE = b" \t\r\n\f\v"  # `base64 FILE` breaks its lines, and other servers skip that


def image_of(text: str, where: str) -> bytes:
    """The file that base64 `text` holds; `UsageError` naming `where` if it is no picture that would be decoded."""
    try:
        data = base64.b64decode(text.encode("ascii").translate(None, _SPACE), validate=True)
        check_picture(data)
    except UsageError as wrong:
        raise invalid(where, wrong.message) from None
    except (binascii.Error, ValueError):
        raise invalid(where, "the image is not base64") from None
    return data


def with_images(parts: Iterable[str | bytes], *, between: str = "\n") -> tuple[str, tuple[bytes, ...]]:
    """Texts and images in their order as the content of a `Message`, and its images. `between` stands between two texts."""
    content, images, last_was_text = "", [], False
    for part in parts:
        if isinstance(part, bytes):
            images.append(part)
            content += MEDIA
        else:
            content += (between if last_was_text else "") + part
        last_was_text = isinstance(part, str)
    return content, tuple(images)


def unmistakable(
    messages: Iterable[Message], where: str = "messages", tools: Iterable[Tool] = ()
) -> tuple[Message, ...]:
    """The messages, unless one, or a tool, spells the marker of an image where there are real ones: nobody could tell them apart."""
    found = tuple(messages)
    images = sum(len(message.images) for message in found)
    if not images:
        return found
    contents = sum(message.content.count(MEDIA) for message in found)
    if images != contents or any(MEDIA in text for message in found for text in _beside_content(message)):
        raise invalid(where, f"no text beside images may contain {MEDIA}")
    if any(MEDIA in text for tool in tools for text in _of_tool(tool)):
        raise invalid("tools", f"no tool beside images may contain {MEDIA}")
    return found


def _beside_content(message: Message) -> Iterator[str]:
    yield from (message.name or "", message.reasoning or "")
    for call in message.tool_calls:
        yield from (call.name, call.arguments)


def _of_tool(tool: Tool) -> Iterator[str]:
    yield from (tool.name, tool.description or "")
    try:
        yield msgspec.json.encode(tool.parameters).decode()
    except RecursionError:
        raise invalid("tools", "the parameters are nested too deeply") from None

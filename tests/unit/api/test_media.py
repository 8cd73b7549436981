"""Images inside JSON: what is one, and where it stands in a text."""

from __future__ import annotations

import base64

import pytest

from hali.api.media import image_of, unmistakable, with_images
from hali.model.errors import UsageError
from hali.model.generation import MEDIA, Message, Tool, ToolCall
from tests.fakes.pictures import png, png_of


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_a_picture_is_taken_as_it_is() -> None:
    assert image_of(encoded(png(3, 2)), "x") == png(3, 2)


def test_base64_may_be_broken_into_lines() -> None:
    lines = base64.encodebytes(png(30, 2)).decode()
    for text in (lines, lines.replace("\n", "\r\n"), f" \t{lines}"):
        assert "\n" in text.strip() and image_of(text, "x") == png(30, 2)


HUGE = encoded(png_of(60_000, 60_000, b""))


@pytest.mark.parametrize("text", ["", "%", "aGFsaQ==", "iVBORw0KGgo", f"data:image/png;base64,{HUGE}", "naïve", HUGE])
def test_what_is_no_image_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="messages"):
        image_of(text, "messages[0]")


def test_images_keep_their_place_among_texts() -> None:
    assert with_images(["a", b"1", "b", "c", b"2"]) == (f"a{MEDIA}b\nc{MEDIA}", (b"1", b"2"))
    assert with_images(["a", "b"], between="") == ("ab", ())


def test_a_text_that_spells_the_marker_is_refused_beside_images_and_taken_without() -> None:
    image, text, plain = Message("user", MEDIA, images=(b"1",)), Message("user", f"say {MEDIA}"), Message("user", "hi")
    assert unmistakable([image, plain]) == (image, plain)
    assert unmistakable([text, plain]) == (text, plain)
    called = Message("assistant", "", tool_calls=(ToolCall("c", "say", f'{{"x":"{MEDIA}"}}'),))
    doubled, thought = Message("user", MEDIA * 2, images=(b"1",)), Message("assistant", "", reasoning=MEDIA)
    for mistakable in ([image, text], [doubled], [image, thought], [image, called]):
        with pytest.raises(UsageError, match="messages"):
            unmistakable(mistakable)


def test_a_tool_that_spells_the_marker_is_refused_beside_images_and_taken_without() -> None:
    image, plain = Message("user", MEDIA, images=(b"1",)), Message("user", "hi")
    for tool in (Tool("t", f"says {MEDIA}"), Tool("t", None, {"properties": {"x": {"const": MEDIA}}})):
        assert unmistakable([plain], tools=[tool]) == (plain,)
        with pytest.raises(UsageError, match="tools: no tool"):
            unmistakable([image], tools=[tool])

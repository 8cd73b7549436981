"""Images inside JSON, and texts with images in them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from hali.model.errors import UsageError
from hali.model.generation import MEDIA

# First bytes of the formats that libmtmd's decoder (stb_image) reads.
_FORMATS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM")


def image_of(text: str, where: str) -> bytes:
    """The file that base64 `text` holds; `UsageError` naming `where` if it is no PNG, JPEG, GIF or BMP."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong(where, "the image is not base64") from None
    if not data.startswith(_FORMATS):
        raise _wrong(where, "the image is no PNG, JPEG, GIF or BMP file")
    return data


def with_images(parts: Iterable[str | bytes], where: str, *, between: str = "\n") -> tuple[str, tuple[bytes, ...]]:
    """Texts and images in their order as the content of a `Message`, and its images. `between` stands between two texts.

    A text that spells the marker of an image beside real images is refused: nobody could tell them apart.
    """
    content, images, last_was_text = "", [], False
    for part in parts:
        if isinstance(part, bytes):
            images.append(part)
            content += MEDIA
        else:
            content += (between if last_was_text else "") + part
        last_was_text = isinstance(part, str)
    if images and content.count(MEDIA) != len(images):
        raise _wrong(where, f"a text beside images must not contain {MEDIA}")
    return content, tuple(images)


def _wrong(where: str, what: str) -> UsageError:
    return UsageError(f"{where}: {what}", code="invalid_value", details={"param": where})

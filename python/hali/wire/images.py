"""How large a picture says it is, before anything decodes it: a file of a few kilobytes can ask for gigabytes. Sans-I/O."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal

from hali.model.errors import UsageError

Kind = Literal["png", "jpeg", "gif"]

MAX_PIXELS = 40_000_000  # the largest cameras of phones have 50 million before cropping; 120 MB when decoded
# Of one request: a model works for about a second on each, and meanwhile on nothing else.
MAX_PICTURES = 64
MAX_PIXELS_TOGETHER = 4 * MAX_PIXELS  # all are decoded before the first is read: half a gigabyte
_PNG, _GIF, _JPEG = b"\x89PNG\r\n\x1a\n", (b"GIF87a", b"GIF89a"), b"\xff\xd8"
# Start-of-frame markers of JPEG (ITU T.81, table B.1): all of 0xC0 to 0xCF but DHT, JPG and DAC.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length: TEM, RST0 to RST7, SOI


def check_picture(data: bytes) -> Kind:
    """What kind of picture this is; `UsageError` for anything but a PNG, JPEG or GIF of at most `MAX_PIXELS`."""
    return _checked(data)[0]


def check_pictures(pictures: Sequence[bytes]) -> None:
    """`UsageError` for what `check_picture` refuses, and for more pictures or pixels than one request may have."""
    if len(pictures) > MAX_PICTURES:
        raise UsageError(f"{len(pictures)} images in one request, at most {MAX_PICTURES}", code="image")
    pixels = sum(width * height for _, width, height in map(_checked, pictures))
    if pixels > MAX_PIXELS_TOGETHER:
        raise UsageError(
            f"images of {pixels} pixels in one request, at most {MAX_PIXELS_TOGETHER}",
            hint="make them smaller: models look at about a million pixels of each",
            code="image",
        )


def _checked(data: bytes) -> tuple[Kind, int, int]:
    found = _measure(data)
    if found is None:
        raise UsageError("an image must be a PNG, JPEG or GIF", code="image")
    _, width, height = found
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise UsageError(f"an image of {width} × {height} pixels; at most {MAX_PIXELS} are decoded", code="image")
    return found


def _measure(data: bytes) -> tuple[Kind, int, int] | None:
    try:
        if data.startswith(_PNG) and data[12:16] == b"IHDR":
            return ("png", *struct.unpack_from(">II", data, 16))
        if data.startswith(_GIF):
            return ("gif", *struct.unpack_from("<HH", data, 6))
        if data.startswith(_JPEG):
            return _jpeg(data)
    except (struct.error, IndexError):  # it ends before it says
        return None
    return None


def _jpeg(data: bytes) -> tuple[Kind, int, int] | None:
    """Walk from marker to marker to the frame header, which comes before any compressed data."""
    at = 2
    while data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _BARE:
            at += 2
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return "jpeg", width, height
        else:
            at += 2 + max(2, struct.unpack_from(">H", data, at + 2)[0])
    return None

"""Pictures are measured before they are decoded."""

from __future__ import annotations

import random
import struct

import pytest

from hali.model.errors import UsageError
from hali.wire.images import MAX_PICTURES, MAX_PIXELS, MAX_PIXELS_TOGETHER, check_picture, check_pictures
from tests.fakes.pictures import png, png_of

GIF = b"GIF89a" + struct.pack("<HH", 640, 480) + bytes(20)


def jpeg(width: int, height: int, frame: int = 0xC0) -> bytes:
    """Application data that looks like a frame header, fill bytes, then the real one."""
    decoy = b"\xff\xc0" + bytes(30)
    before = b"\xff\xd8\xff\xe1" + struct.pack(">H", 2 + len(decoy)) + decoy
    return before + b"\xff\xff" + bytes([frame]) + struct.pack(">HBHHB", 11, 8, height, width, 1) + bytes(40)


@pytest.mark.parametrize(
    ("data", "kind"), [(png(28, 28), "png"), (GIF, "gif"), (jpeg(640, 480), "jpeg"), (jpeg(640, 480, 0xC2), "jpeg")]
)
def test_pictures_of_the_known_kinds_pass(data: bytes, kind: str):
    assert check_picture(data) == kind


@pytest.mark.parametrize("data", [png_of(60_000, 60_000, b""), jpeg(65_535, 65_535), png_of(0, 9, b""), jpeg(9, 0)])
def test_a_picture_that_says_it_is_huge_or_empty_is_not_decoded(data: bytes):
    with pytest.raises(UsageError, match=f"at most {MAX_PIXELS}"):
        check_picture(data)


@pytest.mark.parametrize(
    "data", [b"", b"GIF", b"BM" + bytes(60), b"<svg/>", b"RIFF1234WEBPVP8 ", b"\xff\xd8\xff\xda\0\2"]
)
def test_anything_else_is_refused(data: bytes):
    with pytest.raises(UsageError, match="PNG, JPEG or GIF"):
        check_picture(data)


def test_one_request_has_as_many_pictures_and_pixels_as_a_worker_can_bear():
    one = png_of(1, 1, b"")
    check_pictures([one] * MAX_PICTURES)
    with pytest.raises(UsageError, match=f"at most {MAX_PICTURES}"):
        check_pictures([one] * (MAX_PICTURES + 1))
    large = png_of(MAX_PIXELS // 1000, 1000, b"")
    check_pictures([large] * (MAX_PIXELS_TOGETHER // MAX_PIXELS))
    with pytest.raises(UsageError, match="pixels in one request"):
        check_pictures([one, *[large] * (MAX_PIXELS_TOGETHER // MAX_PIXELS)])
    with pytest.raises(UsageError, match="PNG, JPEG or GIF"):
        check_pictures([one, b"no picture"])


def test_no_cut_and_no_flipped_bits_end_in_anything_but_an_answer_or_a_refusal():
    draw = random.Random(7)
    for _ in range(3000):
        data = bytearray(draw.choice([png(9, 9), GIF, jpeg(30, 40)]))
        for _ in range(draw.randrange(4)):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        try:
            check_picture(bytes(data[: draw.randrange(len(data) + 1)]))
        except UsageError:
            continue

"""Small real pictures with random pixels."""

from __future__ import annotations

import random
import struct
import zlib


def png(width: int, height: int, seed: int = 1) -> bytes:
    """An RGB PNG (RFC 2083) of the given size."""
    draw = random.Random(seed)
    rows = b"".join(b"\0" + draw.randbytes(3 * width) for _ in range(height))
    return png_of(width, height, zlib.compress(rows))


def png_of(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG that claims a size, over compressed pixels that need not agree."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

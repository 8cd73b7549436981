"""Embeddings as the engine hands them over (little-endian float32), as numbers and cut short. Pure."""

from __future__ import annotations

import math
import sys
from array import array


def numbers(vector: bytes) -> array[float]:
    """Its numbers."""
    found = array("f", vector)
    if sys.byteorder == "big":
        found.byteswap()
    return found


def packed(found: array[float]) -> bytes:
    """The bytes that `numbers` reads."""
    ordered = found[:]
    if sys.byteorder == "big":
        ordered.byteswap()
    return ordered.tobytes()


def shortened(found: array[float], dimensions: int) -> array[float]:
    """The first `dimensions` numbers, again of length 1 (as Matryoshka models mean it); all where there are no more."""
    if dimensions >= len(found):
        return found
    kept = found[:dimensions]
    length = math.hypot(*kept) or 1.0  # a zero vector stays one
    return array("f", [number / length for number in kept])

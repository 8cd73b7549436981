"""The first bytes of a GGUF file: what can be known of it without the rest. Sans-I/O."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec

from hali.wire.ggml import FILE_TYPES
from hali.wire.gguf import MAGIC, MAX_KEYS, MAX_TENSORS, GgufError, _count, _Cursor, _read_values, _text, _version


class GgufHead(msgspec.Struct, frozen=True):
    """What the beginning of a header says; None where it says nothing, or only later."""

    version: int
    tensor_count: int
    architecture: str
    size_label: str | None = None
    file_type: int | None = None

    @property
    def quantization(self) -> str | None:
        """`Q4_K_M`, `F16`, …: llama.cpp's name of the file type."""
        return None if self.file_type is None else FILE_TYPES.get(self.file_type)


class _Ends(Exception):
    """The bytes at hand are over; the file goes on."""


class _Beginning(_Cursor):
    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(lambda at, count: data[at : at + count], size)
        self._at_hand = len(data)

    def _fill(self, count: int) -> None:
        if self.at + count > self._at_hand:
            raise _Ends
        super()._fill(count)


def read_head(data: bytes, size: int) -> GgufHead:
    """The head of a file of `size` bytes that begins with `data`; GgufError when that cannot be a GGUF file."""
    cursor = _Beginning(data, size)
    try:
        if size < 24 or cursor.take(4) != MAGIC:
            raise GgufError("magic", "not a GGUF file")
        version = _version(cursor)
        tensors = cursor.length(MAX_TENSORS, "tensor count")
        keys = cursor.length(MAX_KEYS, "key count")
    except _Ends:
        raise GgufError("truncated", "too few bytes to tell") from None
    values: dict[str, Any] = {}
    with contextlib.suppress(_Ends):  # the rest of the header lies beyond
        _read_values(cursor, keys, values)
    return _head(values, version, tensors)


def _head(values: dict[str, Any], version: int, tensors: int) -> GgufHead:
    architecture = _text(values, "general.architecture")
    if not architecture:
        raise GgufError("architecture", "the beginning of the header names no architecture")
    size_label, file_type = _text(values, "general.size_label"), _count(values, "general.file_type")
    return GgufHead(version, tensors, architecture, size_label, file_type)

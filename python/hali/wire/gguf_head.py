"""The first bytes of a GGUF file: what can be known of it without the rest. Sans-I/O."""

from __future__ import annotations

from typing import Any

import msgspec

from hali.wire.ggml import FILE_TYPES
from hali.wire.gguf import MAGIC, MAX_KEY, MAX_KEYS, MAX_TENSORS, GgufError, _Cursor, _read_value, _version


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
    return _head(_values_at_hand(cursor, keys), version, tensors)


def _values_at_hand(cursor: _Cursor, count: int) -> dict[str, Any]:
    """The keys up to where the bytes end."""
    values: dict[str, Any] = {}
    try:
        for _ in range(count):
            key = cursor.text(MAX_KEY, "key length")
            if key in values:
                raise GgufError("duplicate", f"key {key[:60]!r} is there twice")
            values[key] = _read_value(cursor, int(cursor.number("I")), key)
    except _Ends:
        pass  # as announced: the rest of the header lies beyond
    return values


def _head(values: dict[str, Any], version: int, tensors: int) -> GgufHead:
    architecture, label = values.get("general.architecture"), values.get("general.size_label")
    if not isinstance(architecture, str) or not architecture:
        raise GgufError("architecture", "the beginning of the header names no architecture")
    kind = values.get("general.file_type")
    is_kind = isinstance(kind, int) and not isinstance(kind, bool) and kind >= 0
    return GgufHead(
        version, tensors, architecture, label if isinstance(label, str) else None, kind if is_kind else None
    )

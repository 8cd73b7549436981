"""Writes small GGUF files for tests, right ones and wrong ones."""

from __future__ import annotations

import struct
from typing import Any

_CODES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}


def string(text: str | bytes) -> bytes:
    """A GGUF string."""
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: Any) -> bytes:
    """A key with its type and value; kind 9 takes (element kind, values)."""
    return string(key) + struct.pack("<I", kind) + _value(kind, value)


def _value(kind: int, value: Any) -> bytes:
    if kind == 8:
        return string(value)
    if kind == 9:
        inner, values = value
        return struct.pack("<IQ", inner, len(values)) + b"".join(_value(inner, one) for one in values)
    return struct.pack("<" + _CODES[kind], value)


def tensor(name: str, shape: list[int], kind: int = 0, offset: int = 0) -> bytes:
    """A tensor's description."""
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def gguf(
    pairs: list[bytes],
    tensors: list[bytes] | None = None,
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    keys: int | None = None,
    count: int | None = None,
    data: int = 0,
) -> bytes:
    """A whole file with `data` zero bytes of weights."""
    tensors = tensors or []
    head = magic + struct.pack(
        "<IQQ", version, len(tensors) if count is None else count, len(pairs) if keys is None else keys
    )
    body = head + b"".join(pairs) + b"".join(tensors)
    return body + bytes(-len(body) % 32 + data)


LLAMA = [
    pair("general.architecture", 8, "llama"),
    pair("general.name", 8, "Tiny 🦙"),
    pair("general.size_label", 8, "1M"),
    pair("general.file_type", 4, 15),
    pair("llama.block_count", 4, 2),
    pair("llama.context_length", 4, 512),
    pair("tokenizer.ggml.tokens", 9, (8, ["a", "bc", ""])),
    pair("tokenizer.ggml.scores", 9, (6, [0.5, 1.0, 2.0])),
    pair("tokenizer.ggml.add_bos_token", 7, 1),
    pair("tokenizer.chat_template", 8, "{{ messages }}"),
]

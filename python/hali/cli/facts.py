"""What is known of a model, in words for people."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hali.model.units import format_bytes


def readable(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, text) of each fact; what is unknown, empty or zero is left out."""
    for name, value in found.items():
        if value and (text := _text(name, value)):
            yield name, text


def _text(name: str, value: Any) -> str:
    if name == "size":
        return f"{format_bytes(value)} ({value} bytes)"
    if name in ("uploaded", "on_disk"):
        return format_bytes(value)
    if name == "last_used":
        return moment(value)
    if name == "sources":
        return _shares(value)
    if name == "gguf":
        return _header(value)
    if name == "parts":
        return _parts(value)
    if isinstance(value, bool):
        return "yes"
    return ", ".join(value) if isinstance(value, list) else str(value)


def moment(seconds: float) -> str:
    """`2026-01-31 14:05`, by the local clock."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _shares(sources: Mapping[str, int]) -> str:
    """`lan 80.0 MB (80 %), http 20.0 MB (20 %)`; one source has no share to tell."""
    total = sum(sources.values())
    if len(sources) == 1 or not total:
        return ", ".join(f"{kind} {format_bytes(n)}" for kind, n in sources.items())
    return ", ".join(f"{kind} {format_bytes(n)} ({100 * n // total} %)" for kind, n in sources.items())


def _parts(parts: Sequence[Mapping[str, Any]]) -> str:
    """`M-00001-of-00002.gguf 4.1 GB (sha256 0123456789ab…), …`; of one file all of this is told already."""
    if len(parts) == 1:
        return ""
    return ", ".join(f"{p['name']} {format_bytes(p['size'])} (sha256 {p['sha256'][:12]}…)" for p in parts)


def _header(gguf: Mapping[str, Any]) -> str:
    """`llama, 30 layers, context 8192, Q4_1, 134.5 million parameters, chat template, apache-2.0`."""
    parts = (
        gguf["architecture"],
        f"{gguf['layers']} layers" if gguf["layers"] is not None else None,
        f"context {gguf['context']}" if gguf["context"] is not None else None,
        gguf["quantization"],
        f"{gguf['parameters'] / 1e6:.1f} million parameters",
        "chat template" if gguf["chat_template"] else None,
        gguf["license"],
    )
    return ", ".join(part for part in parts if part)

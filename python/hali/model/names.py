"""`base:size:variant:quant`, a name for people; the SHA-256 is the identity, and a name may fit several files.

Words that tell two models apart (versions, *coder*) are never dropped: what is neither size nor quant stays in base (before the
size) or variant (after it).
"""

from __future__ import annotations

import re
from collections import deque

import msgspec

_QUANT = re.compile(
    r"(?<![a-z0-9])((?:ud-)?(?:i?q[1-8](?:_[0-9kmsx]+(?:_?[a-z]+)?)*|iq[1-4]_[a-z]+|tq[12]_0|bf16|fp?16|fp?32|mxfp4(?:_moe)?))(?![a-z0-9])"
)
_SIZE = re.compile(r"(?<![a-z0-9.])((?:\d+x)?\d+(?:\.\d+)?[bmk](?:-a\d+(?:\.\d+)?b)?)(?![a-z0-9])")
_UNSAFE = re.compile(r"[^a-z0-9._+-]+")
_EDGES = "-._ +"
UNKNOWN = "unknown"  # a size or quant that neither the name nor the header tells
MAX_PART = 80  # keeps the path of a model below the 255 bytes a file name may have


class ModelId(msgspec.Struct, frozen=True):
    """The four parts; each is lower case, not empty, and safe as a path component."""

    base: str
    size: str
    variant: str
    quant: str

    def __str__(self) -> str:
        return f"{self.base}:{self.size}:{self.variant}:{self.quant}"


def _clean(text: str, fallback: str) -> str:
    cleaned = _UNSAFE.sub("-", text.lower()).strip(_EDGES)[:MAX_PART].strip(_EDGES)
    return cleaned or fallback


def derive(file: str, *, size_label: str | None = None, quant_hint: str | None = None) -> ModelId:
    """The id of a file by its name; the GGUF header's size label and file type fill what the name lacks."""
    stem = re.sub(r"(?i)\.gguf$", "", file).lower()
    quant = _last(_QUANT, stem)
    rest = _without(stem, quant) if quant else stem
    size = _last(_SIZE, rest)
    before, after = (rest[: size.start()], rest[size.end() :]) if size else (rest, "")
    return ModelId(
        base=_clean(before, "model"),
        size=_clean(size.group(1) if size else (size_label or ""), UNKNOWN),
        variant=_clean(after, "base"),
        quant=_clean((quant.group(1) if quant else (quant_hint or "")), "unknown"),
    )


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def _without(text: str, match: re.Match[str]) -> str:
    return text[: match.start()].rstrip(_EDGES) + "-" + text[match.end() :].lstrip(_EDGES)


def parse(text: str) -> ModelId | None:
    """The id written as `base:size:variant:quant`, or None when `text` is something else."""
    parts = text.lower().split(":")
    if len(parts) != 4 or not all(part and _clean(part, "") == part for part in parts):
        return None
    return ModelId(*parts)

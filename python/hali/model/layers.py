"""Layer ranges `[start, end)` of a model, as people write and read them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hali.model.errors import UsageError

Layers = tuple[int, int]  # start, end; end is exclusive

_RANGE = re.compile(r"(\d{1,5})-(\d{1,5})\Z", re.ASCII)


def parse_layers(text: str) -> Layers:
    """`0-15` → (0, 15): from layer 0 up to, without, layer 15; UsageError."""
    match = _RANGE.match(text.strip())
    start, end = (int(match[1]), int(match[2])) if match else (0, 0)
    if start >= end:
        raise UsageError(f"{text!r} is no range of layers", hint="0-15 means the first fifteen: 0, 1, … 14")
    return start, end


def merged(ranges: Iterable[Layers]) -> tuple[Layers, ...]:
    """The same layers in as few ranges as there can be, in order."""
    found: list[Layers] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return tuple(found)


def format_layers(ranges: Iterable[Layers]) -> str:
    """`0-15, 20-30`."""
    return ", ".join(f"{start}-{end}" for start, end in ranges)

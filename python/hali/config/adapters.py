"""Which LoRA adapters go with which models: the grammar of `engine.lora`. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Self

import msgspec

from hali.model.errors import UsageError

GRAMMAR = "smollm2=/models/pirate.gguf@0.5"


class Adapter(msgspec.Struct, frozen=True):
    """One entry: the file, how much of it (1.0 = as trained), and the beginning of the ids of the models it is for."""

    model: str
    file: str
    scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """`MODEL=FILE` or `MODEL=FILE@SCALE`; UsageError."""
        model, equals, rest = (part.strip() for part in text.partition("="))
        file, at, scale = rest.rpartition("@")
        amount = _number(scale) if at else None
        if amount is None:  # an @ that belongs to the file's name, or none
            file, amount = rest, 1.0
        if not (equals and model and file):
            raise UsageError(f"{text!r} is not MODEL=FILE or MODEL=FILE@SCALE", hint=f"for example {GRAMMAR}")
        if not file.startswith(("/", "~")) and file[1:2] != ":":
            raise UsageError(f"{text!r}: the file needs its whole path", hint=f"for example {GRAMMAR}")
        return cls(model.lower(), file, amount)

    def fits(self, model_id: str) -> bool:
        """Whether it is for this model: the whole id, or what it begins with up to a colon."""
        return f"{model_id.lower()}:".startswith(f"{self.model}:")


def parse_adapters(entries: Iterable[str]) -> Sequence[Adapter]:
    """All of a setting; UsageError names the first wrong one."""
    return [Adapter.parse(entry) for entry in entries]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

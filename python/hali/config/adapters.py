"""Which files go with which models: the grammar of `engine.lora` and `engine.draft`. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Self

import msgspec

from hali.model.errors import UsageError

GRAMMAR = "smollm2=/models/pirate.gguf@0.5"
DRAFT_GRAMMAR = "qwen3:8b=/models/qwen3-0.6b.gguf"


class Draft(msgspec.Struct, frozen=True):
    """One entry of `engine.draft`: the file of a draft model, and the beginning of the ids of the models it is for."""

    model: str
    file: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """`MODEL=FILE`; UsageError."""
        return cls(*_entry(text, "MODEL=FILE", DRAFT_GRAMMAR))

    def fits(self, model_id: str) -> bool:
        """Whether it is for this model: the whole id, or what it begins with up to a colon."""
        return _fits(self.model, model_id)


class Adapter(msgspec.Struct, frozen=True):
    """One entry of `engine.lora`: the file, how much of it (1.0 = as trained), and the beginning of the ids of the models it is for."""

    model: str
    file: str
    scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """`MODEL=FILE` or `MODEL=FILE@SCALE`; UsageError."""
        model, rest = _entry(text, "MODEL=FILE or MODEL=FILE@SCALE", GRAMMAR)
        file, at, scale = rest.rpartition("@")
        amount = _number(scale) if at else None
        if amount is None:  # an @ that belongs to the file's name, or none
            file, amount = rest, 1.0
        return cls(model, file, amount)

    def fits(self, model_id: str) -> bool:
        """Whether it is for this model: the whole id, or what it begins with up to a colon."""
        return _fits(self.model, model_id)


def parse_adapters(entries: Iterable[str]) -> Sequence[Adapter]:
    """All of a setting; UsageError names the first wrong one."""
    return [Adapter.parse(entry) for entry in entries]


def parse_drafts(entries: Iterable[str]) -> Sequence[Draft]:
    """All of a setting; UsageError names the first wrong one."""
    return [Draft.parse(entry) for entry in entries]


def _entry(text: str, form: str, example: str) -> tuple[str, str]:
    """(model, file) of `MODEL=FILE`; UsageError."""
    model, equals, file = (part.strip() for part in text.partition("="))
    if not (equals and model and file):
        raise UsageError(f"{text!r} is not {form}", hint=f"for example {example}")
    if not file.startswith(("/", "~")) and file[1:2] != ":":
        raise UsageError(f"{text!r}: the file needs its whole path", hint=f"for example {example}")
    return model.lower(), file


def _fits(model: str, model_id: str) -> bool:
    return f"{model_id.lower()}:".startswith(f"{model}:")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

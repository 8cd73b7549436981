"""Which node runs which layers of a model, as pure values. One local stage is the ordinary plan and no special case."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import msgspec

from hali.pipeline.base import ServedModel

LOCAL = "local"  # the name of this node in its own plans; peers are named by their id


class LayerRange(msgspec.Struct, frozen=True):
    """Layers `[start, end)`.

    `end=None` means to the last layer of the file, whose number only the engine knows before loading.
    """

    start: int = 0
    end: int | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            raise ValueError(f"not a layer range: [{self.start}, {self.end})")


class Stage(msgspec.Struct, frozen=True):
    """One node running one layer range from one file."""

    node: str
    layers: LayerRange
    sha256: str
    path: Path


class Plan(msgspec.Struct, frozen=True):
    """The stages of one generation, in the order the hidden state passes them: contiguous, first layer to last."""

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        if not self.stages or self.stages[0].layers.start != 0 or self.stages[-1].layers.end is not None:
            raise ValueError("a plan must start at layer 0 and go to the last layer")
        if any(a.layers.end != b.layers.start for a, b in pairwise(self.stages)):
            raise ValueError("the layer ranges of a plan must follow each other without gap or overlap")


def plan_local(model: ServedModel) -> Plan:
    """The whole model in one stage on this node."""
    return Plan((Stage(LOCAL, LayerRange(), model.sha256, model.path),))

"""What the router needs from packages it must not see: a catalogue of models and engines that run them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from hali.model.generation import Answer, GenerateRequest, GenerationEvent, Query


class ServedModel(msgspec.Struct, frozen=True):
    """A verified model on this machine that can answer: its name for people, its identity, its file."""

    id: str
    sha256: str
    path: Path
    created: int  # seconds since 1970, for display only
    size: int  # bytes
    aliases: tuple[str, ...] = ()

    @property
    def engine_name(self) -> str:
        """What its engine is called: readable, and never shared with another file that has the same id."""
        return f"{self.id}@{self.sha256[:12]}"


class Catalog(Protocol):
    """The models this node can serve. Both calls answer from memory or a local index, in well under a millisecond."""

    def list(self) -> Sequence[ServedModel]:
        """All of them, in a stable order."""

    def find(self, name: str) -> ServedModel:
        """The one model `name` means (id, alias or SHA-256); `NotFound`, or `AmbiguousName` when it fits several."""


class Engines(Protocol):
    """Loaded models, and those that can be loaded; `hali.engine.EnginePool` is one."""

    def generate(self, model_id: str, path: Path, request: GenerateRequest) -> AsyncIterator[GenerationEvent]:
        """Chunks, then `Done`, from the engine called `model_id`, started for `path` first if it does not run.

        Closing or cancelling the iterator stops the generation and gives its slot back. Raises `EngineCrashed` when the
        process ends meanwhile, `EngineUnavailable` or `ModelLoadFailed` when it cannot start, `UsageError` or
        `EngineFailed` for this request alone.
        """

    async def ask(self, model_id: str, path: Path, query: Query) -> Answer:
        """The answer to a query that generates nothing, from the same engine; raises the same."""

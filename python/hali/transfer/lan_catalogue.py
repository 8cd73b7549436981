"""Our own models as the neighbours were told of them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hali.wire.lan import Model, Packet

FEW = 16  # models that fit two or three packets: telling all of them again is the simplest news


class Catalogue:
    """What we have, and how that differs from what was last announced."""

    def __init__(self) -> None:
        self._models: dict[Model, None] = {}
        self._told: dict[Model, None] = {}

    @property
    def models(self) -> tuple[Model, ...]:
        """What we have."""
        return tuple(self._models)

    @property
    def is_new(self) -> bool:
        """True if something has changed that was not announced."""
        return self._models != self._told

    @property
    def says_something(self) -> bool:
        """True if others believe that we have something."""
        return bool(self._told)

    @property
    def needs_round(self) -> bool:
        """True if the news is better told by a complete announcement than by itself."""
        return len(self._models) <= FEW or 2 * len(self._models.keys() - self._told.keys()) >= len(self._models)

    def set(self, models: Iterable[Model]) -> None:
        """From now on we have these."""
        self._models = dict.fromkeys(models)

    def take_all(self) -> tuple[Model, ...]:
        """Everything, for a complete announcement; from now on it counts as told."""
        self._told = self._models
        return self.models

    def take_news(self) -> tuple[Model, ...]:
        """What is new or has changed, and without flags what is gone; from now on it counts as told."""
        new = [model for model in self._models if model not in self._told]
        kept = {model.sha256 for model in self._models}
        gone = [msgspec.structs.replace(m, flags=0) for m in self._told if m.sha256 not in kept]
        self._told = self._models
        return (*new, *gone)

    def still(self, packet: Packet) -> Packet:
        """A packet of an announcement under way, without what has gone since it was made."""
        kept = tuple(model for model in packet.models if model in self._models)
        return packet if len(kept) == len(packet.models) else msgspec.structs.replace(packet, models=kept)

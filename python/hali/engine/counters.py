"""What a worker tells of itself while it computes. Worker only."""

from __future__ import annotations

from hali.engine.ahead import LookAhead
from hali.engine.backend import Model
from hali.engine.options import EngineStats
from hali.engine.retained import Retained
from hali.engine.room import Room


class Counters:
    """Tokens and decodes since the start."""

    def __init__(self) -> None:
        self.prompt_tokens = self.completion_tokens = self.decodes = 0

    def stats(
        self, model: Model, room: Room, retained: Retained | None, ahead: LookAhead, *, samplers: int
    ) -> EngineStats:
        """With what is held as of now."""
        return EngineStats(
            sessions=len(room.running),
            queued=len(room.waiting),
            kv_used=room.sharing.cells.used,
            kv_total=model.n_kv,
            sequences_free=len(room.sequences_free),
            samplers=samplers,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            decodes=self.decodes,
            preempted=room.preempted,
            cached_tokens=retained.tree.tokens if retained else 0,
            cached_bytes=retained.tree.held if retained else 0,
            cache_hits=retained.hits if retained else 0,
            cache_hit_tokens=retained.hit_tokens if retained else 0,
            cache_evicted=retained.tree.evicted if retained else 0,
            drafted=ahead.drafted,
            accepted=ahead.accepted,
        )

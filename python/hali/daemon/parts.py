"""What IPC answers say about partial models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # as daemon/views.py: also used by commands without a daemon
    from hali.share.library import Library
    from hali.share.partials import PartialEntry, Partials


def part_called(library: Library, partials: Partials, name: str) -> PartialEntry | None:
    """The partial model that `name` means; None when it means a whole one, or nothing."""
    return None if library.holds(name) else partials.find(name)


async def removed_part(partials: Partials, entry: PartialEntry) -> dict[str, Any]:
    """Delete it; the answer of `rm`."""
    meta = entry.record.meta
    return {"model_id": meta.model_id, "sha256": meta.sha256, "freed": await partials.remove(entry)}


def seeding_part(partials: Partials, entry: PartialEntry, peers: Mapping[str, int]) -> dict[str, Any]:
    """Its row in `status`."""
    shown = partials.describe(entry)
    kept = ("model_id", "magnet", "sha256", "infohash_v1", "infohash_v2", "layers", "error")
    connected = peers.get(shown["infohash_v1"], peers.get(shown["infohash_v2"], 0))
    return {name: shown[name] for name in kept} | {"status": shown["state"], "peers": connected, "progress": None}

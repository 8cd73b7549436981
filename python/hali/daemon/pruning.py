"""The request `prune`, for the daemon and for a command without one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from hali.daemon.ipc import Params, field
from hali.daemon.views import freed_by
from hali.share.library import Library
from hali.share.space import UNFINISHED_S, Cut, Space, Wish


async def prune(space: Space, library: Library, params: Params) -> dict[str, Any]:
    """Plan by `quota` (bytes; default: the configured one), `older_than` and `unfinished_after` (seconds); unless `dry_run`, do it.

    `only` (SHA-256) limits the models to those that somebody has seen and agreed to.
    """
    quota = field(params, "quota", int | None, None)
    wish = Wish(
        quota=space.quota if quota is None else quota,
        older_than=field(params, "older_than", float | None, None),
        unfinished_after=field(params, "unfinished_after", float, UNFINISHED_S),
    )
    cut = await space.plan(wish)
    only = field(params, "only", list[str] | None, None)
    if only is not None:
        cut = msgspec.structs.replace(cut, models=[model for model in cut.models if model.sha256 in only])
    entries = [entry for model in cut.models if (entry := library.entry(model.sha256)) is not None]
    linked = {entry.record.meta.sha256 for entry in entries if entry.record.has_other_names}
    freed = {entry.record.meta.sha256: freed_by(entry) for entry in entries}
    dry_run = field(params, "dry_run", bool, False)
    done = cut if dry_run else await space.carry_out(cut)
    return describe(done, linked, freed) | {"quota": wish.quota, "dry_run": dry_run}


def describe(cut: Cut, linked: Collection[str], freed: Mapping[str, int]) -> dict[str, Any]:
    """For `--json`; which models are `linked` elsewhere, and the bytes that the disk gets back of each, by SHA-256."""
    models = [
        {
            "model_id": m.model_id,
            "sha256": m.sha256,
            "size": m.size,
            "last_used": m.last_used,
            "linked_elsewhere": m.sha256 in linked,
        }
        for m in cut.models
    ]
    unfinished = [{"key": u.key, "files": list(u.files), "size": u.size, "touched": u.touched} for u in cut.unfinished]
    return {
        "models": models,
        "unfinished": unfinished,
        "torrents": [path.name for path in cut.torrents],
        "used": cut.used,
        "removed": sum(m.size for m in cut.models),
        "freed": sum(freed.get(m.sha256, 0) for m in cut.models) + sum(u.size for u in cut.unfinished),
        "short": cut.short,
    }

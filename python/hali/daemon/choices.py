"""What there is to choose from in a repository, and what of it this machine could run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from hali.model.errors import TransferFailed
from hali.runtime.memory import Memory, free_memory
from hali.share.fit import fit
from hali.share.library import Library
from hali.share.resolve import Resolver
from hali.share.targets import RepoTarget
from hali.transfer.hub import GgufModel, Hub, RepoListing
from hali.transfer.hub_choice import default_of, describe


class Choices:
    """Answers for the models that are in `library` now; `kv_tokens` is how long a context they are loaded with."""

    def __init__(self, library: Library, resolver: Resolver, hub: Hub, *, kv_tokens: int) -> None:
        self._library, self._resolver, self._hub, self._kv_tokens = library, resolver, hub, kv_tokens

    async def of(self, target: RepoTarget, *, always: bool) -> dict[str, Any]:
        """The models of a repository, and whether a pull without a choice is answered from the store.

        Then the hub is asked only `always`, and may be out of reach.
        """
        here = self._resolver.stored(target) is not None
        nothing = {"stored": True, "repo": target.repo, "models": [], "default": None}
        if here and not always:
            return nothing
        try:
            listing = await self._hub.resolve(target.repo, target.revision)
        except TransferFailed:
            if not here:
                raise
            return nothing
        return {"stored": here} | shown(listing, await free_memory(), self._kv_tokens, self._holds)

    def _holds(self, model: GgufModel) -> bool:
        wanted = {file.sha256 for file in model.files}
        return any(
            e.is_whole and wanted <= {part.sha256 for part in e.record.meta.each} for e in self._library.entries()
        )


def shown(listing: RepoListing, memory: Memory, kv_tokens: int, holds: Callable[[GgufModel], bool]) -> dict[str, Any]:
    """The models smallest first. `fits`: gpu, ram, shared (both together), no, or null when that is unknown; `here`: in the store."""
    models = listing.models
    default = default_of(models)
    return {
        "repo": listing.repo,
        "commit": listing.commit,
        "models": [describe(m) | {"fits": fit(m.size, memory, kv_tokens), "here": holds(m)} for m in models],
        "default": default.name if default else None,
        "memory": msgspec.to_builtins(memory),
    }

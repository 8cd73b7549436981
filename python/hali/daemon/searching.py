"""The hub as one of those who are searched."""

from __future__ import annotations

from collections.abc import Sequence

from hali.share.base import Found, SearchSort
from hali.transfer.hub import Hub

_SORTS = {"downloads": "downloads", "likes": "likes", "updated": "lastModified"}


class HubSearch:
    """Hugging Face, or the mirror that the settings name."""

    name = "Hugging Face"

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def search(self, text: str, *, limit: int, sort: SearchSort) -> Sequence[Found]:
        """Repositories with GGUF files."""
        hits = await self._hub.search(text, limit, _SORTS[sort])
        return [
            Found(hit.repo, self.name, downloads=hit.downloads, likes=hit.likes, updated=hit.updated, gated=hit.gated)
            for hit in hits
        ]

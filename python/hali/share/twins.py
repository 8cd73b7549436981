"""Beside each seeded model its v1 torrent, for clients that cannot read ours. Kept nowhere: made again from ours at each start."""

from __future__ import annotations

from pathlib import Path

from hali.model.ids import InfoHashes
from hali.share.base import Seeds
from hali.transfer import magnet
from hali.transfer.v1_twin import v1_twin


class Twins:
    """The v1 torrents of the models of one library, by the model's SHA-256."""

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self._seeded: dict[str, InfoHashes] = {}

    def forget(self) -> None:
        """The session is another one, and has none yet."""
        self._seeded.clear()

    def lacks(self, sha256: str) -> bool:
        """Whether the twin of that model is wanted and not there."""
        return self._wanted and sha256 not in self._seeded

    async def seed(self, seeds: Seeds, sha256: str, torrent: bytes, directory: Path) -> None:
        """Seed the twin of the hybrid `torrent` of a whole model in `directory`."""
        self._seeded[sha256] = await seeds.seed(v1_twin(torrent), directory)

    async def remove(self, seeds: Seeds, sha256: str) -> None:
        """Stop seeding it; nothing happens when it is not seeded."""
        if (infohashes := self._seeded.pop(sha256, None)) is not None:
            await seeds.remove(infohashes)

    def infohash(self, sha256: str) -> str | None:
        """Of the twin, while it is seeded."""
        infohashes = self._seeded.get(sha256)
        return infohashes.v1 if infohashes is not None else None

    def magnet(self, sha256: str, name: str) -> str | None:
        """For clients that cannot read hybrid torrents; None while it is not seeded."""
        infohash = self.infohash(sha256)
        return magnet.build(InfoHashes(v1=infohash), name) if infohash is not None else None

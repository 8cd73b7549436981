"""The LAN service as the neighbours that a pull asks."""

from __future__ import annotations

from collections.abc import Sequence

from hali.model.ids import InfoHashes
from hali.runtime.channels import Watch
from hali.share.base import Offer
from hali.share.partials import PartialEntry
from hali.store.models import Record
from hali.transfer.lan import LanAnnouncer, LanModel

ASK_S = 1.0  # sharing.md: a pull knows within a second


class LanNeighbours:
    """Asks whatever LAN service runs now; nobody answers while none does."""

    def __init__(self, lan: Watch[LanAnnouncer | None]) -> None:
        self._lan = lan

    @property
    def alone(self) -> bool:
        """See `Neighbours`."""
        lan = self._lan.value
        return lan is None or lan.alone

    async def ask(self, name: str) -> Sequence[Offer]:
        """Who has `name`?"""
        lan = self._lan.value
        if lan is None:
            return ()
        hits = await lan.query(name, timeout=ASK_S)
        return [
            Offer(
                model_id=hit.model_id,
                sha256_prefix=hit.sha256_prefix,
                infohashes=hit.infohashes,
                peers=tuple(hit.peers),
                size=hit.size,
                complete=hit.complete,
            )
            for hit in sorted(hits, key=lambda hit: -hit.nodes)  # of two torrents of one file, the one more nodes have
        ]

    async def news(self) -> None:
        """Wait until some node says something new; without a LAN service, until there is one."""
        lan = await self._lan.until(lambda service: service is not None)
        assert lan is not None
        await lan.changes.changed()


def lan_model(record: Record) -> LanModel:
    """What we announce of a model."""
    meta = record.meta
    return LanModel(
        model_id=meta.model_id,
        sha256=meta.sha256,
        infohashes=InfoHashes(meta.infohash_v1, meta.infohash_v2),
        size=meta.size,
    )


def lan_part(entry: PartialEntry) -> LanModel | None:
    """What we announce of a partial model; None while it is not seeded, or nobody has told the SHA-256 of the whole."""
    meta = entry.record.meta
    if not entry.seeded or meta.sha256 is None:
        return None
    return LanModel(meta.model_id, meta.sha256, entry.record.infohashes, meta.size, complete=False)


def lan_fetch(offer: Offer) -> LanModel | None:
    """What we announce of a model that we fetch; None when it cannot be announced."""
    if not offer.sha256_prefix or offer.infohashes.v2 is None or offer.size is None:
        return None
    return LanModel(offer.model_id, offer.sha256_prefix, offer.infohashes, offer.size, complete=False)

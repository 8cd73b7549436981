"""What the use cases of sharing need from the services below; `daemon/node.py` joins them with the concrete ones."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal, Protocol

import anyio
import msgspec

from hali.model.ids import InfoHashes


class Seeds(Protocol):
    """A session that can seed finished files."""

    async def seed(self, metainfo: bytes, directory: Path) -> InfoHashes:
        """Seed without reading the file; the same torrent twice is fine."""

    async def seed_part(self, metainfo: bytes, directory: Path, have: Collection[int]) -> InfoHashes:
        """Serve the pieces `have` of an unfinished file."""

    async def remove(self, infohashes: InfoHashes) -> None:
        """Stop seeding; files stay."""


class Offer(msgspec.Struct, frozen=True):
    """A model that nodes of the LAN say they have."""

    model_id: str
    sha256_prefix: str  # 32 hex digits; empty from nodes of LAN protocol 1, which tell none
    infohashes: InfoHashes
    peers: tuple[tuple[str, int], ...]  # BitTorrent endpoints
    size: int | None = None
    complete: bool = True  # False: all who offer it hold parts only, perhaps not all of them


class Neighbours(Protocol):
    """The LAN."""

    @property
    def alone(self) -> bool:
        """Whether nobody there has any model, as far as was heard; a question is then not worth a wait."""

    async def ask(self, name: str) -> Sequence[Offer]:
        """Who has `name` (model id, part of one, or SHA-256)? Answers within a second; empty when nobody does."""

    async def news(self) -> None:
        """Wait until somebody says something new."""


class Nobody:
    """The LAN when it is switched off."""

    alone = True

    async def ask(self, name: str) -> Sequence[Offer]:
        """Nobody answers."""
        return ()

    async def news(self) -> None:
        """There never are any."""
        await anyio.sleep_forever()


SearchSort = Literal["downloads", "likes", "updated"]


class Found(msgspec.Struct, frozen=True):
    """Something that a search found; None is what the provider does not say. Texts are fit for a terminal."""

    name: str  # what `hali pull` takes
    provider: str
    downloads: int | None = None
    likes: int | None = None
    updated: str | None = None  # RFC 3339, UTC, so that texts sort as times
    gated: bool = False


class Searchable(Protocol):
    """Somebody who knows models by words: the hub, a registry."""

    @property
    def name(self) -> str:
        """As shown beside its findings and in warnings."""

    async def search(self, text: str, *, limit: int, sort: SearchSort) -> Sequence[Found]:
        """At most `limit` models that fit the words, best first; HaliError when it cannot be asked."""


class Listing(msgspec.Struct, frozen=True):
    """A model that a publisher signed for and a registry lists; signature, torrent and names were checked against each other."""

    model_id: str
    sha256: str
    file: str
    size: int
    torrent: bytes  # the .torrent as the publisher made it: its web seeds are a stranger's
    publisher: str  # key, hex
    registry: str
    trust: float | None = None  # 0 … 100; None: the configuration pins the publisher's key
    repo: str | None = None
    revision: str | None = None


class Directory(Protocol):
    """The registries."""

    async def locate(self, name: str, *, allow_untrusted: bool = False) -> Listing | None:
        """The one model called `name` (id, part of one, SHA-256 or infohash); None when no registry that answers lists it.

        AmbiguousName, Refused below the trust threshold, VerificationFailed when all that is listed is forged.
        """


class NoDirectory:
    """Without registries."""

    async def locate(self, name: str, *, allow_untrusted: bool = False) -> Listing | None:
        """Nothing is listed."""
        return None

"""What the torrent session tells, as plain values. `Fetch.events()` yields the first group, the session's bus the second."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from hali.model.ids import InfoHashes

# ---- of one fetch


class MetadataReceived(msgspec.Struct, frozen=True):
    """A magnet's torrent is known. Nothing is downloaded before the next event is asked for. Has no piece layers yet."""

    metainfo: bytes


class PieceDone(msgspec.Struct, frozen=True):
    """Piece `index` passed its hash and its bytes can be read from the file. `senders`: blocks by IP, as far as counted."""

    index: int
    senders: Mapping[str, int] = MappingProxyType({})


class Progress(msgspec.Struct, frozen=True):
    """A snapshot, twice a second at most."""

    rate: float  # bytes of payload per second
    peers: int


class PieceFailed(msgspec.Struct, frozen=True):
    """Piece `index` arrived wrong and is fetched again."""

    index: int


class StartedOver(msgspec.Struct, frozen=True):
    """The torrent is added anew, after wrong data: what peers sent late may lie over pieces that were right."""


class PeerBanned(msgspec.Struct, frozen=True):
    """A peer that sent wrong bytes was shut out; `address` is its IP. Said once of each."""

    address: str


class Finished(msgspec.Struct, frozen=True):
    """All pieces are done. `metainfo` is complete (with piece layers) when the torrent's own was not and they are known now."""

    metainfo: bytes | None = None


class FetchFailed(msgspec.Struct, frozen=True):
    """The fetch cannot go on; what is done stays done. `code`: stalled, no_space, io, metadata, hostile or closed."""

    reason: str
    code: str


FetchEvent = MetadataReceived | PieceDone | Progress | PieceFailed | StartedOver | PeerBanned | Finished | FetchFailed

# ---- of the session


class TorrentAdded(msgspec.Struct, frozen=True):
    """A torrent is seeded or fetched from now on."""

    infohashes: InfoHashes
    name: str
    seeding: bool


class TorrentRemoved(msgspec.Struct, frozen=True):
    """The session no longer knows this torrent."""

    infohashes: InfoHashes
    name: str


class SeedDamaged(msgspec.Struct, frozen=True):
    """libtorrent found the file of a seed changed or unreadable; it is no longer served."""

    infohashes: InfoHashes
    name: str
    reason: str


SessionEvent = TorrentAdded | TorrentRemoved | SeedDamaged | PeerBanned

# ---- asked for


class TorrentStatus(msgspec.Struct, frozen=True):
    """State of one torrent; rates in bytes per second, totals in bytes of payload since it was added."""

    infohashes: InfoHashes
    name: str
    state: str  # metadata, checking, downloading, seeding, paused, error
    progress: float  # 0 … 1
    peers: int
    seeds: int
    down_rate: float
    up_rate: float
    downloaded: int
    uploaded: int


class Totals(msgspec.Struct, frozen=True):
    """The whole session since it started: payload bytes, payload rates in bytes per second, connected peers."""

    downloaded: int
    uploaded: int
    down_rate: float
    up_rate: float
    peers: int


class Traffic(msgspec.Struct, frozen=True):
    """All bytes of the session since it started, with protocol and the estimated TCP/IP overhead: what its own limits count."""

    received: int
    sent: int

"""Where the bytes of a file came from, piece by piece."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from hali.model.units import BLOCK


class SourceKind(IntEnum):
    """Who brought a piece. The numbers are written in journals."""

    UNKNOWN = 0  # hashed from a file that was there, or recorded before sources were
    HTTP = 1  # Hugging Face or its mirror
    WEBSEED = 2  # an address that the torrent names
    SWARM = 3  # BitTorrent peers, those of the LAN among them
    STORE = 4  # the same file of another model that is here


class PieceSource(NamedTuple):
    """Of one piece: who brought it and, of a swarm, how many blocks of 16 KiB came from nodes of the LAN."""

    kind: SourceKind = SourceKind.UNKNOWN
    lan_blocks: int = 0


def mix(pieces: Iterable[tuple[int, PieceSource]]) -> dict[str, int]:
    """Bytes by `http`, `webseed`, `lan`, `torrent` and `store` of pieces given as (bytes, source); what is unknown counts nowhere."""
    found: Counter[str] = Counter()
    for size, (kind, lan_blocks) in pieces:
        match kind:
            case SourceKind.HTTP:
                found["http"] += size
            case SourceKind.WEBSEED:
                found["webseed"] += size
            case SourceKind.SWARM:
                lan = min(size, lan_blocks * BLOCK)
                found["lan"] += lan
                found["torrent"] += size - lan
            case SourceKind.STORE:
                found["store"] += size
    return {name: size for name, size in found.items() if size}

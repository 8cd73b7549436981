"""The v1 torrent of the same file and pieces, for clients that cannot read a v2 file tree (Transmission before 4.0)."""

from __future__ import annotations

from typing import Any

import libtorrent as lt


def v1_twin(torrent: bytes) -> bytes:
    """A hybrid torrent without what is of v2. It has another infohash, so it is a torrent swarm of its own."""
    whole: Any = lt.bdecode(torrent)
    info = {key: value for key, value in whole[b"info"].items() if key not in (b"file tree", b"meta version")}
    rest = {key: value for key, value in whole.items() if key not in (b"info", b"piece layers")}
    return bytes(lt.bencode({**rest, b"info": info}))

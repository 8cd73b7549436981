"""Several files as one model, for tests: the files, and the torrents that hali and libtorrent make of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import libtorrent as lt

from hali.hashing import hash_file, padded_sha1
from hali.model.units import PIECE, piece_count
from hali.transfer import bundle
from tests.fakes.torrents import content


def write(folder: Path, lengths: Mapping[str, int]) -> Path:
    """Files of these lengths, each with other bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, length in lengths.items():
        (folder / name).write_bytes(content(length, name))
    return folder


def member(path: Path) -> bundle.Member:
    """A file as the builder wants it."""
    digests = hash_file(path)
    last = (piece_count(digests.length) - 1) * PIECE
    return bundle.Member(path.name, digests, padded_sha1(path.read_bytes()[last:]))


def torrent_by_hali(folder: Path) -> bytes:
    """Of all files of a folder."""
    return bundle.build([member(path) for path in folder.iterdir()], folder.name)


def torrent_by_libtorrent(folder: Path, piece: int = PIECE, flags: int | None = None) -> dict[bytes, Any]:
    """The same by libtorrent's own tool, which reads the files; hybrid with padding between the files, unless told otherwise."""
    kind = lt.create_torrent.canonical_files_no_tail_padding if flags is None else flags
    creator = lt.create_torrent(lt.list_files(str(folder)), piece, kind)
    lt.set_piece_hashes(creator, str(folder.parent))
    made: Any = creator.generate()
    return made

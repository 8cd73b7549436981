"""Every backend that this processor has gives the digests of hashlib, blake3 and libtorrent."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import blake3
import libtorrent as lt
import pytest

from hali.hashing import available_backends, backend, hash_file, sha1_pieces
from hali.model.digests import FileDigests
from hali.model.units import PIECE
from tests.property.hash_cases import files, lengths, line

ROOT = Path(__file__).resolve().parents[2]


def by_others(data: memoryview, path: Path) -> FileDigests:
    """hashlib, blake3, and the hybrid torrent that libtorrent makes of the file."""
    sha256, blake = hashlib.sha256(data).digest(), blake3.blake3(data).digest()
    if not data:  # libtorrent refuses a torrent without bytes
        return FileDigests(0, sha256, blake, b"", bytes(32), b"")
    torrent = lt.create_torrent([lt.create_file_entry(path.name, len(data))], PIECE)
    lt.set_piece_hashes(torrent, str(path.parent))
    made: dict[bytes, Any] = torrent.generate()
    root = made[b"info"][b"file tree"][path.name.encode()][b""][b"pieces root"]
    layer = made[b"piece layers"].get(root, b"")
    return FileDigests(len(data), sha256, blake, made[b"info"][b"pieces"], root, layer)


@functools.cache
def expected() -> str:
    """What `tests.property.hash_cases` must print."""
    return "".join(f"{line(by_others(data, path))}\n" for data, path in files(lengths(120, seed=2)))


def test_a_thousand_files_around_the_edges_have_the_digests_that_hashlib_blake3_and_libtorrent_give() -> None:
    for data, path in files(lengths(1000, seed=1)):
        theirs = by_others(data, path)
        assert hash_file(path) == theirs, len(data)
        assert sha1_pieces(path) == theirs.sha1_pieces, len(data)


@pytest.mark.parametrize("name", available_backends())
def test_a_forced_backend_gives_the_same_digests(name: str) -> None:
    command = [sys.executable, "-m", "tests.property.hash_cases"]
    environment = {**os.environ, "HALI_HASH_BACKEND": name}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == expected()


def test_the_best_backend_is_chosen_and_the_portable_one_is_always_there() -> None:
    names = available_backends()
    assert names[-1] == "portable"
    chosen = os.environ.get("HALI_HASH_BACKEND") or names[0]
    assert backend().split()[:2] == [f"sha1={chosen}", f"sha256={chosen}"]

"""P2: every digest of a file in one pass with all cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import libtorrent as lt
from pytest_benchmark.fixture import BenchmarkFixture

from bench import hashing_rivals as rivals
from bench.versus import SHORT, versus
from hali.hashing import hash_file
from hali.model.units import PIECE

SIZE = (24 if SHORT else 64) * PIECE


def test_all_digests_of_a_file(benchmark: BenchmarkFixture, file_of: Callable[[int], Path]) -> None:
    path, cores = file_of(SIZE), len(os.sched_getaffinity(0))
    found = hash_file(path)
    expected = rivals.one_after_the_other(path)
    assert (found.sha256, found.blake3, found.sha1_pieces, found.v2_root, found.v2_layer) == expected
    made = rivals.libtorrent_creation(path)
    assert (made[b"info"][b"pieces"], made[b"piece layers"][found.v2_root]) == (found.sha1_pieces, found.v2_layer)
    others = {
        "hashlib and blake3, one after the other": partial(rivals.one_after_the_other, path),
        "libtorrent's creation, then SHA-256 and BLAKE3": partial(rivals.libtorrent_and_the_rest, path),
        # for comparison only: no SHA-256 of the file, no BLAKE3
        "libtorrent's creation (2 of 4 digests)": partial(rivals.libtorrent_creation, path),
        "libtorrent's check (2 of 4 digests)": partial(rivals.libtorrent_check, path, lt.torrent_info(made), cores),
    }
    versus(benchmark, "P2", f"all digests, {cores} cores", lambda: hash_file(path), others, size=SIZE, rounds=5)

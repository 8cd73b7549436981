"""P1: SHA-1 of 16 MiB pieces of a file in the page cache, one thread."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import libtorrent as lt
from pytest_benchmark.fixture import BenchmarkFixture

from bench import hashing_rivals as rivals
from bench.versus import SHORT, versus
from hali.hashing import sha1_pieces
from hali.model.units import PIECE

SIZE = (32 if SHORT else 64) * PIECE  # whole groups of the widest backend; beyond every cache


def test_sha1_of_pieces(benchmark: BenchmarkFixture, file_of: Callable[[int], Path]) -> None:
    path = file_of(SIZE)
    others = {
        "hashlib": partial(rivals.sha1_by_read, path),
        "hashlib, mmap": partial(rivals.sha1_by_mmap, path),
        "torf": partial(rivals.torf_creation, path, 1),
        "libtorrent, v1 creation": partial(rivals.libtorrent_creation, path, lt.create_torrent.v1_only),
    }
    if shutil.which("mktorrent"):
        others["mktorrent"] = partial(rivals.mktorrent, path, 1)
    expected = rivals.sha1_by_read(path)
    assert sha1_pieces(path, threads=1) == rivals.sha1_by_mmap(path) == rivals.torf_creation(path, 1) == expected
    assert others["libtorrent, v1 creation"]()[b"info"][b"pieces"] == expected  # type: ignore[index]
    versus(benchmark, "P1", "SHA-1 of pieces, one thread", lambda: sha1_pieces(path, threads=1), others, size=SIZE)

"""`hali hash`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from hali.cli.apps import new_app
from hali.cli.jobs import display_for
from hali.cli.output import Output, current
from hali.config.paths import expanded
from hali.hashing import backend, hash_file
from hali.model.digests import FileDigests
from hali.model.errors import UsageError
from hali.model.ids import InfoHashes
from hali.model.units import PIECE, format_bytes, piece_count

app = new_app()


@app.command(name="hash")
def hash_(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Any file.")],
    threads: Annotated[
        int, typer.Option("--threads", metavar="N", help="Cores to use; 0 takes as many as pay.", min=0)
    ] = 0,
) -> None:
    """Read a file once and print its SHA-256, its BLAKE3, and the infohashes of the torrent that hali makes of it.

    Nothing is stored and no daemon is needed. The environment variable HALI_HASH_BACKEND (`sha-ni+avx512`, `sha-ni`,
    `avx512`, `avx2`, `armv8`, `portable`) forces the instructions that hash. With --json: `file`, `sha256`, `blake3`,
    `infohash_v1`, `infohash_v2` (both null where there is no torrent: of an empty file, or of a name that not every
    system can have), `pieces`, `bytes`, `seconds`, `gb_per_s`, `backend`.
    """
    out = current(ctx)
    path = expanded(file)
    began = time.perf_counter()
    digests = _hashed(out, path, threads)
    found = _facts(path, digests, time.perf_counter() - began)
    if out.as_json:
        out.json(found)
        return
    for name in ("sha256", "blake3", "infohash_v1", "infohash_v2"):
        out.line(f"{name:<12}{found[name] or '—'}")
    rate = f" ({found['gb_per_s']:.2f} GB/s)" if found["gb_per_s"] is not None else ""
    out.line(
        f"{found['pieces']} piece{'' if found['pieces'] == 1 else 's'}, {format_bytes(found['bytes'])} ({found['bytes']} bytes) "
        f"in {found['seconds']:.3f} s{rate}, {found['backend']}"
    )


def _hashed(out: Output, path: Path, threads: int) -> FileDigests:
    """Hash with a progress bar on a terminal; nothing but the result elsewhere."""
    if not out.animated:
        return hash_file(path, threads=threads)
    display, done = display_for(out), 0

    def on_piece(*_: object) -> None:
        nonlocal done
        done += PIECE
        display.show(_event(path, min(done, size), size, time.monotonic() - began))

    began = time.monotonic()
    try:
        size = path.stat().st_size if path.is_file() else 0  # hash_file says what is wrong with it
        return hash_file(path, threads=threads, on_piece=on_piece)
    finally:
        display.close()


def _event(path: Path, done: int, total: int, seconds: float) -> dict[str, Any]:
    """Progress as a job of the daemon tells it."""
    rate = done / seconds if seconds else None
    return {
        "state": "hashing",
        "name": path.name,
        "done": done,
        "total": total,
        "rate": rate,
        "peers": None,
        "sources": {},
    }


def _facts(path: Path, digests: FileDigests, seconds: float) -> dict[str, Any]:
    hashes = _infohashes(digests, path.absolute().name)
    return {
        "file": str(path),
        "sha256": digests.sha256.hex(),
        "blake3": digests.blake3.hex(),
        "infohash_v1": hashes.v1,
        "infohash_v2": hashes.v2,
        "pieces": piece_count(digests.length),
        "bytes": digests.length,
        "seconds": round(seconds, 6),
        "gb_per_s": round(digests.length / seconds / 1e9, 3) if digests.length else None,
        "backend": backend(),
    }


def _infohashes(digests: FileDigests, name: str) -> InfoHashes:
    """Of the torrent that hali makes of the file; none where it makes none."""
    from hali.transfer import metainfo  # loads libtorrent, which costs more time than a small file

    try:
        return metainfo.parse(metainfo.build(digests, name)).infohashes
    except UsageError:  # empty, or a name that not every system can have; the digests are right all the same
        return InfoHashes()

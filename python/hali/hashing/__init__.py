"""Typed façade over the native hashers (`hali._native.hashcore`).

One pass over bytes gives SHA-1 per 16 MiB piece, the v2 piece layer and root (BEP 52), the file's SHA-256 and BLAKE3.
`hash_file` for a file on disk, `PieceHasher` while pieces arrive in any order, `StreamHasher` for a stream.
"""

from __future__ import annotations

from hali.hashing.counted import HASHED
from hali.hashing.files import (
    OnPiece,
    available_backends,
    backend,
    blake3_ranges,
    build_profile,
    hash_file,
    hash_file_async,
    sha1_pieces,
)
from hali.hashing.pieces import File, PieceHasher, StreamHasher, hash_piece, padded_sha1, padded_sha1_of

__all__ = [
    "HASHED",
    "File",
    "OnPiece",
    "PieceHasher",
    "StreamHasher",
    "available_backends",
    "backend",
    "blake3_ranges",
    "build_profile",
    "hash_file",
    "hash_file_async",
    "hash_piece",
    "padded_sha1",
    "padded_sha1_of",
    "sha1_pieces",
]

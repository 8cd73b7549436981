"""Digests of pieces and files, as one pass over the bytes yields them."""

from __future__ import annotations

import msgspec


class PieceDigests(msgspec.Struct, frozen=True):
    """Digests of one 16 MiB piece (the last may be shorter)."""

    sha1: bytes  # 20 B, the v1 piece hash
    root: bytes  # 32 B, the node of the BEP 52 piece layer
    cv: bytes  # 32 B, BLAKE3 chaining value of the piece's subtree; merges to the file's BLAKE3


class FileDigests(msgspec.Struct, frozen=True):
    """Digests of a whole file of `length` bytes."""

    length: int
    sha256: bytes  # 32 B, the file's identity
    blake3: bytes  # 32 B
    sha1_pieces: bytes  # 20 B per piece, the `pieces` of a v1 torrent
    v2_root: bytes  # 32 B, `pieces root` of BEP 52; 32 zero bytes for an empty file
    v2_layer: bytes  # 32 B per piece; empty when the file fits one piece (BEP 52 has no layer then)

    @property
    def sha256_hex(self) -> str:
        """The identity as people and Hugging Face write it."""
        return self.sha256.hex()

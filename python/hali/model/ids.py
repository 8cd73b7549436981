"""Identity of models: the SHA-256 of the file, or of the list of the files. Everything else is a name for people."""

from __future__ import annotations

import re

import msgspec

MIN_HASH_PREFIX = 8  # hex digits; fewer would make short names look like hashes
_HEX = re.compile(r"[0-9a-f]+\Z")


def is_hex(text: str, digits: int) -> bool:
    """True for exactly `digits` lower-case hexadecimal digits."""
    return len(text) == digits and _HEX.match(text) is not None


def is_hash_prefix(text: str) -> bool:
    """Whether it is the beginning of a hash, or all of one."""
    return len(text) >= MIN_HASH_PREFIX and is_hex(text, len(text))


class ModelRef(msgspec.Struct, frozen=True):
    """One exact model: its SHA-256, where it comes from, the name of its (first) file and its size in bytes."""

    sha256: str
    file: str
    size: int
    repo: str | None = None
    revision: str | None = None


class InfoHashes(msgspec.Struct, frozen=True):
    """The two names of one torrent; either may be missing for foreign torrents."""

    v1: str | None = None  # 40 hex digits
    v2: str | None = None  # 64 hex digits

    @property
    def best(self) -> str:
        """v2 when known: it cannot be forged by SHA-1 collisions."""
        found = self.v2 or self.v1
        if found is None:
            raise ValueError("a torrent without any infohash")
        return found

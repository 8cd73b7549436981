"""Sizes and spans of pieces, and how people read quantities."""

from __future__ import annotations

import re

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
GB = 10**9  # as disks are sold, and as `hali list` shows sizes

BLOCK = 16 * KIB  # BEP 52: the leaf of a v2 merkle tree, and the unit peers request
RESERVE = 64 * MIB  # of a disk: stays free for the database, logs and the rest of the machine
MEGABIT = 125_000  # bytes; rates of lines and caps are sold and set in 10^6 bits per second

DAY_S = 86_400
LONGEST = 366 * DAY_S  # seconds; who means longer than a year means for ever

PIECE = 16 * MIB  # always: the same file has the same infohash on every machine (sharing.md, Torrents)


def piece_count(length: int, piece: int = PIECE) -> int:
    """How many pieces a file of `length` bytes has (0 for an empty file)."""
    return -(-length // piece)


def piece_span(index: int, length: int, piece: int = PIECE) -> tuple[int, int]:
    """(offset, size) in bytes of piece `index`; ValueError outside the file."""
    if not 0 <= index < piece_count(length, piece):
        raise ValueError(f"piece {index} is outside a file of {length} bytes")
    offset = index * piece
    return offset, min(piece, length - offset)


def format_bytes(n: float) -> str:
    """`98362432` → `98.4 MB`: decimal units, as disks and networks are sold."""
    value = float(n)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def format_rate(bytes_per_second: float | None) -> str:
    """`4.1e7` → `41.0 MB/s`; a rate nobody measured is a dash."""
    return "—" if bytes_per_second is None else f"{format_bytes(bytes_per_second)}/s"


def parse_duration(text: str) -> float:
    """`90s`, `45m`, `2h`, `1h30m`, `1d` → seconds, more than 0; ValueError."""
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text.strip().lower())
    parts = [int(part or 0) for part in match.groups()] if match else []
    seconds = sum(part * unit for part, unit in zip(parts, (DAY_S, 3600, 60, 1), strict=False))
    if seconds > LONGEST:
        raise ValueError(f"{text!r} is longer than a year")
    if not seconds:
        raise ValueError(f"{text!r} is no duration (90s, 45m, 2h, 1h30m, 1d)")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """`8100` → `2h15m0s`."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{secs}s"
    return f"{minutes}m{secs}s" if minutes else f"{secs}s"

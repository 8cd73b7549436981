"""Whether weights are copied into memory in huge pages instead of mapping their file. Daemon side.

All weights are read for each token. In pages of 4 KiB the processor looks up 256 addresses for each MiB, which costs
a virtual machine most (two tables each): copied into pages of 2 MiB SmolLM2 said a tenth more tokens a second than
mapped, a model of 700 MB a twentieth (two cores of a Zen 4). Copied into small pages it says a seventh fewer.
A copy lies in memory beside the kernel's cache of the file, hence only where there is plenty.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# glibc asks for huge pages where it is told to, from 2.35 on; weights, KV cache and what is computed come from its malloc.
TUNABLES = "glibc.malloc.hugetlb=1"
PLENTY = 4  # times the weights are free


def huge_pages(thp: Path = THP) -> bool:
    """Whether memory that a worker allocates comes in huge pages: Linux gives them to all, or to those that ask."""
    try:
        modes = thp.read_text().split()
    except OSError:
        return False  # not Linux, or a kernel without
    return "[always]" in modes or ("[madvise]" in modes and _glibc() >= (2, 35))


def worth_copying(weights: int, free: int | None) -> bool:
    """Whether `weights` bytes leave most of the `free` RAM to others (None = unknown)."""
    return free is not None and weights * PLENTY <= free


def tunables(environ: Mapping[str, str]) -> str:
    """GLIBC_TUNABLES of a worker: what the user has set wins."""
    return ":".join(filter(None, (TUNABLES, environ.get("GLIBC_TUNABLES"))))


def _glibc() -> tuple[int, ...]:
    """(2, 36), say; () where the C library is another one."""
    try:
        name, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
        return tuple(int(part) for part in version.split(".")) if name == "glibc" else ()
    except (ValueError, OSError):
        return ()

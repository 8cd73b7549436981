"""How many cores the engine may keep busy."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cores(quota_file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Cores this process may run on: its affinity, and a container's quota (`docker --cpus=2` on 64 cores is 2)."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return cores  # no cgroup v2 here, or "max": no quota


def choose_threads(threads: int, threads_batch: int, cores: int) -> tuple[int, int]:
    """(for one row, for several), where 0 means "choose".

    One row waits for memory: half the cores are enough. Several rows compute, and leave two cores to the daemon and the
    user: libgomp's threads spin at barriers, and one core too many costs a factor of five (pipeline.md, 4.4).
    """
    one = threads or max(1, cores // 2)
    return one, threads_batch or max(one, cores - 2)

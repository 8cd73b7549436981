"""How much memory is free on this machine, in RAM and on NVIDIA GPUs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import anyio
import msgspec

from hali.model.units import KIB, MIB
from hali.runtime.log import get_logger

log = get_logger(__name__)

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
NVIDIA_SMI = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
GPU_S = 5.0  # a driver that has to wake up takes about two seconds; a person waits for the list


class Memory(msgspec.Struct, frozen=True):
    """Free bytes; None is unknown (RAM) or no GPU that we know of."""

    ram: int | None = None
    gpu: int | None = None


async def free_memory() -> Memory:
    """What a model that is loaded now could get."""
    return Memory(free_ram(MEMINFO, CGROUP), await _free_gpu())


def free_ram(meminfo: Path, cgroup: Path) -> int | None:
    """The kernel's estimate for new programs, page cache given up; less where a container's limit is nearer. None without /proc."""
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        available = int(fields["MemAvailable"].split()[0]) * KIB
    except (OSError, ValueError, KeyError, IndexError):
        return None  # not Linux
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    if limit is None or used is None:
        return available
    return min(available, max(0, limit - used + _cached(cgroup / "memory.stat")))


def total_ram(meminfo: Path = MEMINFO, cgroup: Path = CGROUP) -> int | None:
    """What the machine has, or the container may use where that is less. None without /proc."""
    try:
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        total = int(fields["MemTotal"].split()[0]) * KIB
    except (OSError, ValueError, KeyError, IndexError):
        return None
    limits = (
        _number(cgroup / "memory.max"),
        _number(cgroup / "memory" / "memory.limit_in_bytes"),
    )  # version 2, version 1
    return min([total, *(limit for limit in limits if limit is not None)])


def _cached(stat: Path) -> int:
    """Bytes of files in memory that the kernel gives up first; 0 when unknown."""
    try:
        return int(dict(line.split() for line in stat.read_text().splitlines())["inactive_file"])
    except (OSError, ValueError, KeyError):
        return 0


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None  # no cgroup v2, or `max`: no limit


async def _free_gpu() -> int | None:
    try:
        with anyio.fail_after(GPU_S):
            done = await anyio.run_process(NVIDIA_SMI, check=False, stderr=subprocess.DEVNULL)
    except (OSError, TimeoutError) as exc:
        log.debug("memory.no_gpu", error=str(exc))
        return None
    return gpu_bytes(done.stdout.decode("ascii", "replace")) if done.returncode == 0 else None


def gpu_bytes(listed: str) -> int | None:
    """The sum over the GPUs of nvidia-smi's lines (MiB each), over which llama.cpp spreads a model; None when it lists none."""
    found = [int(line) for line in listed.split("\n") if line.strip().isdecimal()]
    return sum(found) * MIB if found else None

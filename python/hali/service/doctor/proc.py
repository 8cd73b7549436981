"""Who holds a port or a lock, from /proc. Elsewhere than on Linux, and of other users' processes, nobody knows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

PROC = Path("/proc")
Protocol = Literal["tcp", "udp"]
_LISTENING = "0A"  # include/net/tcp_states.h; a UDP socket that is bound has none of its own


class Holder(msgspec.Struct, frozen=True):
    """A process. `name` as the kernel has it, never its arguments: they may hold secrets."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (PID {self.pid})"


def holder_of_port(protocol: Protocol, port: int, proc: Path = PROC) -> Holder | None:
    """The process that listens on `port`, if it can be seen."""
    inodes = {inode for table in (protocol, f"{protocol}6") for inode in _inodes(proc / "net" / table, protocol, port)}
    links = {f"socket:[{inode}]" for inode in inodes}
    return next((_named(proc, pid) for pid in _pids(proc) if links and links & _open(proc, pid)), None)


def _inodes(table: Path, protocol: Protocol, port: int) -> Iterator[str]:
    try:
        rows = table.read_text().splitlines()[1:]
    except OSError:  # no IPv6, or no /proc
        return
    for row in rows:
        _, local, _, state, *rest = row.split()
        if int(local.rpartition(":")[2], 16) == port and (protocol == "udp" or state == _LISTENING):
            yield rest[5]


def holder_of_lock(path: Path, proc: Path = PROC) -> int | None:
    """The PID that holds a flock on `path`; 0 when somebody does who cannot be seen, None when nobody does."""
    try:
        inode, rows = path.stat().st_ino, (proc / "locks").read_text().splitlines()
    except OSError:
        return None
    for row in rows:
        fields = row.split()
        # `1: FLOCK  ADVISORY  WRITE 812 fe:00:1577 0 EOF`; after `->` comes who waits
        if "->" not in fields and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            pid = max(0, int(fields[4]))
            if not pid or _has_open(proc, pid, path):  # another file system may have the same number
                return pid
    return None


def _has_open(proc: Path, pid: int, path: Path) -> bool:
    try:
        return any(os.path.samefile(entry, path) for entry in (proc / str(pid) / "fd").iterdir() if entry.exists())
    except OSError:  # not ours to see: believe the number
        return True


def _pids(proc: Path) -> list[int]:
    return [int(entry) for entry in os.listdir(proc) if entry.isdecimal()] if proc.exists() else []


def _open(proc: Path, pid: int) -> set[str]:
    """What the descriptors of a process lead to; nothing of one that is gone or another user's."""
    folder = proc / str(pid) / "fd"
    found = set()
    try:
        for entry in os.listdir(folder):
            found.add(os.readlink(folder / entry))
    except OSError:
        return found
    return found


def _named(proc: Path, pid: int) -> Holder:
    try:
        return Holder(pid, (proc / str(pid) / "comm").read_text().strip())
    except OSError:
        return Holder(pid, "a process that has ended")

"""Network namespaces of Linux: made, entered, and removed, also those that a killed run left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

RUN = Path("/run/netns")
_PREFIX = "hali"
_NAME = re.compile(rf"{_PREFIX}-(\d+)-(\d+)-")
_CLONE_NEWNET = 0x40000000  # linux/sched.h; os.setns comes with Python 3.12
_libc = ctypes.CDLL(None, use_errno=True)


def ip(*arguments: str) -> str:
    """Run `ip ARGUMENTS`; its output, RuntimeError with its words when it fails."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def own_name(name: str) -> str:
    """A namespace's name that tells to which process it belongs: `hali-PID-STARTED-NAME`."""
    return f"{_PREFIX}-{os.getpid()}-{_started(os.getpid())}-{name}"


def _started(pid: int) -> int | None:
    """When the process began, in clock ticks since boot (proc(5), field 22); None when there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None


def remove_leftovers() -> None:
    """Remove the namespaces of runs that are gone; a number used again by another process does not protect them."""
    for name in [entry.name for entry in RUN.iterdir()] if RUN.is_dir() else ():
        owner = _NAME.match(name)
        if owner and _started(int(owner[1])) != int(owner[2]):
            remove(name)


def remove(name: str) -> None:
    """End what still runs in the namespace and delete it; its links go with it."""
    for pid in ip("netns", "pids", name).split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    ip("netns", "delete", name)


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """This thread in namespace `name`: sockets made here belong to it for ever."""
    with open("/proc/thread-self/ns/net") as before, (RUN / name).open() as wanted:
        _enter(wanted.fileno())
        try:
            yield
        finally:
            _enter(before.fileno())


def _enter(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def missing() -> str | None:
    """What this machine lacks for a lab; None when it has everything."""
    if os.geteuid() != 0:
        return "it is not run by root"
    probe = own_name("probe")
    tries = [
        ("network namespaces", ["ip", "netns", "add", probe]),
        ("bridges", ["ip", "-n", probe, "link", "add", "br0", "type", "bridge"]),
        ("veth pairs", ["ip", "-n", probe, "link", "add", "v0", "type", "veth", "peer", "name", "v1"]),
        ("the queue discipline tbf", ["tc", "-n", probe, "qdisc", "add", "dev", "v0", "root", *tbf(1000)]),
    ]
    try:
        for what, command in tries:
            if not _works(command):
                return f"there are no {what} here ({' '.join(command)} fails)"
        return None
    finally:
        _works(["ip", "netns", "delete", probe])


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def tbf(megabits: float) -> list[str]:
    """Arguments of `tc qdisc add` for a link of that rate.

    The bucket takes 2 ms and a whole 64 KiB segment, which a veth pair passes on undivided. The queue takes 2.5 MB: a
    small switch has that much memory, and with less, several senders at once would mostly wait for retransmissions.
    """
    burst = max(64 * 1024 + 2048, round(megabits * 125_000 * 0.002))
    return ["tbf", "rate", f"{megabits}mbit", "burst", str(burst), "limit", str(burst + 2_500_000)]

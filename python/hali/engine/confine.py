"""What the worker gives up before it touches a stranger's file. Linux; elsewhere it says what was not possible."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38  # linux/prctl.h
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000  # linux/sched.h
_OOM_FIRST = 800  # of 1000: when memory runs out the kernel takes the worker, not the daemon that can restart it


def confine(parent: int, memory_limit: int | None) -> dict[str, str]:
    """Limit this process; call before any thread exists. Returns what holds: aspect → "none", "limited", "shared", …

    Exits at once if `parent` is already gone: then nobody would ever end this process.
    """
    result = {
        "parent_death": _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL)),
        "new_privileges": _prctl(_PR_SET_NO_NEW_PRIVS, 1),
        "network": _leave_network(),
        "core_dumps": _limit(resource.RLIMIT_CORE, 0),
        "oom": _volunteer(),
        "memory": "unlimited" if memory_limit is None else _limit(resource.RLIMIT_AS, memory_limit),
    }
    if os.getppid() != parent:
        os._exit(1)
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> str:
    if sys.platform != "linux":
        return "unsupported"
    failed = _libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0)
    return os.strerror(ctypes.get_errno()) if failed else "set"


def _leave_network() -> str:
    """ "none": a network namespace with no interface in it; "shared": the kernel does not let us have one."""
    if sys.platform != "linux":
        return "shared"
    libc = _libc()
    for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET):  # root needs no user namespace, others do
        if libc.unshare(flags) == 0:
            return "none"
    return "shared"


def _limit(what: int, value: int) -> str:
    try:
        resource.setrlimit(what, (value, value))
    except (OSError, ValueError) as error:
        return str(error)
    return "limited"


def _volunteer() -> str:
    try:
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_FIRST))
    except OSError as error:
        return error.strerror or "unsupported"
    return "first"

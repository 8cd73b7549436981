"""Facts about processes that the daemon and the CLI need: who lives, which boot this is."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from hali.model.errors import ConfigError

# Soft limits are 1,024 by custom, for the sake of select(). The API alone takes up to 1,040 connections; peers and files come on top.
FILES = 16_384
FEWEST = 128  # an idle daemon has some 40 open; below that a few peers or clients already end in errors


def is_alive(pid: int) -> bool:
    """True if a process of that id exists and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # Field 3 of /proc/PID/stat, after the parenthesised name, is the state; Z is dead but not yet reaped.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True  # no /proc here (macOS): the signal was accepted


def boot_id() -> str:
    """Names this boot of the machine; after a power cut it differs, and unsynced file contents cannot be trusted."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def allow_many_files() -> None:
    """Raise this process's limit of open files as far as the system lets it, up to `FILES`; ConfigError below `FEWEST`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if hard != resource.RLIM_INFINITY and hard < FEWEST:
        told = f"{hard} files may be open at once, and the daemon needs {FEWEST}"
        raise ConfigError(told, hint="raise the limit: `ulimit -n 4096` where that is allowed, LimitNOFILE= of a unit")

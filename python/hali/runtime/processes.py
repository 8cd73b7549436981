"""Facts about processes that the daemon and the CLI need: who lives, which boot this is."""

from __future__ import annotations

import os
from pathlib import Path


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

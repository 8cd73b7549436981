"""How much this process has hashed, for whoever wants to know how fast."""

from __future__ import annotations

import threading


class Counted:
    """A sum that threads add to; once for each 16 MiB, so a lock costs nothing."""

    def __init__(self) -> None:
        self.bytes = 0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        """`count` bytes more."""
        with self._lock:
            self.bytes += count


HASHED = Counted()
"""Bytes that went through the piece hashers since the process began; each once, however many digests it has."""

"""How many connections each address holds. Pure counting; `http` acts on it."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Literal

from hali.api.base import ApiLimits

Slot = Literal["open", "reserved", "none"]


class Connections:
    """Caps in all and by address; above each a few reserved slots, so that one can still ask how hali is."""

    def __init__(self, limits: ApiLimits) -> None:
        self._limits = limits
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._of.total()

    def enter(self, address: str) -> Slot:
        """Count a connection in; `none` is not counted and must be closed."""
        limits = self._limits
        cap = limits.per_loopback if _is_loopback(address) else limits.per_address
        over = max(self._of[address] - cap, len(self) - limits.connections)
        if over >= limits.reserved:
            return "none"
        self._of[address] += 1
        return "open" if over < 0 else "reserved"

    def leave(self, address: str) -> None:
        """Count it out."""
        self._of[address] -= 1
        if self._of[address] <= 0:
            del self._of[address]


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False

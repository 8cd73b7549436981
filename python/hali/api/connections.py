"""How many connections each address holds, and who gives way to a newcomer. Pure counting; `http` acts on it."""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Generic, Literal, TypeVar

from hali.api.base import ApiLimits

Slot = Literal["open", "reserved", "none"]
C = TypeVar("C", bound=Hashable)

TELL_EVERY_S = 10.0  # between two log lines about evictions: 10,000 strangers must not fill the log


class Connections(Generic[C]):
    """Caps in all and by address. A newcomer takes the place of whoever keeps us waiting longest; where nobody does, there are
    a few reserved slots above each cap, so that one can still ask how hali is.
    """

    def __init__(self, limits: ApiLimits) -> None:
        self._limits = limits
        self._of: Counter[str] = Counter()
        self._owing: OrderedDict[C, str] = OrderedDict()  # to their addresses, who began to owe us something first
        self._unread: OrderedDict[C, int] = OrderedDict()  # bytes of replies that wait for their reader

    def __len__(self) -> int:
        return self._of.total()

    def owes(self, connection: C, address: str) -> None:
        """From now on we wait for this client: for a request, the rest of one, or that it reads."""
        self._owing.pop(connection, None)
        self._owing[connection] = address

    def owes_nothing(self, connection: C) -> None:
        """It is our turn."""
        self._owing.pop(connection, None)

    def gives_way(self, address: str) -> C | None:
        """Who should be evicted before a newcomer from `address` enters; None while there is room, or if all are served.

        The one that owes longest: a client that means it sends its request at once, so it never becomes that one.
        """
        if self._of[address] >= self._cap(address):
            return next((each for each, at in self._owing.items() if at == address), None)
        return next(iter(self._owing), None) if len(self) >= self._limits.connections else None

    def lags(self, connection: C, unread: int) -> None:
        """So many bytes of its reply wait in our memory; 0 = it has read."""
        self._unread.pop(connection, None)
        if unread:
            self._unread[connection] = unread

    @property
    def unread(self) -> int:
        """Bytes of replies that wait for their readers."""
        return sum(self._unread.values())

    def holds_too_much(self) -> C | None:
        """Whose reply to give up, the one that waits longest, while all of them together take more than `unread_bytes`."""
        return next(iter(self._unread)) if self.unread > self._limits.unread_bytes else None

    def enter(self, address: str) -> Slot:
        """Count a connection in; `none` is not counted and must be closed."""
        over = max(self._of[address] - self._cap(address), len(self) - self._limits.connections)
        if over >= self._limits.reserved:
            return "none"
        self._of[address] += 1
        return "open" if over < 0 else "reserved"

    def leave(self, connection: C, address: str) -> None:
        """Count it out."""
        self.owes_nothing(connection)
        self.lags(connection, 0)
        self._of[address] -= 1
        if self._of[address] <= 0:
            del self._of[address]

    def _cap(self, address: str) -> int:
        return self._limits.per_loopback if _is_loopback(address) else self._limits.per_address


class Evictions:
    """Counts them by reason, for a log line now and then."""

    def __init__(self) -> None:
        self._told: float | None = None
        self._counts: Counter[str] = Counter()

    def add(self, reason: str, now: float) -> dict[str, int] | None:
        """What to log now: all since the last line, by reason; None when the last line was just written."""
        self._counts[reason] += 1
        if self._told is not None and now - self._told < TELL_EVERY_S:
            return None
        counts, self._counts, self._told = dict(self._counts), Counter(), now
        return counts


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False

"""Token buckets: how often one key or one address may ask. Pure; the caller tells the time."""

from __future__ import annotations

from collections import OrderedDict

import msgspec


class Rate(msgspec.Struct, frozen=True):
    """`burst` requests at once, then `per_second`."""

    burst: float
    per_second: float


class Limiter:
    """Remembers `capacity` names, the least recently seen gives way: memory is bounded, whoever comes."""

    def __init__(self, rate: Rate, capacity: int = 20_000) -> None:  # some 2 MB
        self._rate, self._capacity = rate, capacity
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens left, when

    def take(self, name: str, now: float, cost: float = 1.0) -> float:
        """0 if `name` may go on now, else the seconds until it may."""
        left, when = self._buckets.pop(name, (self._rate.burst, now))
        left = min(self._rate.burst, left + max(0.0, now - when) * self._rate.per_second)
        wait = 0.0 if left >= cost else (cost - left) / self._rate.per_second
        self._buckets[name] = (left if wait else left - cost, now)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
        return wait

"""Token buckets, and the budgets of one key made of them. Pure: the caller brings the time, in seconds of any clock that only goes on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec

from hali.model.errors import Overloaded
from hali.model.units import DAY_S

MINUTE_S = 60.0
ROUNDING_S = 1e-6  # of binary fractions: who waited as long as told must not be a billionth of a token short


class Limits(msgspec.Struct, frozen=True):
    """What one key may use; None = no limit of its own."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None


class Bucket:
    """Full with `capacity` at first; what is taken comes back evenly within `period_s`.

    What turns out to be used above what was taken leaves a debt: nothing is given before it is paid.
    """

    def __init__(self, capacity: int, period_s: float) -> None:
        self.capacity = capacity
        self._rate = capacity / period_s
        self._level, self._at = float(capacity), -math.inf

    def level(self, now: float) -> float:
        """What could be taken now; negative is a debt."""
        self._level, self._at = min(self.capacity, self._level + (now - self._at) * self._rate), now
        return self._level

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` can be taken, 0 if it can now. What is larger than the bucket waits for a full one."""
        missing = (min(amount, self.capacity) - self.level(now)) / self._rate
        return missing if missing > ROUNDING_S else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take it, whether it is there or not; a negative amount gives back."""
        self._level = self.level(now) - amount

    def full_in_s(self, now: float) -> float:
        """Seconds until it is full again."""
        return (self.capacity - self.level(now)) / self._rate


class Bill:
    """What one generation has taken in advance. `settle` once, with what it really used."""

    def __init__(self, buckets: tuple[Bucket, ...], reserved: float) -> None:
        self._buckets, self._reserved = buckets, reserved
        self._open = True

    def settle(self, used: int, now: float) -> None:
        """Give back what was not used, or take what was used above it. A second time nothing happens."""
        if self._open:
            self._open = False
            for bucket in self._buckets:
                bucket.take(used - self._reserved, now)


class Budget:
    """The buckets of one key."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.requests = _bucket(limits.requests_per_minute, MINUTE_S)
        self.tokens = _bucket(limits.tokens_per_minute, MINUTE_S)
        self._day = _bucket(limits.tokens_per_day, DAY_S)

    def request(self, now: float) -> None:
        """Count a request; `Overloaded` (429) when there are none left."""
        if self.requests is not None:
            _check(self.requests, 1, now, f"{self.requests.capacity} requests a minute")
            self.requests.take(1, now)

    def reserve(self, tokens: int, now: float) -> Bill:
        """Take `tokens` for a generation that begins; `Overloaded` (429) when they are not there."""
        return self.reserve_each((tokens,), now)[0]

    def reserve_each(self, tokens: Sequence[int], now: float) -> list[Bill]:
        """As `reserve`, for several generations that begin together: all or none."""
        total = sum(tokens)
        if self.tokens is not None:
            _check(self.tokens, total, now, f"{self.tokens.capacity} tokens a minute")
        if self._day is not None:
            _check(self._day, total, now, f"{self._day.capacity} tokens a day")
        buckets = tuple(bucket for bucket in (self.tokens, self._day) if bucket is not None)
        for bucket in buckets:
            bucket.take(total, now)
        return [Bill(buckets, each) for each in tokens]

    def headers(self, now: float) -> Iterator[tuple[str, str]]:
        """`x-ratelimit-*` as OpenAI sends them, of the limits a minute; none where there is no limit."""
        for name, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if bucket is not None:
                yield f"x-ratelimit-limit-{name}", str(bucket.capacity)
                yield f"x-ratelimit-remaining-{name}", str(max(0, math.floor(bucket.level(now))))
                yield f"x-ratelimit-reset-{name}", _span(bucket.full_in_s(now))


def _bucket(capacity: int | None, period_s: float) -> Bucket | None:
    return Bucket(capacity, period_s) if capacity else None


def _check(bucket: Bucket, amount: float, now: float, what: str) -> None:
    wait = bucket.wait_s(amount, now)
    if wait > 0:
        # Whole seconds, as HTTP has no others; rounded up, or the retry would come too early.
        details = {"retry_after_s": math.ceil(wait)}
        raise Overloaded(
            f"this key may use {what}", hint=f"again in {math.ceil(wait)} s", code="rate_limit", details=details
        )


def _span(seconds: float) -> str:
    """`6m0s`, `1.5s`, `120ms`: durations as OpenAI writes them."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds * 10) / 10, 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"

"""When and how long to wait before an HTTP request is tried again. Pure decisions, no I/O."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from hali.model.units import KIB

# 408 and 425 ask for a repeat, 429 and 503 for a later one; the other 5xx are the server's trouble, not ours.
RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
# What signed CDN addresses answer once their signature has run out, or their object moved.
EXPIRED_STATUS = frozenset({401, 403, 404, 410})


class HttpPolicy(msgspec.Struct, frozen=True):
    """Patience of one HTTP source. Seconds throughout."""

    connections: int = 8  # sharing.md; more gains nothing at the usual CDNs and looks like an attack to small mirrors
    attempts: int = 6  # in a row without useful progress; with the back-off below about half a minute
    useful_progress: int = 256 * KIB  # an attempt that brought this does not count: at most 64 of them a piece
    backoff_first: float = 0.5
    backoff_cap: float = 15.0
    retry_after_cap: float = 120.0  # a server that asks for more is asked again after this
    connect_timeout: float = 10.0
    stall: float = 30.0  # no byte for so long: the connection is dead, or as good as
    slow_after: float = 60.0  # from then on, `slow_rate` is demanded of the time spent reading
    slow_rate: float = 512.0  # bytes/s; below this one 16 MiB piece takes nine hours
    redirects: int = 5  # Hugging Face needs one or two


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for (number or HTTP date, RFC 9110 10.2.3), else None."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])  # nine digits are 31 years; the cap comes later
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - (now or datetime.now(UTC))).total_seconds())


def backoff(policy: HttpPolicy, failures: int, *, draw: Callable[[], float] = random.random) -> float:
    """Seconds before the next try after `failures` in a row: doubling, capped, between half and all of it at random.

    A break after useful progress is no failure (0): a server that cuts every megabyte is asked again soon.
    """
    if failures <= 0:
        return policy.backoff_first * 0.1 * draw()
    full = min(policy.backoff_cap, policy.backoff_first * 2.0 ** min(failures - 1, 30))
    return full * (0.5 + 0.5 * draw())


def wait_before_retry(
    policy: HttpPolicy, failures: int, asked: float | None, *, draw: Callable[[], float] = random.random
) -> float:
    """The server's wish (capped) when there is one, plus jitter so that eight connections do not return as one."""
    own = backoff(policy, failures, draw=draw)
    if asked is None:
        return own
    return min(asked, policy.retry_after_cap) + policy.backoff_first * draw()

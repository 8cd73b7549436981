"""One bucket of bytes per second for many transfers, changeable while they run."""

from __future__ import annotations

import anyio

# Unused allowance of this long may be spent at once: enough to hide timer jitter, too little to be seen as a burst.
BURST_SECONDS = 0.25
# What others took of the budget is paid back over at most this long: a miscounted burst must not silence HTTP for minutes.
DEBT_SECONDS = 1.0


class RateLimiter:
    """Grants bytes first come, first served at `rate` bytes per second; 0 means no limit.

    Tickets are places on one endless line of bytes: `take` draws the next stretch of it and waits until the line is
    granted that far. A change of rate wakes all waiters, who then wait for the same tickets at the new pace.
    """

    def __init__(self, rate: float = 0.0) -> None:
        self.passed = 0  # bytes taken so far, those that still wait included
        self.delayed = 0  # … those of them that had to wait
        self._rate = max(0.0, rate)
        self._taken = 0.0  # end of the last ticket, bytes
        self._granted = 0.0  # how far the line is open, bytes
        self._waiting = 0.0  # bytes of the tickets that wait
        self._updated: float | None = None  # monotonic; None until the first `take`, as only a running loop has a clock
        self._changed = anyio.Event()

    @property
    def rate(self) -> float:
        """The present limit in bytes per second; 0 = none."""
        return self._rate

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for bytes just now."""
        return self._waiting > 0

    def set_rate(self, rate: float) -> None:
        """Changes the limit at once, also for those who wait. Call it from the event loop's thread."""
        if self._updated is not None:
            self._refill()
        self._rate = max(0.0, rate)
        self._changed.set()
        self._changed = anyio.Event()

    def charge(self, count: float) -> None:
        """`count` bytes of the same budget have gone elsewhere; those who wait here wait for them too."""
        self._refill()
        if self._rate:
            least = self._taken - self._waiting - self._rate * DEBT_SECONDS
            self._granted = min(self._granted, max(self._granted - count, least))

    async def take(self, count: int) -> None:
        """Returns when `count` more bytes may pass. Those of a cancelled waiter stay charged: they have arrived."""
        self._refill()
        self._taken += count
        self.passed += count
        ticket = self._taken
        if self._rate and self._granted < ticket:
            self.delayed += count
            self._waiting += count
            try:
                await self._until_granted(ticket)
            finally:
                self._waiting -= count

    async def _until_granted(self, ticket: float) -> None:
        while self._rate and self._granted < ticket:
            changed = self._changed
            with anyio.move_on_after((ticket - self._granted) / self._rate):
                await changed.wait()
            self._refill()

    def _refill(self) -> None:
        now = anyio.current_time()
        elapsed = 0.0 if self._updated is None else now - self._updated
        self._updated = now
        if not self._rate:
            self._granted = self._taken
        else:
            self._granted = min(self._granted + elapsed * self._rate, self._taken + self._rate * BURST_SECONDS)

"""One download budget for BitTorrent and HTTP together, whoever can use it.

libtorrent limits itself and cannot be asked byte by byte, so the budget is one bucket (`Throttle.download`) from which HTTP
takes what it receives and to which the bytes libtorrent has received are charged afterwards. So HTTP gets exactly what
libtorrent leaves, and `torrent_share` only has to say how much libtorrent may take.
"""

from __future__ import annotations

from collections.abc import Awaitable

import anyio
import anyio.abc
import msgspec

from hali.model.errors import NotRunning
from hali.model.units import MEGABIT
from hali.runtime.channels import Watch
from hali.transfer.events import Traffic
from hali.transfer.rate_limit import RateLimiter
from hali.transfer.session import TorrentSession

# Four times within the second in which an idle share must have moved; a tick costs libtorrent microseconds.
TICK_S = 0.25
HEADROOM = 1.05  # of what HTTP uses: it must be able to show that it wants more; below the 5 % that may be lost
LEAST = 0.01  # of the cap, for HTTP that uses next to nothing: without room to ask for more it would flutter
CHANGE = 0.01  # of the cap; smaller steps are noise, not worth a call of `apply_settings`


class Caps(msgspec.Struct, frozen=True):
    """Megabits per second over all transfers, 0 = none."""

    upload_mbps: float = 0.0
    download_mbps: float = 0.0

    @property
    def upload(self) -> float:
        """Bytes per second."""
        return self.upload_mbps * MEGABIT

    @property
    def download(self) -> float:
        """Bytes per second."""
        return self.download_mbps * MEGABIT


def torrent_share(cap: float, http_rate: float, http_hungry: bool) -> float:
    """How much of `cap` BitTorrent may take; the rest is HTTP's. All in bytes per second.

    `http_rate` is what HTTP used lately, `http_hungry` whether it had to wait for more. Each has half when both want it:
    more goes to BitTorrent only as far as HTTP does not use its half, and HTTP takes by itself what BitTorrent leaves.
    """
    half = cap / 2
    room = max(HEADROOM * http_rate, LEAST * cap) if http_rate else 0.0
    return half if http_hungry else max(half, cap - room)


class Throttle:
    """The service that holds the caps. `download` is the limiter of all HTTP sources; without a cap it does nothing."""

    def __init__(self, torrents: Watch[TorrentSession | None], caps: Caps) -> None:
        self.download = RateLimiter(caps.download)
        self._torrents = torrents
        self._caps = Watch(caps)
        self._set: tuple[TorrentSession, int, int] | None = None
        self._seen: tuple[TorrentSession, Traffic] | None = None

    @property
    def caps(self) -> Caps:
        """Those in force."""
        return self._caps.value

    def set_caps(self, caps: Caps) -> None:
        """From now on; those who wait for bytes wait at the new pace."""
        if caps != self._caps.value:
            self.download.set_rate(caps.download)
            self._caps.set(caps)

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Serve until cancelled."""
        self._apply(self.caps.download)
        task_status.started()
        hunger = Hunger(self.download, anyio.current_time())
        while True:
            await self._next_tick()
            cap = self.caps.download
            await self._charge()
            http_rate, hungry = hunger.since(anyio.current_time())
            self._apply(torrent_share(cap, http_rate, hungry) if cap else 0.0)

    async def _next_tick(self) -> None:
        """Soon while a cap has to be shared, else when something changes."""
        caps, session = self.caps, self._torrents.value
        async with anyio.create_task_group() as group:

            async def when(change: Awaitable[object]) -> None:
                await change
                group.cancel_scope.cancel()

            group.start_soon(when, self._caps.until(lambda now: now is not caps))
            group.start_soon(when, self._torrents.until(lambda now: now is not session))
            if caps.download and session is not None:
                group.start_soon(when, anyio.sleep(TICK_S))

    async def _charge(self) -> None:
        """Take what libtorrent received since the last time out of the budget, overhead included."""
        session = self._torrents.value
        if session is None or not self.caps.download:
            self._seen = None
            return
        try:
            now = await session.traffic()
        except NotRunning:  # it ends at this moment
            return
        before = self._seen[1].received if self._seen is not None and self._seen[0] is session else now.received
        self._seen = (session, now)
        self.download.charge(max(0, now.received - before))

    def _apply(self, download: float) -> None:
        """Tell the session its limits when they changed by enough to matter, or it is a new one."""
        session = self._torrents.value
        if session is None:
            return
        up, down = whole(self.caps.upload), whole(download)
        if self._set is not None and self._set[:2] == (session, up):
            gone = abs(down - self._set[2])
            if not gone or (down and self._set[2] and gone < CHANGE * self.caps.download):
                return
        try:
            session.set_rates(upload=up, download=down)
        except NotRunning:  # it ends at this moment; the next one is told
            return
        self._set = (session, up, down)


class Hunger:
    """What HTTP used of a limiter between two looks, and whether it wanted more."""

    def __init__(self, limiter: RateLimiter, now: float) -> None:
        self._limiter = limiter
        self._at, self._passed, self._delayed = now, limiter.passed, limiter.delayed

    def since(self, now: float) -> tuple[float, bool]:
        """(bytes per second, hungry) since the last look."""
        limiter = self._limiter
        passed, delayed = limiter.passed - self._passed, limiter.delayed - self._delayed
        rate = passed / max(now - self._at, 1e-3)
        self._at, self._passed, self._delayed = now, limiter.passed, limiter.delayed
        # A chunk that waits now and then is jitter. When nothing passed, a waiter is one whose chunk outlasts a tick.
        return rate, 2 * delayed > passed or (passed == 0 and limiter.waiting)


def whole(rate: float) -> int:
    """A limit as libtorrent takes it: whole bytes a second, and 0 is none, so that a cap never becomes none by rounding."""
    return max(1, round(rate)) if rate else 0

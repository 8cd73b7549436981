"""What a fetch needs of the session it runs in."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import libtorrent as lt

from hali.model.ids import InfoHashes
from hali.transfer import alerts
from hali.transfer.events import TorrentStatus
from hali.transfer.options import SessionOptions
from hali.transfer.rescue import Bars

Listener = Callable[[alerts.Alert], None]


class RunningFetch(Protocol):
    """What the session needs of a fetch."""

    @property
    def infohashes(self) -> InfoHashes:
        """Of its torrent."""

    @property
    def name(self) -> str:
        """Of its torrent."""

    @property
    def handle(self) -> lt.torrent_handle | None:
        """libtorrent's, while it is added."""

    def start_over(self) -> None:
        """Add the torrent anew."""

    def fail(self, reason: str, code: str) -> None:
        """End it."""

    def tick(self, now: float) -> None:
        """Called about twice a second."""

    def abandon(self) -> None:
        """The session ends."""

    def pause(self) -> None:
        """No bytes; nothing counts as a stall meanwhile."""

    def resume(self) -> None:
        """Go on."""

    def status(self) -> TorrentStatus:
        """The latest numbers."""


class Host(Protocol):
    """What a fetch needs of the session."""

    options: SessionOptions
    peer_id: bytes  # by which peers know us, 20 bytes

    async def add(self, wanted: lt.add_torrent_params, listener: Listener) -> lt.torrent_handle:
        """Add a (paused) torrent whose alerts go to `listener`."""

    async def settle(self) -> None:
        """Wait until libtorrent hashes nothing; before a torrent is removed that was fetched in part."""

    async def drop(self, handle: lt.torrent_handle) -> None:
        """Remove it; files stay."""

    def enter(self, fetch: RunningFetch) -> None:
        """`fetch.tick` is called regularly from now on."""

    def leave(self, fetch: RunningFetch) -> None:
        """No more."""

    def hold(self, holder: object, on: bool) -> None:
        """Keep connections of peers that have nothing to give each other, while `holder` needs it."""

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` in the session's task group."""

    def blame(self, fetch: RunningFetch, bars: Bars | None) -> None:
        """Tell who sends each block of this session, and bar these addresses from fetches; None: no more of both."""

    def audited(self, size: int) -> None:
        """So many bytes came over connections that are not libtorrent's."""

    def banned(self, host: str) -> None:
        """A peer sent wrong data: for those who watch the session."""

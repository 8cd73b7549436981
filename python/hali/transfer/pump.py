"""The thread that carries libtorrent's alerts to the event loop: it sleeps on a pipe until libtorrent writes to it.

An alert is only valid until the next `pop_alerts`, so it is translated in that thread before anything else happens.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

import libtorrent as lt

from hali.runtime.log import get_logger
from hali.transfer.alerts import BlocksSent, Handled, translate

log = get_logger(__name__)


def _blocks_joined(batch: list[Handled]) -> list[Handled]:
    """Neighbouring blocks of one piece from one peer as one value: there are 1,000 to a piece."""
    joined: list[Handled] = []
    for handle, value in batch:
        before: Handled = joined[-1] if joined else (None, None)
        if _same_sender(before, (handle, value)):
            joined[-1] = (handle, BlocksSent(value.piece, value.host, before[1].blocks + value.blocks))
        else:
            joined.append((handle, value))
    return joined


def _same_sender(one: Handled, other: Handled) -> bool:
    (first, a), (second, b) = one, other
    both = isinstance(a, BlocksSent) and isinstance(b, BlocksSent)
    return both and (a.piece, a.host) == (b.piece, b.host) and bool(first == second)


class AlertPump:
    """Delivers batches of translated alerts to `deliver` on the running event loop until closed."""

    def __init__(self, session: lt.session, deliver: Callable[[list[Handled]], None]) -> None:
        self._session: lt.session | None = session
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)  # libtorrent's network thread writes; a full pipe wakes us just as well
        self._closing = False
        session.set_alert_fd(self._write)
        self._thread = threading.Thread(target=self._run, name="hali-torrent-alerts", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        session = self._session
        while session is not None:
            os.read(self._read, 4096)
            if self._closing:
                return
            batch = [handled for alert in session.pop_alerts() if (handled := self._translated(alert)) is not None]
            if batch:
                self._loop.call_soon_threadsafe(self._deliver, _blocks_joined(batch))

    def _translated(self, alert: lt.alert) -> Handled | None:
        try:
            return translate(alert)
        except (RuntimeError, ValueError, UnicodeDecodeError) as exc:
            # A handle that died between alert and now, or text that is no UTF-8: the torrent is gone or the words are lost.
            log.warning("torrent.alert_lost", alert=alert.what(), error=str(exc))
            return None

    def stop(self) -> None:
        """End the thread and let go of the session; nothing is delivered after this. Blocks for a moment."""
        self._closing = True
        os.write(self._write, b"x")
        self._thread.join()
        self._session = None

    def release(self) -> None:
        """Close the pipe. Only once the session is destroyed: libtorrent would write into whatever file gets its number."""
        os.close(self._read)
        os.close(self._write)

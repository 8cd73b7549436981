"""Keeps the record of use: what others fetch from us is seen in the torrent session's counters, and all of it is written now and then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import anyio
import anyio.abc
import anyio.to_thread

from hali.model.errors import HaliError
from hali.model.ids import InfoHashes
from hali.runtime.log import get_logger
from hali.share.library import Library
from hali.store.usage import Usage

log = get_logger(__name__)

LOOK_S = 10.0  # what is being sent must be known while it is: a prune leaves it alone
WRITE_S = 60.0  # a crash costs at most this much of the record


class Sent(Protocol):
    """What a torrent session tells of one torrent."""

    @property
    def infohashes(self) -> InfoHashes:
        """Its names."""

    @property
    def uploaded(self) -> int:
        """Bytes since the session began."""


class Session(Protocol):
    """A torrent session."""

    async def status(self) -> Sequence[Sent]:
        """Of all its torrents."""


class UsageRecorder:
    """The service. `sending` holds the SHA-256 of the models that others are fetching from us."""

    def __init__(self, usage: Usage, library: Library, session: Callable[[], Session | None]) -> None:
        self._usage, self._library, self._session = usage, library, session
        self._seen: dict[str, int] = {}  # uploaded bytes by infohash, of the session of now
        self._of: Session | None = None
        self.sending: frozenset[str] = frozenset()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Serve until cancelled; then the record is written once more."""
        await self.begin()
        task_status.started()
        try:
            while True:
                for _ in range(round(WRITE_S / LOOK_S)):
                    await anyio.sleep(LOOK_S)
                    await self.look()
                await self._write()
        finally:
            with anyio.CancelScope(shield=True):
                await self.look()
                await self._write()

    async def begin(self) -> None:
        """Take the counters as they are: an earlier recorder, which failed, has counted them."""
        for torrent in await self._torrents():
            self._news(torrent)

    async def look(self) -> None:
        """Read the counters."""
        sent: set[str] = set()
        for torrent in await self._torrents():
            count = self._news(torrent)
            sha256 = self._model_of(torrent.infohashes) if count else None
            if sha256 is not None:
                self._usage.sent(sha256, count)
                sent.add(sha256)
        self.sending = frozenset(sent)

    async def _torrents(self) -> Sequence[Sent]:
        session = self._session()
        if session is not self._of:  # a new one counts from nothing
            self._of, self._seen = session, {}
        try:
            return await session.status() if session is not None else ()
        except HaliError:  # it is just ending; its last seconds are lost
            return ()

    def _news(self, torrent: Sent) -> int:
        """Bytes sent since the last look; a torrent that was removed and added again counts from nothing."""
        before = self._seen.get(torrent.infohashes.best, 0)
        self._seen[torrent.infohashes.best] = torrent.uploaded
        return torrent.uploaded - before if torrent.uploaded >= before else torrent.uploaded

    def _model_of(self, infohashes: InfoHashes) -> str | None:
        entry = self._library.of_torrent(infohashes)
        return entry.record.meta.sha256 if entry is not None else None

    async def _write(self) -> None:
        try:
            await anyio.to_thread.run_sync(self._usage.write)
        except HaliError as exc:  # a full disk: what was not written stays for the next time
            log.warning("usage.not_written", error=str(exc))

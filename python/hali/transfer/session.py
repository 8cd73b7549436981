"""TorrentSeeder: the one libtorrent session of a daemon. Seeds finished files, fetches others; the event loop never waits for it."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import libtorrent as lt
import msgspec

from hali.model.errors import Failed, NotRunning, Refused, VerificationFailed
from hali.model.ids import InfoHashes
from hali.runtime.channels import Bus
from hali.runtime.log import get_logger
from hali.transfer import alerts
from hali.transfer.barring import Rules, as_filter, ip_rules
from hali.transfer.events import (
    FetchEvent,
    FetchFailed,
    Finished,
    MetadataReceived,
    PeerBanned,
    PieceDone,
    PieceFailed,
    Progress,
    SeedDamaged,
    SessionEvent,
    TorrentAdded,
    TorrentRemoved,
    TorrentStatus,
    Totals,
    Traffic,
)
from hali.transfer.fetching import PATIENCE_S, Fetch
from hali.transfer.gate import Gate
from hali.transfer.host import Listener, RunningFetch
from hali.transfer.listening import PORT_TRIES, free_port, port_in_use
from hali.transfer.magnet import Magnet, Peer
from hali.transfer.metainfo import Metainfo, parse
from hali.transfer.options import ALERTS, ALERTS_WITH_BLOCKS, SessionOptions, new_peer_id, rates, settings
from hali.transfer.partial_seeding import PartialSeed
from hali.transfer.pump import AlertPump
from hali.transfer.rescue import Bars
from hali.transfer.seeding import Seed, check_files
from hali.transfer.torrent_status import as_status

__all__ = [
    "Fetch",
    "FetchEvent",
    "FetchFailed",
    "Finished",
    "MetadataReceived",
    "PeerBanned",
    "PieceDone",
    "PieceFailed",
    "Progress",
    "SeedDamaged",
    "SessionEvent",
    "SessionOptions",
    "TorrentAdded",
    "TorrentRemoved",
    "TorrentSession",
    "TorrentStatus",
    "Totals",
    "Traffic",
]

log = get_logger(__name__)

START_S = 25.0  # libtorrent listens within 0.1 s; a loaded machine takes longer; below what a service has to start
CALL_S = 5.0  # for anything libtorrent answers by an alert: it does so in milliseconds
CLOSE_S = 5.0  # without trackers and routers to say goodbye to, closing takes milliseconds
SETTLE_S = 1.0  # a piece is hashed in hundredths of that; other torrents may keep the cache filled all the time
SETTLE_STEP_S = 0.02
TICK_S = 0.5  # how often progress is reported; people do not read faster


class TorrentSession:
    """The service. Every method but `port`, `set_rates` and `fetch` waits for libtorrent with a deadline, and may raise NotRunning."""

    def __init__(self, options: SessionOptions, gate: Gate | None = None) -> None:
        self.options = options
        self.peer_id = new_peer_id()
        self._gate = gate or Gate()  # shut: no torrent moves, seeds neither
        self._moves = True  # what libtorrent was told of it
        self.events: Bus[SessionEvent] = Bus(capacity=256)  # adds and removes of a large library at start-up
        self._lt: lt.session | None = None
        self._pump: AlertPump | None = None
        self._group: anyio.abc.TaskGroup | None = None
        self._port = 0
        self._listeners: dict[lt.torrent_handle, Listener] = {}
        self._adding = 0
        self._unclaimed: list[tuple[lt.torrent_handle, alerts.Alert]] = []
        self._seeds: list[Seed] = []
        self._fetches: dict[RunningFetch, None] = {}  # the earlier first
        self._fetching = anyio.Event()
        self._holding: set[object] = set()
        self._bars: dict[RunningFetch, Bars] = {}
        self._rules: Rules = []
        self._inbox: list[alerts.Handled] = []
        self._wake = anyio.Event()
        self._listening: list[alerts.Listening | alerts.ListenFailed] = []
        self._waiting: dict[type, anyio.Event] = {}
        self._stats = alerts.SessionStats(0, 0, 0)
        self._removed: set[str] = set()
        self._audited = 0  # bytes that came over connections of our own

    # ---- life

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Serve until cancelled; PortInUse when the configured port is taken."""
        try:
            with anyio.fail_after(START_S):
                await self._open()
            async with anyio.create_task_group() as self._group:
                self._group.start_soon(self._tick)
                self._group.start_soon(self._follow_gate)
                task_status.started()
                await self._receive_all()
        finally:
            with anyio.CancelScope(shield=True):
                await self._close()

    async def _open(self) -> None:
        for attempt in range(PORT_TRIES):
            port = await anyio.to_thread.run_sync(free_port, self.options)
            if await self._listen(port):
                self._port = port
                log.info("torrent.listening", port=port, addresses=self.options.addresses)
                return
            await self._shut()
            if self.options.port or attempt == PORT_TRIES - 1:
                raise port_in_use(port, chosen=bool(self.options.port))

    async def _listen(self, port: int) -> bool:
        self._listening.clear()
        session: lt.session = await anyio.to_thread.run_sync(
            partial(lt.session, settings(self.options, port, self.peer_id))
        )
        self._lt = session
        self._pump = AlertPump(session, self._take_in)
        self._moves = self._gate.is_open
        if not self._moves:
            session.pause()  # before anybody can ask it for anything
        while not self._listening:
            await self._receive()
        return all(isinstance(outcome, alerts.Listening) for outcome in self._listening)

    async def _close(self) -> None:
        moving = list(self._fetches)
        for fetch in moving:
            fetch.abandon()
        with anyio.move_on_after(CLOSE_S) as deadline:
            if moving:
                await self._stop()
            await self._shut()
        if deadline.cancelled_caught:
            log.error("torrent.close_timeout", seconds=CLOSE_S)

    async def _stop(self) -> None:
        """Fetches were running: bring libtorrent to rest first."""
        self._session.pause()
        async with anyio.create_task_group() as group:
            group.start_soon(self._receive_all)
            await self.settle()
            group.cancel_scope.cancel()

    async def _receive_all(self) -> None:
        while True:
            await self._receive()

    async def _shut(self) -> None:
        pump, self._pump = self._pump, None
        session, self._lt = self._lt, None
        self._listeners.clear()
        if session is None or pump is None:
            return
        held = [session]
        del session
        await anyio.to_thread.run_sync(pump.stop)
        await anyio.to_thread.run_sync(held.clear)  # the last reference: its destructor waits for libtorrent's threads
        pump.release()

    async def _tick(self) -> None:
        while True:
            await self._fetching.wait()
            self._session.post_torrent_updates(0)
            for fetch in list(self._fetches):
                fetch.tick(anyio.current_time())
            await anyio.sleep(TICK_S)

    async def _follow_gate(self) -> None:
        """Pause and go on with the gate. A paused libtorrent closes all connections and takes no new ones."""
        while True:
            self._moves = await self._gate.state.until(partial(operator.is_not, self._moves))
            log.info("torrent.resumed" if self._moves else "torrent.paused")
            (self._session.resume if self._moves else self._session.pause)()
            for fetch in self._fetches:
                (fetch.resume if self._moves else fetch.pause)()

    @property
    def _session(self) -> lt.session:
        if self._lt is None:
            raise NotRunning("the torrent session does not run")
        return self._lt

    # ---- what others call

    @property
    def port(self) -> int:
        """The TCP port that listens, the same on every address; 0 before the session is ready."""
        return self._port

    def set_rates(self, *, upload: int, download: int) -> None:
        """Change the caps (bytes per second, 0 = unlimited) at once."""
        self.options = msgspec.structs.replace(self.options, upload_rate=upload, download_rate=download)
        self._session.apply_settings(rates(upload, download))

    async def seed(self, metainfo: bytes, directory: Path) -> InfoHashes:
        """Serve the finished files in `directory` without reading them; once more is fine. NotFound, VerificationFailed (a size)."""
        parsed = await anyio.to_thread.run_sync(parse, metainfo)
        known = self._seed_of(parsed.infohashes)
        if known is not None and (known.directory != directory or known.damaged is not None):
            await self.remove(parsed.infohashes)
        elif known is not None:
            return parsed.infohashes
        await anyio.to_thread.run_sync(check_files, parsed, directory)
        self._refuse_twice(parsed.infohashes)
        await self._add_seed(Seed(parsed, directory, self._damaged))
        return parsed.infohashes

    async def seed_part(self, metainfo: bytes, directory: Path, have: Collection[int]) -> InfoHashes:
        """Serve the pieces `have` of the unfinished file in `directory`, which its owner has checked; else as `seed`."""
        parsed = await anyio.to_thread.run_sync(parse, metainfo)
        await anyio.to_thread.run_sync(check_files, parsed, directory)
        known = self._seed_of(parsed.infohashes)
        if isinstance(known, PartialSeed):  # more pieces, perhaps
            await self.remove(parsed.infohashes)
        self._refuse_twice(parsed.infohashes)
        await self._add_seed(PartialSeed(parsed, directory, self._damaged, have))
        return parsed.infohashes

    async def _add_seed(self, seed: Seed) -> None:
        self._seeds.append(seed)
        try:
            await self._start_seed(seed)
        except BaseException:  # cancelled, too: what nobody serves must not pass for seeded
            with anyio.CancelScope(shield=True):
                await self._take_out(seed)
            raise
        if seed in self._seeds:  # not removed meanwhile
            self.events.publish(TorrentAdded(seed.infohashes, seed.metainfo.name, seeding=True))

    async def _start_seed(self, seed: Seed) -> None:
        try:
            with anyio.fail_after(CALL_S):
                try:
                    seed.handle = await self.add(seed.params(self.options), seed.on_alert)
                    seed.handle.resume()
                finally:
                    seed.answered.set()
                await seed.ready.wait()
        except TimeoutError:
            raise Failed(f"libtorrent did not take {seed.metainfo.name} in {CALL_S:.0f} s") from None
        if seed.damaged is not None:
            raise VerificationFailed(f"cannot seed {seed.metainfo.name}: {seed.damaged}")

    def fetch(
        self,
        source: Metainfo | Magnet,
        directory: Path,
        *,
        peers: Sequence[Peer] = (),
        have: Collection[int] = (),
        trusted_peers: Iterable[str] = (),
        patience_s: float = PATIENCE_S,
        patient: bool = False,
    ) -> Fetch:
        """Fetch the torrent into `directory`; enter the result to start. `peers` are (IP, port), `have` pieces known to be right.

        `trusted_peers` are IP addresses that no evidence bars. Without a new byte for `patience_s` the fetch fails; a `patient` one
        waits for other peers, also when all lie: its owner has another source, and ends it.
        """
        self._refuse_twice(source.infohashes)
        hints = [*peers, *(source.peers if isinstance(source, Magnet) else ())]
        return Fetch(
            self,
            source,
            directory,
            peers=hints,
            have=have,
            trusted_peers=trusted_peers,
            patience_s=patience_s,
            patient=patient,
        )

    async def remove(self, infohashes: InfoHashes) -> None:
        """Stop seeding; files stay. One of the two hashes is enough; nothing happens when the torrent is unknown."""
        seed = self._seed_of(infohashes)
        if seed is not None:
            await self._take_out(seed)

    async def _take_out(self, seed: Seed) -> None:
        await seed.answered.wait()  # what is only on its way into libtorrent would come, and nobody would know of it
        if seed not in self._seeds:  # another was faster
            return
        self._seeds.remove(seed)
        seed.ready.set()
        if seed.handle is not None:
            await self.drop(seed.handle)
        self.events.publish(TorrentRemoved(seed.infohashes, seed.metainfo.name))

    async def status(self) -> list[TorrentStatus]:
        """Every torrent, seeds first."""
        self._session.post_torrent_updates(0)
        await self._answer(alerts.Snapshots)
        seeds = [as_status(s.infohashes, s.metainfo.name, s.snapshot) for s in self._seeds]
        return seeds + [fetch.status() for fetch in self._fetches]

    async def totals(self) -> Totals:
        """Counters of the session and the sum of its rates."""
        torrents = await self.status()
        self._session.post_session_stats()
        await self._answer(alerts.SessionStats)
        return Totals(
            downloaded=self._stats.received + self._audited,
            uploaded=self._stats.sent,
            down_rate=sum(t.down_rate for t in torrents),
            up_rate=sum(t.up_rate for t in torrents),
            peers=self._stats.peers,
        )

    async def traffic(self) -> Traffic:
        """All bytes of the session, overhead included."""
        self._session.post_session_stats()
        await self._answer(alerts.SessionStats)
        return Traffic(self._stats.all_received + self._audited, self._stats.all_sent)

    def _seed_of(self, wanted: InfoHashes) -> Seed | None:
        return next((s for s in self._seeds if same_torrent(s.infohashes, wanted)), None)

    def _refuse_twice(self, infohashes: InfoHashes) -> None:
        if self._seed_of(infohashes) is not None or any(same_torrent(f.infohashes, infohashes) for f in self._fetches):
            raise Refused(f"torrent {infohashes.best} is already being fetched or seeded")

    # ---- what fetches call (fetching.Host)

    async def add(self, wanted: lt.add_torrent_params, listener: Listener) -> lt.torrent_handle:
        """Add a paused torrent whose alerts go to `listener`."""
        self._adding += 1
        try:
            handle = await anyio.to_thread.run_sync(self._session.add_torrent, wanted)
            self._listeners[handle] = listener
        except RuntimeError as exc:
            raise Failed(f"libtorrent refuses the torrent: {exc}") from None
        finally:
            self._adding -= 1
            unclaimed, self._unclaimed = self._unclaimed, []
            for each, alert in unclaimed:  # also after a failure: of another torrent that is being added
                self._to_torrent(each, alert)
        return handle

    async def drop(self, handle: lt.torrent_handle) -> None:
        """Remove a torrent and wait until it is out; files stay."""
        self._listeners.pop(handle, None)
        if self._lt is None:
            return
        hashes = alerts.infohashes_of(handle.info_hashes())
        self._removed.discard(hashes.best)
        self._lt.remove_torrent(handle)
        with anyio.move_on_after(CALL_S):
            while hashes.best not in self._removed:
                await self._answer(alerts.Removed)
        self._removed.discard(hashes.best)

    async def settle(self) -> None:
        """Wait until libtorrent's disk cache was empty once, `SETTLE_S` at most.

        libtorrent 2.1.1 frees a torrent's pieces on its removal although a thread may hash one of them just then, and crashes, or
        writes into memory of others (mended after it, by its pull request 8790). Measured: one in forty fetches that were left
        after the first of three pieces. What is hashed stays in the cache after it was written.
        """
        with anyio.move_on_after(SETTLE_S):
            while self._lt is not None:
                self._lt.post_session_stats()
                await self._answer(alerts.SessionStats)
                if not self._stats.cached:
                    return
                await anyio.sleep(SETTLE_STEP_S)

    def enter(self, fetch: RunningFetch) -> None:
        """Tick `fetch` from now on."""
        self._fetches[fetch] = None
        self._bar()
        if not self._moves:
            fetch.pause()
        self._fetching.set()
        self.events.publish(TorrentAdded(fetch.infohashes, fetch.name, seeding=False))

    def leave(self, fetch: RunningFetch) -> None:
        """`fetch` is over."""
        self._fetches.pop(fetch, None)
        self._bar()
        if not self._fetches:
            self._fetching = anyio.Event()
        self.events.publish(TorrentRemoved(fetch.infohashes, fetch.name))

    def hold(self, holder: object, on: bool) -> None:
        """Keep connections to those who only upload while anybody asks for nothing now: metadata to be looked at, pieces left out."""
        before = bool(self._holding)
        if on:
            self._holding.add(holder)
        else:
            self._holding.discard(holder)
        if self._lt is not None and before != bool(self._holding):
            self._lt.apply_settings({"close_redundant_connections": not self._holding})

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `work` as long as the session lives."""
        if self._group is not None:
            self._group.start_soon(work)

    def blame(self, fetch: RunningFetch, bars: Bars | None) -> None:
        """Record who sends each block while any fetch has several peers; bar addresses from fetches (seeds serve anyone)."""
        if bars is None and self._bars.pop(fetch, None) is None:
            return
        if bars is not None:
            self._bars[fetch] = bars
        if self._lt is None:
            return
        self._lt.apply_settings({"alert_mask": ALERTS_WITH_BLOCKS if self._bars else ALERTS})
        self._bar()

    def _bar(self) -> None:
        """Bring the filter to what holds now: it depends on the bars, and on whether one fetch runs alone."""
        rules = ip_rules(self._bars.values(), alone=len(self._fetches) == 1)
        if self._lt is not None and rules != self._rules:
            self._rules = rules
            self._lt.set_ip_filter(as_filter(rules))

    def audited(self, size: int) -> None:
        """Bytes that came over connections of our own."""
        self._audited += size

    def banned(self, host: str) -> None:
        """A peer sent wrong data."""
        log.warning("peer.banned", peer=host)
        self.events.publish(PeerBanned(host))

    # ---- alerts

    def _take_in(self, batch: list[alerts.Handled]) -> None:
        """A callback of the event loop, outside any task: only leaves the batch for `_receive`."""
        self._inbox += batch
        self._wake.set()

    async def _receive(self) -> None:
        """Wait for alerts and hand each to whom it concerns."""
        await self._wake.wait()
        self._wake = anyio.Event()
        batch, self._inbox = self._inbox, []
        for handle, alert in batch:
            self._dispatch(handle, alert)
            if (event := self._waiting.pop(type(alert), None)) is not None:
                event.set()

    def _dispatch(self, handle: lt.torrent_handle | None, alert: alerts.Alert) -> None:
        match alert:
            case alerts.Snapshots(by_handle=snapshots):
                for each, snapshot in snapshots:
                    self._to_torrent(each, snapshot)
            case alerts.SessionStats():
                self._stats = alert
            case alerts.Removed(infohashes=hashes):
                self._removed.add(hashes.best)
            case alerts.Listening() | alerts.ListenFailed():
                self._listening.append(alert)
            case alerts.Dropped():
                self._ask_again()
            case alerts.Conflict(other=other):
                self._part(handle, other)
            case _ if handle is not None:
                self._to_torrent(handle, alert)

    def _to_torrent(self, handle: lt.torrent_handle, alert: alerts.Alert) -> None:
        listener = self._listeners.get(handle)
        if listener is not None:
            listener(alert)
        elif self._adding:
            self._unclaimed.append((handle, alert))  # perhaps of the torrent that is just being added

    def _part(self, *handles: lt.torrent_handle | None) -> None:
        """Two magnets turned out to be one torrent, and libtorrent has stopped both: the earlier one begins again."""
        for place, fetch in enumerate([fetch for fetch in self._fetches if fetch.handle in handles]):
            if place == 0:
                fetch.start_over()
            else:
                fetch.fail("this torrent is being fetched by its other infohash already", "duplicate")

    def _damaged(self, seed: Seed, reason: str) -> None:
        self.events.publish(SeedDamaged(seed.infohashes, seed.metainfo.name, reason))

    def _ask_again(self) -> None:
        """Alerts were lost: a fetch must not wait for a piece it was not told of."""
        log.warning("torrent.alerts_dropped")
        for handle in self._listeners:
            handle.post_status(lt.torrent_handle.query_pieces)

    async def _answer(self, kind: type) -> None:
        """Wait for the next alert of `kind`, `CALL_S` at most."""
        event = self._waiting.setdefault(kind, anyio.Event())
        with anyio.move_on_after(CALL_S):
            await event.wait()


@contextlib.asynccontextmanager
async def running(options: SessionOptions) -> AsyncIterator[TorrentSession]:
    """A session for the length of a block, for those without a supervisor."""
    session = TorrentSession(options)
    async with anyio.create_task_group() as group:
        await group.start(partial(_run, session))
        yield session
        group.cancel_scope.cancel()


async def _run(session: TorrentSession, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    await session.run(task_status=task_status)


def same_torrent(one: InfoHashes, other: InfoHashes) -> bool:
    """Whether both name the same torrent; one hash in common is enough."""
    return (one.v1 is not None and one.v1 == other.v1) or (one.v2 is not None and one.v2 == other.v2)

"""One torrent being fetched: alerts in, events out, and what to do when it stands still."""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from pathlib import Path
from typing import Self

import anyio
import anyio.to_thread
import libtorrent as lt

from hali.model.errors import HaliError
from hali.model.ids import InfoHashes
from hali.runtime.log import get_logger
from hali.transfer import alerts, params
from hali.transfer.auditing import MOST
from hali.transfer.bundle import names_of
from hali.transfer.events import (
    FetchEvent,
    FetchFailed,
    Finished,
    MetadataReceived,
    PeerBanned,
    PieceDone,
    PieceFailed,
    Progress,
    StartedOver,
    TorrentStatus,
)
from hali.transfer.flushing import Flusher
from hali.transfer.giving import Giver, queue_of
from hali.transfer.guard import Guard
from hali.transfer.host import Host
from hali.transfer.magnet import Magnet, Peer
from hali.transfer.metainfo import Metainfo, of_info, parse
from hali.transfer.piece_check import PieceCheck
from hali.transfer.striping import Striping
from hali.transfer.torrent_status import as_status

log = get_logger(__name__)

# Without a right piece in between: an honest swarm has none, attackers cause some; a torrent that contradicts itself always does.
MAX_CONTRADICTIONS = 8
ALONE_S = 10.0  # from the last liar to the end of the fetch: libtorrent tries a lost peer after 1, 2, 3 s
LAYERS_TIMEOUT_S = 2.0  # for the complete metainfo at the end; the fetch is finished without it
PATIENCE_S = 60.0  # without a byte from anyone before the fetch gives up; peers come back within a minute or not at all


class Fetch:
    """A running fetch; use as an async context manager. On leaving the torrent is removed and the file stays."""

    def __init__(
        self,
        host: Host,
        source: Metainfo | Magnet,
        directory: Path,
        *,
        peers: Sequence[Peer] = (),
        have: Collection[int] = (),
        trusted_peers: Iterable[str] = (),
        patience_s: float = PATIENCE_S,
        patient: bool = False,
    ) -> None:
        self._host, self._source, self._directory = host, source, directory
        self._handle: lt.torrent_handle | None = None
        self._map = source.map if isinstance(source, Metainfo) else None
        self._peers: dict[Peer, None] = dict.fromkeys(peers)
        self._done = set(have)
        self._left_out: set[int] = set()
        self._giver = Giver(self._current, self.start_over)
        self._senders: dict[int, dict[str, int]] = {}  # of pieces that are right but not readable yet
        self._have = set(have)  # those, and what libtorrent has checked since
        self._doubted: set[int] = set()  # pieces that it called right and wrong later
        self._patience_s = patience_s
        self._guard = Guard(
            host, self, trusted_peers, patient=patient, caught=self._caught, welcome=self._welcome, read=self._read
        )
        self._striping = Striping(host.peer_id, self._guard)
        if isinstance(source, Metainfo):
            self._guard.begin(source, self._have, anyio.current_time())
        self._guard.met([peer for peer in peers if is_endpoint(*peer)], anyio.current_time())
        self._outbox: deque[FetchEvent] = deque()
        self._wake = anyio.Event()
        self._ended = False
        self._paused = False
        self._rescuing = False
        self._contradictions = 0
        self._last_company = anyio.current_time()
        self._changing = anyio.Lock()  # the torrent is replaced or removed by one task at a time
        self._flusher = Flusher(self._readable)
        self._snapshot: alerts.Snapshot | None = None
        self._received = 0  # bytes, by this torrent's latest snapshot
        self._best = -1
        self._last_gain = anyio.current_time()
        self._layers_deadline: float | None = None

    @property
    def infohashes(self) -> InfoHashes:
        """Of the torrent, as far as known."""
        return self._source.infohashes

    @property
    def name(self) -> str:
        """Of the torrent, or the magnet's name for it."""
        return self._source.name or self._source.infohashes.best

    @property
    def handle(self) -> lt.torrent_handle | None:
        """libtorrent's, while it is added."""
        return self._handle

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self._ended

    # ---- life

    async def __aenter__(self) -> Self:
        self._host.enter(self)
        self._hold()
        try:
            await self._add()
        except BaseException:
            self._leave()
            raise
        self._host.spawn(self._striping.run)
        self._check_complete()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        self._giver.forget()
        with anyio.CancelScope(shield=True):
            async with self._changing:
                await self._retire()
            self._leave()

    def _leave(self) -> None:
        self._striping.close()
        self._guard.close()
        self._host.hold(self, False)
        self._host.leave(self)

    async def _add(self) -> None:
        wanted = params.for_fetch(self._source, self._directory, self._host.options, have=self._done)
        if len(self._peers) == 1:  # before the first snapshot tells who is there; see _order
            wanted.flags |= lt.torrent_flags.sequential_download
        self._handle = await self._host.add(wanted, self._on_alert)
        self._have &= self._done
        self._flusher.start(self._handle.flush_cache)
        self._giver.forget()
        self._best, self._last_gain, self._received = -1, anyio.current_time(), 0
        self._guard.attach(self._handle, anyio.current_time())
        self._striping.handle = self._handle
        self._striping.begin()
        if not self._paused:
            self._handle.resume()
        self._connect(self._peers)

    async def _retire(self) -> None:
        """Stop, wait until nothing is written any more, and remove the torrent."""
        if self._handle is None:
            return
        handle, self._handle = self._handle, None
        self._guard.detach()
        self._striping.handle = None
        handle.pause()
        # Without metadata there is no file, and no flush is ever answered.
        if isinstance(self._source, Metainfo) and not await self._flusher.drain():
            log.warning("fetch.flush_timeout", torrent=self.name)
        if not self._is_whole:
            await self._host.settle()
        await self._host.drop(handle)

    def fail(self, reason: str, code: str) -> None:
        """End the events with `FetchFailed`."""
        if not self._ended:
            log.warning("fetch.failed", torrent=self.name, reason=reason)
            self._emit(FetchFailed(reason, code))

    def abandon(self) -> None:
        """The session ends: nothing more will come from it."""
        self.fail("the torrent session ends", "closed")
        self._handle = None
        self._giver.forget()
        self._guard.detach()
        self._striping.handle = None
        self._flusher.give_up()

    # ---- what the owner does

    async def events(self) -> AsyncIterator[FetchEvent]:
        """What happens, until `Finished` or `FetchFailed`."""
        while True:
            while not self._outbox:
                self._wake = anyio.Event()
                await self._wake.wait()
            event = self._outbox.popleft()
            yield event
            if isinstance(event, MetadataReceived):
                self._begin()
            if isinstance(event, Finished | FetchFailed):
                return

    def add_peers(self, peers: Iterable[Peer], *, trusted: bool = False) -> None:
        """Connect to these (IP, port) too; `trusted` as for `TorrentSession.fetch`."""
        peers = dict.fromkeys(peers)
        if trusted:
            self._guard.trust({host for host, _ in peers}, anyio.current_time())
        # Who has just finished took the torrent away and serves it anew; libtorrent would wait before it tries again.
        gone = [p for p in peers if trusted and p in self._peers and p[0] not in self._guard.evidence.connected]
        new = dict.fromkeys(p for p in peers if p not in self._peers)
        self._peers |= new
        self._connect(gone)
        self._guard.met([peer for peer in new if is_endpoint(*peer)], anyio.current_time())
        self._connect(new)

    async def give(self, index: int, data: bytes) -> bool:
        """Let libtorrent check and write piece `index` that came from elsewhere, whatever it has of it.

        True once it can be read; False when it is wrong or the fetch ends. Two writers of one piece would be a race: while a
        fetch lives, libtorrent is the only one.
        """
        whole = data + bytes(self._padding(index))
        await self._giver.give(index, whole, lambda: index in self._done or self._ended)
        return index in self._done

    def doubt(self, index: int) -> None:
        """The owner read other bytes than those of the right piece `index`: fetch it again if they are; else `PieceDone` comes again."""
        self._doubted.add(index)
        self.start_over()

    async def _current(self) -> lt.torrent_handle | None:
        """The torrent, not while it is being replaced."""
        async with self._changing:
            return self._handle

    def leave_out(self, pieces: Iterable[int]) -> None:
        """Others fetch these pieces: ask peers for none of them."""
        pieces = set(pieces)
        self._left_out |= pieces
        self._guard.leave_out(pieces)
        self._hold()

    def take_back(self, pieces: Iterable[int]) -> None:
        """Fetch these pieces from peers after all."""
        pieces = set(pieces) & self._left_out
        self._left_out -= pieces
        self._guard.take_back(pieces, anyio.current_time())
        self._last_gain = anyio.current_time()
        self._hold()

    def _hold(self) -> None:
        """Keep peers that libtorrent would hang up on, because for now we ask them for nothing.

        As until the owner has seen the metadata, and a moment longer, until libtorrent has asked for a piece: it would dial
        them again after a second. Not those of the LAN: nodes that begin together meet in that second, and share out the
        pieces. Without it nine of them asked the one that has it for the same first pieces (1.31 copies of 1 GiB, not 1.04 to 1.17).
        """
        waits = isinstance(self._source, Magnet) or not self._guard.evidence.trusted
        self._host.hold(self, bool(self._left_out) or (waits and not self._received))

    async def partial(self) -> frozenset[int]:
        """Pieces that peers are bringing right now."""
        queue = [] if self._handle is None else await queue_of(self._handle)
        return frozenset(piece["piece_index"] for piece in queue)

    @property
    def _is_whole(self) -> bool:
        """Whether libtorrent has checked every piece."""
        return isinstance(self._source, Metainfo) and len(self._have) >= self._source.pieces

    @property
    def _idle(self) -> bool:
        """Whether nothing is wanted from peers."""
        source = self._source
        return isinstance(source, Metainfo) and len(self._done | self._left_out) >= source.pieces

    def be_patient(self, on: bool) -> None:
        """Whether there is another way to get the file: then peers that lie or keep silent do not end the fetch."""
        if self._guard.patient and not on:
            self._last_gain = self._last_company = anyio.current_time()
        self._guard.patient = on

    def pause(self) -> None:
        """Stop talking to peers; nothing counts as a stall meanwhile."""
        self._paused = True
        if self._handle is not None:
            self._handle.pause()

    def resume(self) -> None:
        """Go on."""
        self._paused = False
        self._last_gain = anyio.current_time()
        if self._handle is not None:
            self._handle.resume()

    def status(self) -> TorrentStatus:
        """The latest numbers."""
        return as_status(self.infohashes, self.name, self._snapshot)

    # ---- what libtorrent says

    def _on_alert(self, alert: alerts.Alert) -> None:
        now = anyio.current_time()
        match alert:
            case alerts.PieceFinished(index=index):
                self._piece_finished(index)
            case alerts.CacheFlushed():
                self._cache_flushed()
            case alerts.Snapshot():
                self._take(alert)
            case alerts.MetadataArrived():
                self._metadata(alert)
            case alerts.HashFailed(index=index):
                self._hash_failed(index)
            case alerts.BlocksSent(piece=piece, host=host, blocks=blocks):
                self._guard.sent(piece, host, blocks, now)
            case alerts.PeerConnected(host=host, port=port):
                if len(self._peers) < MOST:  # who dials in has another port each time
                    self._peers.setdefault((host, port))
                self._guard.arrived((host, port), now)
            case alerts.PeerGone(host=host, caught=caught, peer_id=peer_id):
                self._guard.left(host, caught, now, peer_id)
            case alerts.Banned(host=host):
                self._guard.banned(host, now)
            case alerts.FileError(reason=reason, no_space=no_space):
                self.fail(reason, "no_space" if no_space else "io")
            case alerts.Contradiction(reason=reason):
                self._contradicted(reason)
            case alerts.ResumeData(metainfo=metainfo):
                self._emit(Finished(metainfo))

    def _piece_finished(self, index: int) -> None:
        if index not in self._have:  # libtorrent also reports what it was told to have
            self._have.add(index)
            self._contradictions = 0
            if index in self._giver:
                self._guard.replaced(index, anyio.current_time())
            else:
                self._senders[index] = self._guard.passed(index, anyio.current_time())
            self._flusher.finished(index)

    def _readable(self, index: int) -> None:
        self._done.add(index)
        self._giver.taken(index)
        self._emit(PieceDone(index, self._senders.pop(index, {})))

    def _cache_flushed(self) -> None:
        self._flusher.answered()
        self._check_complete()

    def _check_complete(self) -> None:
        source = self._source
        if isinstance(source, Magnet) or len(self._done) < source.pieces or self._layers_deadline is not None:
            return
        self._layers_deadline = anyio.current_time() + LAYERS_TIMEOUT_S
        if source.lacks_layers and self._handle is not None:
            self._handle.save_resume_data(lt.torrent_handle.save_info_dict)
        else:
            self._emit(Finished())

    def _hash_failed(self, index: int) -> None:
        if index in self._giver:  # no peer is to blame: what they had of it was overwritten
            self._guard.replaced(index, anyio.current_time())
            self._giver.refused(index)
            return
        if index in self._have:
            self._thrown_away(index)
            return
        self._emit(PieceFailed(index))
        self._guard.failed(index, anyio.current_time())

    def _thrown_away(self, index: int) -> None:
        """A right piece, and nobody's fault: while libtorrent lacks the piece layer of a hybrid torrent, and has seen all other
        pieces, a wrong one does not fit the root of the file, and it fails them all.
        """
        self._guard.replaced(index, anyio.current_time())
        self._doubted.add(index)
        self.start_over()

    async def _recheck(self) -> None:
        """What was thrown away, or read wrong, is in the file, unless peers have sent some of it since."""
        doubted, self._doubted = self._doubted & self._done, set()
        for index in doubted:
            if await anyio.to_thread.run_sync(self._is_right, index):
                self._emit(PieceDone(index))
            else:
                self._done.discard(index)

    def _is_right(self, index: int) -> bool:
        """Whether the file has the bytes of this piece."""
        source = self._source
        assert isinstance(source, Metainfo)
        return PieceCheck(source).is_piece(*source.map.locate(index), self._read(index))

    def _read(self, index: int) -> bytes:
        """This piece as it is in the file; too short where it cannot be read: libtorrent meets the same, and says so."""
        source = self._source
        assert isinstance(source, Metainfo)
        file, local = source.map.locate(index)
        try:
            with (self._directory / names_of(source)[file]).open("rb") as opened:
                opened.seek(local * source.piece_length)
                return opened.read(source.map.size(index))
        except OSError:
            return b""

    def _contradicted(self, reason: str) -> None:
        """A wrong block that is replaced while its piece is hashed looks to libtorrent as if v1 and v2 described different data.

        So it is evidence of wrong data, not yet a verdict on the torrent: the fetch is rescued, but not for ever.
        """
        self._contradictions += 1
        if self._contradictions > MAX_CONTRADICTIONS:
            self.fail(reason, "hostile")
            return
        log.warning("fetch.contradiction", torrent=self.name, reason=reason)
        self._guard.contradicted()
        self.start_over()

    def _welcome(self, hosts: frozenset[str]) -> None:
        """libtorrent forgets whom its filter bars."""
        self._connect([peer for peer in self._peers if peer[0] in hosts])

    def _caught(self, host: str) -> None:
        self._last_gain = anyio.current_time()  # one liar less
        self._host.banned(host)
        self._emit(PeerBanned(host))

    def _padding(self, index: int) -> int:
        """Bytes of padding that libtorrent wants behind the file's bytes: only v1 counts them."""
        source = self._source
        return self._map.padding(index) if self._map and isinstance(source, Metainfo) and source.sha1_pieces else 0

    def _metadata(self, alert: alerts.MetadataArrived) -> None:
        if not isinstance(self._source, Magnet):
            return
        try:
            metainfo = parse(of_info(alert.info))
        except HaliError as exc:
            self.fail(f"the torrent's metadata cannot be used: {exc}", "metadata")
            return
        if metainfo.is_single_file and alert.file != metainfo.name:
            self.fail(f"the torrent's file name {metainfo.name!r} is too long", "metadata")
            return
        self._source, self._map = metainfo, metainfo.map
        self._guard.begin(metainfo, self._have, anyio.current_time())
        self._emit(MetadataReceived(metainfo.raw))

    def _begin(self) -> None:
        """The owner has seen the metadata and not left: fetch."""
        self._last_gain = anyio.current_time()
        self._striping.begin()
        if self._handle is not None:
            self._handle.unset_flags(lt.torrent_flags.upload_mode)
        self._hold()
        self._check_complete()

    def _take(self, snapshot: alerts.Snapshot) -> None:
        self._snapshot = snapshot
        if snapshot.done > self._best:
            self._best, self._last_gain = snapshot.done, anyio.current_time()
        if snapshot.downloaded > self._received:
            begins, self._received = not self._received, snapshot.downloaded
            if begins:
                self._hold()
            self._guard.received(anyio.current_time())
        for index in snapshot.have or ():
            self._piece_finished(index)
        self._order(snapshot)
        self._emit(Progress(float(snapshot.down_rate), snapshot.peers))

    def _order(self, snapshot: alerts.Snapshot) -> None:
        """In order while every peer has everything: no piece is rare then, and the file's SHA-256 follows the bytes as they come."""
        if self._handle is not None and snapshot.peers:
            sequential = lt.torrent_flags.sequential_download
            self._handle.set_flags(sequential if snapshot.seeds == snapshot.peers else 0, sequential)

    # ---- time

    def tick(self, now: float) -> None:
        """Called about twice a second."""
        if self._layers_deadline is not None:
            if now > self._layers_deadline:
                self._emit(Finished())
            return
        if self._ended or self._paused or self._rescuing or self._handle is None:
            return
        if self._idle:
            self._last_gain = self._last_company = now
            return
        self._guard.tick(now)
        if self._guard.must_restart(now):
            self.start_over()
        if not self._guard.patient:
            self._lose_patience(now)

    def _lose_patience(self, now: float) -> None:
        if not self._guard.alone:
            self._last_company = now
        if now - self._last_company > ALONE_S:
            self.fail(f"all {len(self._guard.evidence.guilty)} peers sent wrong data", "hostile")
        elif now - self._last_gain > self._patience_s:
            peers = self._snapshot.peers if self._snapshot else 0
            what = "no metadata" if isinstance(self._source, Magnet) else "no data"
            self.fail(f"{what} for {self._patience_s:.0f} s from {peers} connected peers", "stalled")

    def start_over(self) -> None:
        """Add the torrent anew, soon: libtorrent has stopped it."""
        if not (self._rescuing or self._ended):
            self._rescuing = True
            self._emit(StartedOver())
            self._host.spawn(self._rescue)

    async def _rescue(self) -> None:
        """Add the torrent anew: libtorrent forgets its bans, which also hit honest peers, and that it had stopped."""
        try:
            log.warning("fetch.rescue", torrent=self.name)
            async with self._changing:
                await self._retire()
                await self._recheck()
                if not self._ended:
                    await self._add()
        except HaliError as exc:
            self.fail(f"cannot go on after wrong data: {exc}", "hostile")
        finally:
            self._rescuing = False
        if self._doubted:  # meanwhile
            self.start_over()

    # ---- helpers

    def _connect(self, peers: Iterable[Peer]) -> None:
        if self._handle is None:
            return
        for host, port in peers:
            if is_endpoint(host, port):
                self._handle.connect_peer((host, port))
            else:
                log.warning("fetch.bad_peer", peer=f"{host}:{port}")

    def _emit(self, event: FetchEvent) -> None:
        if self._ended:
            return
        if isinstance(event, Progress) and self._outbox and isinstance(self._outbox[-1], Progress):
            self._outbox.pop()  # a slow reader sees the latest only
        self._ended = isinstance(event, Finished | FetchFailed)
        if self._ended:
            self._giver.forget()
        self._outbox.append(event)
        self._wake.set()


def is_endpoint(host: str, port: int) -> bool:
    """Whether libtorrent can connect there; it does not look names up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return 0 < port < 65536

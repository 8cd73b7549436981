"""BitTorrent peers as a source of one model, those of the LAN among them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from hali.config.files import write_atomically
from hali.model.errors import NoSpace, NotRunning, ProtocolError, Refused, TransferFailed, VerificationFailed
from hali.model.ids import InfoHashes
from hali.model.units import PIECE
from hali.runtime.channels import Watch
from hali.runtime.groups import first_error
from hali.runtime.log import get_logger
from hali.share.incoming import METAINFO, check_name
from hali.share.incoming_model import Wanted
from hali.share.intake import Intake
from hali.transfer.bundle import names_of
from hali.transfer.events import (
    FetchFailed,
    Finished,
    MetadataReceived,
    PeerBanned,
    PieceDone,
    PieceFailed,
    Progress,
    StartedOver,
)
from hali.transfer.fetching import Fetch
from hali.transfer.magnet import Magnet, Peer
from hali.transfer.metainfo import Metainfo, parse
from hali.transfer.session import TorrentSession, same_torrent

log = get_logger(__name__)

HASHED_AT_ONCE = min(4, os.cpu_count() or 1)  # one piece after the other fell behind nine peers at 1 Gbit/s
DOUBTS = 3  # of one piece: liars write over what was right, but not for ever


class Pulse(msgspec.Struct, frozen=True):
    """The swarm's latest word on itself: payload bytes per second and connected peers."""

    rate: float
    peers: int


class SwarmLane:
    """The torrent's peers feed `intake`. After `run`, `intake.metainfo` is what it was fetched by."""

    kind = "torrent"

    def __init__(
        self,
        intake: Intake,
        torrents: Watch[TorrentSession | None],
        source: Metainfo | Magnet,
        *,
        peers: Sequence[Peer] = (),
        trusted: bool = False,
        shared: bool = False,
    ) -> None:
        self._intake, self._torrents, self._source = intake, torrents, source
        self._peers: dict[Peer, None] = dict.fromkeys(peers)
        self._trusted = {host for host, _ in peers} if trusted else set[str]()
        self._shared = shared  # with sources of HTTP, which may have begun before the metadata is known
        self._patient = shared
        self._doubts: Counter[int] = Counter()  # how often a piece that was called right was read otherwise
        self._fetch: Fetch | None = None
        self.pulse: Pulse | None = None  # None while there is no connection to the swarm

    @property
    def infohashes(self) -> InfoHashes:
        """Of the torrent, as far as known."""
        return self._source.infohashes

    def add_peers(self, peers: Sequence[Peer]) -> None:
        """Nodes of the LAN that have it: talk to these too, from now on."""
        self._intake.lan_hosts |= {host for host, _ in peers}
        self._trusted |= {host for host, _ in peers}
        self._peers |= dict.fromkeys(peers)
        if self._fetch is not None:
            self._fetch.add_peers(peers, trusted=True)

    def be_patient(self, on: bool) -> None:
        """Whether another source goes on: a swarm that lies or keeps silent then waits instead of failing."""
        self._patient = on
        if self._fetch is not None:
            self._fetch.be_patient(on)

    async def run(self) -> None:
        """Fetch what is missing. A session that is restarted meanwhile costs nothing but the pieces in flight."""
        while True:
            session = await self._torrents.until(lambda now: now is not None)
            assert session is not None
            try:
                await self._run_in(session)
                return
            except (SessionEnded, NotRunning):
                await self._torrents.until(lambda now, gone=session: now is not gone)  # type: ignore[misc]

    async def _run_in(self, session: TorrentSession) -> None:
        metainfo = self._intake.metainfo or self._remembered()
        if metainfo is None:
            assert isinstance(self._source, Magnet)
            if await self._fetch_from(session, self._source) and self._is_done:
                return
            metainfo = self._intake.metainfo
        assert metainfo is not None
        await self._prepare(metainfo)
        await self._fetch_from(session, metainfo)
        while not self._is_done:
            await self._fetch_from(session, metainfo)

    @property
    def _is_done(self) -> bool:
        """After a fetch that has ended well: whether all of it is on record. Not what was doubted when it was over."""
        return not self._doubts or self._intake.complete.is_set()

    def _remembered(self) -> Metainfo | None:
        """What the user gave, or an earlier try learnt, of this very torrent."""
        if isinstance(self._source, Metainfo):
            return self._source
        try:
            found = parse((self._intake.directory / METAINFO).read_bytes())
        except (FileNotFoundError, ProtocolError):
            return None
        return found if same_torrent(found.infohashes, self._source.infohashes) else None

    async def _fetch_from(self, session: TorrentSession, source: Metainfo | Magnet) -> bool:
        """True when all of it is there; False when the torrent must be added again, with what HTTP brought before it was known."""
        try:
            async with self._intake.join() as have:
                fetch = session.fetch(
                    source,
                    self._intake.directory,
                    peers=list(self._peers),
                    have=have,
                    trusted_peers=self._trusted,
                    patient=self._patient,
                )
                await fetch.__aenter__()
                self._fetch = fetch
                if isinstance(source, Metainfo):
                    self._intake.joined(fetch)
            try:
                return await self._follow(fetch)
            finally:
                await fetch.__aexit__(None, None, None)
        finally:
            self._fetch, self.pulse = None, None
            self._intake.left()

    async def _follow(self, fetch: Fetch) -> bool:
        """True when all of it is on record; a fetch that fails leaves no piece that came before unrecorded."""
        slots = anyio.Semaphore(HASHED_AT_ONCE)
        try:
            async with anyio.create_task_group() as group:
                end = await self._events(fetch, group, slots)
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        if isinstance(end, FetchFailed):
            raise _failure(end.reason, end.code)
        return end

    async def _events(self, fetch: Fetch, group: anyio.abc.TaskGroup, slots: anyio.Semaphore) -> bool | FetchFailed:
        async for event in fetch.events():
            match event:
                case MetadataReceived(metainfo=raw):
                    if not await self._learn(fetch, raw):
                        return False
                case PieceDone(index=index, senders=senders):
                    if self._intake.is_canonical:
                        await slots.acquire()
                        group.start_soon(self._adopt, fetch, index, senders, slots)
                    else:  # several of them make up what is hashed
                        await self._intake.swarm_piece(index, senders)
                case Progress(rate=rate, peers=peers):
                    self.pulse = Pulse(rate, peers)
                case PieceFailed(index=index):
                    self._intake.wrong()
                    log.warning("fetch.piece_failed", piece=index, torrent=fetch.name)
                case StartedOver():
                    self._intake.lied_to = True
                case PeerBanned(address=address):
                    log.warning("fetch.peer_banned", peer=address, torrent=fetch.name)
                case FetchFailed():
                    return event
                case Finished(metainfo=complete):
                    self._complete(complete)
        return True

    async def _adopt(self, fetch: Fetch, index: int, senders: Mapping[str, int], slots: anyio.Semaphore) -> None:
        try:
            await self._intake.swarm_piece(index, senders)
        except VerificationFailed:
            self._doubts[index] += 1
            if self._doubts[index] > DOUBTS:
                raise
            fetch.doubt(index)
        finally:
            slots.release()

    async def _learn(self, fetch: Fetch, raw: bytes) -> bool:
        """The magnet's torrent is known; False when others have begun the file already."""
        metainfo = parse(raw)
        await self._prepare(metainfo)
        await anyio.to_thread.run_sync(write_atomically, self._intake.directory / METAINFO, raw)
        if self._shared or not metainfo.is_single_file:  # libtorrent would put several files into a folder of theirs
            return False
        self._intake.joined(fetch)
        return True

    async def _prepare(self, metainfo: Metainfo) -> None:
        """Check the torrent against what is wanted, before files of its names are touched, and open those."""
        intake = self._intake
        files = [Wanted(name, file.length) for name, file in zip(names_of(metainfo), metainfo.files, strict=True)]
        for file in files:
            check_name(file.name)
        if intake.pinned:
            _compare(files, intake.pinned)
            pins = zip(files, intake.pinned, strict=True)
            files = [msgspec.structs.replace(file, sha256=pin.sha256, path=pin.path) for file, pin in pins]
        canonical = metainfo.piece_length == PIECE
        if intake.is_open and not canonical and intake.metainfo is None:
            raise Refused(f"the torrent offered for {metainfo.name} has pieces of {metainfo.piece_length} bytes")
        if intake.metainfo is None:
            intake.learn(metainfo)
        if not intake.is_open:
            # Our own torrents of a pinned file differ in nothing that matters here, so HTTP can go on where they stopped.
            tag = None if canonical and intake.pinned else metainfo.infohashes.best
            await intake.open(files, tag=tag, torrent_piece=metainfo.piece_length)

    def _complete(self, raw: bytes | None) -> None:
        """The piece layers of a v2 torrent come with its pieces; seeding somebody else's needs them, the file itself does not."""
        try:
            self._intake.metainfo = parse(raw) if raw is not None else self._intake.metainfo
        except ProtocolError as exc:
            log.warning("fetch.layers_missing", torrent=self._intake.directory.name, error=str(exc))


def _compare(offered: Sequence[Wanted], pinned: Sequence[Wanted]) -> None:
    """TransferFailed unless the torrent's files can be the repository's: where there is one, its name does not matter."""
    if [file.length for file in offered] != [file.length for file in pinned]:
        have, want = (sum(file.length for file in files) for files in (offered, pinned))
        why = (
            f"offers {have} bytes for {pinned[0].name}, the file has {want}"
            if len(pinned) == 1
            else "offers other files"
        )
    elif len(pinned) > 1 and [file.name for file in offered] != [file.name for file in pinned]:
        why = "has the files under other names"
    else:
        return
    raise TransferFailed(f"a node of the LAN {why}", retryable=False, details={"tried": ["torrent"]})


class SessionEnded(TransferFailed):
    """The torrent session went away under the fetch; the next one goes on where it stopped."""

    code = "session_ended"


def _failure(reason: str, code: str) -> TransferFailed | NoSpace:
    if code == "closed":
        return SessionEnded(f"BitTorrent: {reason}")
    if code == "no_space":
        return NoSpace(
            f"BitTorrent: {reason}", hint="free some space and run the same command again; it goes on where it stopped"
        )
    return TransferFailed(f"BitTorrent: {reason}", details={"tried": ["torrent"], "code": code})

"""The unfinished model as its sources see it: what is missing, who brings what, and one writer for each piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from hali.model.digests import PieceDigests
from hali.model.errors import Refused, VerificationFailed
from hali.model.piecemap import PieceMap
from hali.model.sources import PieceSource, SourceKind
from hali.model.units import BLOCK, PIECE, piece_count
from hali.share.division import Division, Speed
from hali.share.incoming_model import IncomingModel, Wanted
from hali.share.part import Part
from hali.share.tally import Tally
from hali.transfer.fetching import Fetch
from hali.transfer.metainfo import Metainfo
from hali.transfer.piece_check import PieceCheck

Admit = Callable[[int], None]  # told how many bytes will come; NoSpace


class Disagreement(VerificationFailed):
    """The repository and the torrent that was offered for its file differ; only the SHA-256 of the whole tells who is right."""

    code = "sources_disagree"


class Intake:
    """One model on its way in. Sources of HTTP `claim` and `deliver`; the swarm lane `join`s, and is the only writer meanwhile."""

    def __init__(
        self,
        directory: Path,
        *,
        streaming: bool,
        pinned: Sequence[Wanted] = (),
        part: Part | None = None,
        tally: Tally | None = None,
        admit: Admit | None = None,
    ) -> None:
        self.directory, self.part = directory, part
        self.tally = tally or Tally()
        self.streaming = streaming or part is not None  # of a part, only the hashes tell right from wrong
        self.pinned = tuple(pinned)  # the files, when the repository tells them with their SHA-256
        self.division = Division(())
        self.speed = Speed()
        self.metainfo: Metainfo | None = None  # of the torrent, once known
        self.lan_hosts: set[str] = set()
        self.came = 0  # bytes in this life
        self.lied_to = False  # a piece came that was wrong, or the torrent was added anew for one
        self.complete = anyio.Event()
        self._admit = admit
        self._incoming: IncomingModel | None = None
        self._map = PieceMap(())  # of the torrent
        self._check: PieceCheck | None = None
        self._fetch: Fetch | None = None
        self._strangers: set[str] = set()  # peers that are not of the LAN
        self._given: dict[int, SourceKind] = {}  # pieces of the torrent that did not come from its peers
        self._scopes: dict[int, anyio.CancelScope] = {}
        self._coming: dict[int, int] = {}  # bytes at hand of pieces that HTTP is bringing
        self._writers = 0
        self._joining = False
        self._changed = anyio.Event()

    # ---- the files

    @property
    def incoming(self) -> IncomingModel:
        """The files; only after `open`."""
        assert self._incoming is not None
        return self._incoming

    @property
    def is_open(self) -> bool:
        """Whether names and sizes are known, so that pieces can come."""
        return self._incoming is not None

    async def open(self, files: Sequence[Wanted], *, tag: str | None = None, torrent_piece: int = PIECE) -> None:
        """Go on with what is there, or begin anew. Once only. NoSpace also where there is no room for it."""
        if self._admit is not None:
            self._admit(sum(file.length for file in files))
        self._incoming = await IncomingModel.open(
            self.directory,
            files,
            tag=tag,
            streaming=self.streaming,
            torrent_piece=torrent_piece,
            whole=self.part is None,
        )
        # The last life may have ended between a torrent's small pieces and the 16 MiB that they make up.
        for unit in self._incoming.unhashed:
            await self._incoming.adopt_piece(unit)
        missing = self._incoming.missing
        if self.part is not None:
            wanted = await self.part.look(self._incoming.only)
            missing = [i for i in missing if i in wanted]
        self.division = Division(missing)
        if not self.division.missing:
            self.complete.set()
        self._notify()

    def close(self) -> None:
        """Release the files; what is done stays done."""
        if self._incoming is not None:
            self._incoming.close()

    # ---- for sources of HTTP

    async def claim(self) -> int | None:
        """The next piece to fetch by HTTP, as soon as there is one; None when nothing is missing any more."""
        while self.division.missing:
            begun = await self._fetch.partial() if self._fetch is not None else frozenset[int]()
            units = {self.incoming.piece_of(i) for i in begun}
            index = self.division.claim(anyio.current_time(), self.speed, units)
            if index is not None:
                if self._fetch is not None and index not in self.division.shared:
                    self._fetch.leave_out(self._pieces_in(index))
                return index
            await self.changed()
        return None

    @asynccontextmanager
    async def working(self, index: int) -> AsyncIterator[None]:
        """Fetch a claimed piece inside; left early when the swarm has brought it meanwhile."""
        with anyio.CancelScope() as scope:
            self._scopes[index] = scope
            try:
                yield
            finally:
                self._scopes.pop(index, None)
                self._coming.pop(index, None)
                self._release(index)

    def coming(self, index: int, count: int) -> None:
        """`count` more bytes of a claimed piece are at hand."""
        self._coming[index] = self._coming.get(index, 0) + count

    def _release(self, index: int) -> None:
        self.division.release(index)
        if self._fetch is not None and index in self.division.missing:
            self._fetch.take_back(self._pieces_in(index))
        self._notify()

    async def deliver(self, index: int, data: memoryview, kind: SourceKind) -> None:
        """Put a piece into the file that came by HTTP; VerificationFailed when the torrent's hashes say it is not that piece."""
        await self._examine(index, data, kind)
        while index in self.division.missing:
            fetch = self._fetch
            if fetch is None and not self._joining:
                await self._write(index, data, kind)
            elif fetch is None or not await self._give(fetch, index, data, kind):
                if fetch is not None and fetch is self._fetch and not fetch.is_over:
                    raise VerificationFailed(f"piece {index} of {self.incoming.name}: BitTorrent refuses it")
                await self.changed()

    async def _examine(self, index: int, data: memoryview, kind: SourceKind) -> None:
        check = self._check
        if check is None or not check.can_tell or await anyio.to_thread.run_sync(check.is_right, index, data):
            return
        self.wrong()
        what = f"piece {index} of {self.incoming.name}"
        if kind is SourceKind.HTTP and self.pinned:
            raise Disagreement(f"{what} differs between the repository and the torrent that was offered for it")
        raise VerificationFailed(f"{what} from a web seed is not what the torrent promises", retryable=False)

    def wrong(self) -> None:
        """A piece came that is not what its hash promises."""
        self.lied_to = True
        self.tally.wrong()

    async def _write(self, index: int, data: memoryview, kind: SourceKind) -> None:
        self._writers += 1
        try:
            await self.incoming.write_piece(index, data, PieceSource(kind))
        finally:
            self._writers -= 1
            self._notify()
        self.came += len(data)
        self.tally.came(len(data), PieceSource(kind))
        await self._look_further(index)
        self._done(index)

    async def _give(self, fetch: Fetch, index: int, data: memoryview, kind: SourceKind) -> bool:
        """True when the pieces of the torrent that make up `index` are readable; the swarm lane then records them."""
        assert self.metainfo is not None
        size = self.metainfo.piece_length
        for inner, at in zip(self._pieces_in(index), range(0, len(data), size), strict=True):
            self._given[inner] = kind
            if not await fetch.give(inner, bytes(data[at : at + size])):
                self._given.pop(inner, None)
                return False
        while index in self.division.missing and fetch is self._fetch:
            await self.changed()
        return True

    @property
    def is_canonical(self) -> bool:
        """Whether the torrent's pieces are ours."""
        return self.metainfo is None or self.metainfo.piece_length == PIECE

    def check_web_seeds(self) -> None:
        """Refused while nothing could tell right from wrong bytes of an address that a torrent names."""
        if self._check is None or not self._check.can_tell:
            raise Refused("web seeds need the torrent's piece hashes", hint="pull by the .torrent file instead")

    async def overwritten(self) -> bool:
        """Whether the files hold something else than what was hashed; what is wrong is forgotten then, and only then `close`."""
        check = PieceCheck(self.metainfo) if self.metainfo is not None and self.metainfo.is_aligned else None
        return await self.incoming.overwritten(check if check is not None and check.can_tell else None)

    # ---- for the swarm

    @asynccontextmanager
    async def join(self) -> AsyncIterator[set[int]]:
        """No other writer inside, nor afterwards if `joined` was called; yields the torrent's pieces that are there."""
        self._joining = True
        try:
            while self._writers:
                await self.changed()
            yield self._have()
        finally:
            self._joining = False
            self._notify()

    def learn(self, metainfo: Metainfo) -> None:
        """What the torrent says; Disagreement, and nothing learnt, when pieces from the repository differ from it."""
        if self.part is not None:
            self.part.check(metainfo)
        self._map = metainfo.map
        known = self._incoming.hashed() if self._incoming is not None and metainfo.piece_length == PIECE else ()
        if not all(self._agrees(metainfo, index, digests) for index, digests in known):
            raise Disagreement(f"the torrent offered for {self.incoming.name} is of another file")
        self.metainfo = metainfo
        self._check = PieceCheck(metainfo) if PieceCheck.fits(metainfo) else None

    def _agrees(self, metainfo: Metainfo, index: int, digests: PieceDigests) -> bool:
        """Whether piece `index` (16 MiB) can be the torrent's; not told of one with padding behind it, for which v1 hashes other bytes."""
        hashes = metainfo.sha1_pieces
        if not hashes or self._map.padding(index):
            return True
        return hashes[20 * index : 20 * index + 20] == digests.sha1

    def joined(self, fetch: Fetch) -> None:
        """`fetch` writes from now on."""
        self._fetch = fetch
        units = self.division.claims.keys() - self.division.shared
        if self.part is not None:
            units |= set(range(self.incoming.map.count)) - self.part.wanted
        fetch.leave_out(i for unit in units for i in self._pieces_in(unit))
        self._notify()

    def left(self) -> None:
        """The swarm's fetch is over."""
        self._fetch = None
        self._notify()

    async def swarm_piece(self, index: int, senders: Mapping[str, int]) -> None:
        """Piece `index` of the torrent is right and can be read: put it on record. `senders`: blocks by host, as far as counted."""
        metainfo, incoming = self.metainfo, self.incoming
        assert metainfo is not None
        if self._has(index):
            return
        source = self._source(index, senders)
        if self.streaming and metainfo.piece_length == PIECE:
            # libtorrent has checked the piece; nothing wrong gets on record if the file's bytes are not (yet) those.
            await incoming.adopt_piece(index, partial(self._agrees, metainfo, index), source)
        else:
            incoming.record_torrent_piece(index, source)
            for completed in incoming.completed_by(index) if self.streaming else ():
                await incoming.adopt_piece(completed)
        self.came += incoming.torrent_piece_size(index)
        self.tally.came(incoming.torrent_piece_size(index), source)
        for unit in incoming.pieces_around(index):
            if incoming.has(unit):
                await self._look_further(unit)
                self._done(unit)
        self._notify()

    def _source(self, index: int, senders: Mapping[str, int]) -> PieceSource:
        """Blocks are counted from the second peer on; of the first ones, and of those before, the same is taken to hold."""
        if (kind := self._given.pop(index, None)) is not None:
            return PieceSource(kind)
        self._strangers |= senders.keys() - self.lan_hosts
        blocks = piece_count(self.incoming.torrent_piece_size(index), BLOCK)
        if not senders:
            return PieceSource(SourceKind.SWARM, blocks if self.lan_hosts and not self._strangers else 0)
        lan = sum(count for host, count in senders.items() if host in self.lan_hosts)
        return PieceSource(SourceKind.SWARM, round(blocks * lan / sum(senders.values())))

    # ---- both

    def measured(self, speed: Speed) -> None:
        """New speeds: what HTTP would finish late goes to the swarm too."""
        self.speed = speed
        for index in self.division.share_out(anyio.current_time(), speed):
            if self._fetch is not None:
                self._fetch.take_back(self._pieces_in(index))
        self._notify()

    async def changed(self) -> None:
        """Wait until something is different."""
        await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    @property
    def total(self) -> int:
        """Bytes that are wanted, as far as known."""
        length = self.incoming.length
        return length if self.part is None else self.part.size(length)

    @property
    def done(self) -> int:
        """Wanted bytes on record, and those at hand of pieces that are not whole yet: these are lost when the pull is stopped."""
        model = self.incoming
        wanted = model.have & self.part.wanted if self.part is not None else ()
        done = model.done_bytes if self.part is None else sum(map(model.map.size, wanted))
        for index, count in self._coming.items():
            if not model.has(index):  # of a torrent's smaller pieces, those that are on record are counted already
                known = (i for i in self._pieces_in(index) if model.has_torrent_piece(i))
                done += max(0, count - sum(map(model.torrent_piece_size, known)))
        return done

    async def _look_further(self, index: int) -> None:
        """The last wanted piece is there, and not yet counted: perhaps it tells what else is wanted."""
        if self.part is None or self.division.missing != {index}:
            return
        more = await self.part.look(self.incoming.only) - self.incoming.have
        self.division.missing |= more
        if self._fetch is not None:
            self._fetch.take_back(i for unit in more for i in self._pieces_in(unit))

    def _done(self, index: int) -> None:
        if index not in self.division.missing:
            return
        self.division.done(index)
        if (scope := self._scopes.get(index)) is not None:
            scope.cancel()
        if not self.division.missing:
            self.complete.set()
        self._notify()

    def _have(self) -> set[int]:
        """Pieces of the torrent that are on record."""
        if self._incoming is None or self.metainfo is None:
            return set()
        return self._incoming.have if self.is_canonical else self._incoming.torrent_pieces

    def _has(self, index: int) -> bool:
        """Whether piece `index` of the torrent is on record."""
        return self.incoming.has(index) if self.is_canonical else self.incoming.has_torrent_piece(index)

    def _pieces_in(self, unit: int) -> range:
        return self.incoming.torrent_pieces_in(unit)

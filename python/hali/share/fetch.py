"""Carrying the bytes of one file in, by torrent or by HTTP ranges, into an `IncomingFile`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import msgspec

from hali.config.files import write_atomically
from hali.model.digests import PieceDigests
from hali.model.errors import NoSpace, ProtocolError, Refused, TransferFailed
from hali.model.ids import InfoHashes
from hali.model.units import PIECE, piece_span
from hali.runtime.log import get_logger
from hali.share.incoming import METAINFO, IncomingFile, check_name
from hali.transfer.events import FetchFailed, Finished, MetadataReceived, PeerBanned, PieceDone, PieceFailed, Progress
from hali.transfer.http import RangeSource
from hali.transfer.magnet import Magnet
from hali.transfer.metainfo import Metainfo, parse
from hali.transfer.session import Fetch, TorrentSession, same_torrent

log = get_logger(__name__)


class Rate(msgspec.Struct, frozen=True):
    """What a transfer tells about itself while it runs; None is unknown."""

    bytes_per_second: float | None = None
    peers: int | None = None


Report = Callable[[Rate], None]


async def fetch_http(source: RangeSource, incoming: IncomingFile, report: Report) -> int:
    """Fetch every missing piece; the number of bytes that came."""
    started, came = anyio.current_time(), 0

    async def sink(index: int, data: memoryview) -> None:
        nonlocal came
        await incoming.write_piece(index, data)
        came += len(data)
        report(Rate(came / max(anyio.current_time() - started, 1e-3)))

    await source.pieces(incoming.missing, sink)
    return came


class TorrentFetch:
    """One file by BitTorrent. After `run`, `incoming` holds the file and `metainfo` what it was fetched by."""

    def __init__(
        self,
        session: TorrentSession,
        source: Metainfo | Magnet,
        directory: Path,
        *,
        peers: Sequence[tuple[str, int]],
        trusted: Sequence[str] = (),
        streaming: bool,
        sha256: str | None,
        size: int | None = None,
    ) -> None:
        self._session, self._source, self._directory = session, source, directory
        self._peers, self._trusted, self._streaming, self._sha256 = peers, trusted, streaming, sha256
        self.metainfo: Metainfo | None = source if isinstance(source, Metainfo) else self._remembered()
        self.incoming: IncomingFile | None = None
        self.came = 0
        self._fetch: Fetch | None = None
        self._size = size  # when pinned

    @property
    def infohashes(self) -> InfoHashes:
        """Of the torrent, as far as known."""
        return self._source.infohashes

    def add_peers(self, peers: Sequence[tuple[str, int]]) -> None:
        """Talk to these too, from now on."""
        if self._fetch is not None:
            self._fetch.add_peers(peers)

    def _remembered(self) -> Metainfo | None:
        """What an earlier try learnt of this very torrent."""
        try:
            found = parse((self._directory / METAINFO).read_bytes())
        except (FileNotFoundError, ProtocolError):
            return None
        return found if same_torrent(found.infohashes, self._source.infohashes) else None

    async def run(self, report: Report) -> IncomingFile:
        """Fetch all pieces that are missing; raises TransferFailed, NoSpace, VerificationFailed. What came is on record."""
        if self.metainfo is not None:
            await self._open(self.metainfo)
        source = self.metainfo or self._source
        have = self._have()
        async with self._session.fetch(
            source, self._directory, peers=self._peers, have=have, trusted_peers=self._trusted
        ) as self._fetch:
            async for event in self._fetch.events():
                match event:
                    case MetadataReceived(metainfo=raw):
                        await self._learn(raw)
                    case PieceDone(index=index):
                        await self._piece_done(index)
                    case Progress(rate=rate, peers=peers):
                        report(Rate(rate, peers))
                    case PieceFailed(index=index):
                        log.warning("fetch.piece_failed", piece=index, torrent=self._directory.name)
                    case PeerBanned(address=address):
                        log.warning("fetch.peer_banned", peer=address, torrent=self._directory.name)
                    case FetchFailed(reason=reason, code=code):
                        raise _failure(reason, code)
                    case Finished(metainfo=complete):
                        self._complete(complete)
                        break
        assert self.incoming is not None
        return self.incoming

    async def _learn(self, raw: bytes) -> None:
        if self.metainfo is None:
            write_atomically(self._directory / METAINFO, raw)
            self.metainfo = parse(raw)
            await self._open(self.metainfo)

    def _complete(self, raw: bytes | None) -> None:
        """The piece layers of a v2 torrent come with its pieces; seeding somebody else's needs them, the file itself does not."""
        try:
            self.metainfo = parse(raw) if raw is not None else self.metainfo
        except ProtocolError as exc:
            log.warning("fetch.layers_missing", torrent=self._directory.name, error=str(exc))

    async def _open(self, metainfo: Metainfo) -> None:
        if not metainfo.is_single_file:
            raise Refused(f"{metainfo.name} is a torrent of several files", hint="hali takes one model file at a time")
        check_name(metainfo.name)
        if self._size is not None and metainfo.length != self._size:  # before the journal of the right file is touched
            raise TransferFailed(
                f"a node of the LAN offers {metainfo.length} bytes for {metainfo.name}, the file has {self._size}",
                details={"tried": ["torrent"]},
            )
        # Our own torrents of a pinned file differ in nothing that matters here, so HTTP can go on where they stopped.
        canonical = metainfo.piece_length == PIECE
        tag = None if canonical and self._sha256 else metainfo.infohashes.best
        self.incoming = await IncomingFile.open(
            self._directory,
            metainfo.name,
            metainfo.length,
            sha256=self._sha256,
            tag=tag,
            streaming=self._streaming,
            torrent_piece=metainfo.piece_length,
        )

    def _have(self) -> set[int]:
        if self.incoming is None or self.metainfo is None:
            return set()
        return self.incoming.have if self.metainfo.piece_length == PIECE else set(self.incoming.journal.torrent_pieces)

    async def _piece_done(self, index: int) -> None:
        assert self.incoming is not None and self.metainfo is not None
        if index in self._have():
            return
        self.came += piece_span(index, self.metainfo.length, self.metainfo.piece_length)[1]
        if self.metainfo.piece_length != PIECE or not self._streaming:
            self.incoming.journal.record_torrent_piece(index)
        if self.metainfo.piece_length == PIECE and self._streaming:
            await self.incoming.adopt_piece(index, self._accept(index))
        elif self._streaming:
            for completed in self.incoming.completed_by(index):
                await self.incoming.adopt_piece(completed)

    def _accept(self, index: int) -> Callable[[PieceDigests], bool]:
        """libtorrent has checked the piece; so that nothing wrong gets on record if the file's bytes are not (yet) those."""
        assert self.metainfo is not None
        hashes = self.metainfo.sha1_pieces
        return lambda digests: not hashes or hashes[20 * index : 20 * index + 20] == digests.sha1


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

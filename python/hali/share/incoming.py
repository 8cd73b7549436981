"""A file on its way in: bytes, hasher and journal move together, so that a crash loses at most the pieces in flight."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import anyio
import anyio.to_thread

from hali.config.files import start_writing_out
from hali.hashing import PieceHasher, hash_file_async
from hali.model.digests import FileDigests, PieceDigests
from hali.model.errors import Failed, NoSpace, Refused, VerificationFailed
from hali.model.sources import PieceSource, mix
from hali.model.units import PIECE, RESERVE, format_bytes, piece_count, piece_span
from hali.runtime.log import get_logger
from hali.store.journal import Journal
from hali.store.models import METADATA, PARTIAL_METADATA
from hali.store.placing import NOTE as PLACING

log = get_logger(__name__)

T = TypeVar("T")
IsRight = Callable[[int, bytes], bool]
JOURNAL = "journal"
JOURNALS = "journals"  # the folder of those of several files, by number
METAINFO = "meta.torrent"  # beside the journal: after a restart the swarm need not be asked for it again
# Names of our own files beside a model's; a torrent that chose one of them would write into ours.
RESERVED = {JOURNAL, f"{JOURNAL}.new", JOURNALS, METAINFO, METADATA, PARTIAL_METADATA, PLACING, "imported"}


def check_name(name: str) -> str:
    """`name`, unless hali keeps a file of its own under it; Refused."""
    if name.lower() in RESERVED:
        raise Refused(
            f"a file called {name!r} cannot be shared", hint="hali keeps a file of that name beside each model"
        )
    return name


def check_room(path: Path, missing: int) -> None:
    """NoSpace unless the disk can take `missing` more bytes of the file at `path`."""
    free = shutil.disk_usage(path.parent).free
    if missing + RESERVE > free:
        raise NoSpace(
            f"{path.name} needs {format_bytes(missing)} more, {format_bytes(free)} are free, "
            f"of which {format_bytes(RESERVE)} stay free for the rest of the machine",
            hint="`hali rm` a model or set models_dir to a larger disk",
        )


def _drop_stale_journal(journal: Path, file: Path, length: int) -> None:
    """Records without their bytes are lies: a crash just after the finished file was moved away leaves such a journal.

    The file has its full length before the first record is written, so any other length means that it is not that file.
    """
    try:
        whole = file.lstat().st_size == length
    except FileNotFoundError:
        whole = False
    if not whole:
        journal.unlink(missing_ok=True)


def io_error(exc: OSError, what: str) -> Failed | NoSpace:
    """An OS error on the file `what` as one of ours."""
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(
            f"disk full while writing {what}",
            hint="free some space and run the same command again; it goes on where it stopped",
        )
    return Failed(f"{what}: {exc.strerror or exc}")


class IncomingFile:
    """The unfinished file `directory/name` of known `length`. Use as a context manager: it closes, and keeps what is done."""

    def __init__(
        self, path: Path, length: int, journal: Journal, *, streaming: bool, torrent_piece: int, writable: bool
    ) -> None:
        self.path = path
        self.streaming = streaming  # False: bytes are only put on record, and hashed all at once by `finish`
        self.length = length
        self.torrent_piece = torrent_piece  # what the journal's torrent pieces count
        self.journal = journal
        self.hasher = PieceHasher(length)
        # Pieces hashed in this life, for the log: none that an earlier one had finished may be among them.
        self.hashed = 0
        self.rechecked = 0  # pieces read again after a power cut
        flags = os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY
        self._fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        self._catching_up = anyio.Lock()

    @classmethod
    async def open(
        cls,
        directory: Path,
        name: str,
        length: int,
        *,
        sha256: str | None = None,
        tag: str | None = None,
        streaming: bool = True,
        torrent_piece: int = PIECE,
        writable: bool = True,
        whole: bool = True,
        journal_name: str = JOURNAL,
    ) -> IncomingFile:
        """Go on with what is there or begin anew. NoSpace before the first byte if the disk cannot take the rest.

        `torrent_piece` is the piece length of the torrent it comes by; `writable=False` is for a file that is whole already and
        only to be hashed, `whole=False` for one that will keep holes: room for all of it is not needed.
        """
        check_name(name)

        def prepare() -> IncomingFile:
            path = directory / journal_name
            path.parent.mkdir(exist_ok=True)
            _drop_stale_journal(path, directory / name, length)
            with ExitStack() as undo:  # a file that cannot be opened leaves nothing open
                journal = Journal.open(path, length, name=name, sha256=sha256, tag=tag)
                undo.callback(journal.close)
                try:
                    incoming = cls(
                        directory / name,
                        length,
                        journal,
                        streaming=streaming,
                        torrent_piece=torrent_piece,
                        writable=writable,
                    )
                    undo.callback(incoming.close)
                    if writable:
                        incoming._make_room(whole)
                    incoming._restore()
                except OSError as exc:
                    raise io_error(exc, str(directory / name)) from exc
                undo.pop_all()
            return incoming

        return await anyio.to_thread.run_sync(prepare)

    def _make_room(self, whole: bool) -> None:
        if whole:
            check_room(self.path, self.length - self.done_bytes)
        os.ftruncate(self._fd, self.length)

    def _restore(self) -> None:
        if not self.journal.same_boot:
            self.recheck()
        self._take_over(self.journal.midstate if self.journal.same_boot else None)
        if not self.journal.pieces.keys() >= set(range(self.hasher.prefix)):
            # Pieces are hashed side by side: the state that has seen one may get on record just before that piece itself.
            self.hasher = PieceHasher(self.length)
            self._take_over(None)
        log.info(
            "incoming.opened",
            file=self.path.name,
            pieces=piece_count(self.length),
            known=len(self.journal.pieces),
            prefix=self.hasher.prefix,
            rechecked=self.rechecked,
        )

    def _take_over(self, midstate: bytes | None) -> None:
        for index, digests in self.journal.pieces.items():
            self.hasher.record(index, digests)
        if midstate is not None:
            self.hasher.restore_midstate(midstate)

    def recheck(self) -> None:
        """After a power cut a page may be on record and not on disk: believe only what still hashes right."""
        for index in list(self.journal.pieces):
            self.rechecked += 1
            digests, _ = self.hasher.hash_piece_at(self._fd, index)
            if digests != self.journal.pieces[index]:
                self.journal.forget_piece(index)
        whole = self.journal.pieces.keys()
        self.journal.confirm({i for i in self.journal.torrent_pieces if whole >= set(self.pieces_around(i))})

    async def overwritten(self, is_right: IsRight | None = None) -> bool:
        """Whether the file holds something else than what was hashed; what is wrong is forgotten then, and only then `close`.

        `is_right` judges pieces of the torrent by its own hashes, where these are known.
        """
        await self._catch_up()

        def compare() -> tuple[set[int], set[int], bool]:
            units, midstate = self._differing()
            inner = set(self._judge(units, is_right))
            units |= {unit for index in inner for unit in self.pieces_around(index)}
            return units, inner, bool(units) or midstate != self.hasher.midstate()

        units, inner, differs = await self._thread(compare)
        if differs:
            self.journal.forget_pieces(units, inner)
        return differs

    def _differing(self) -> tuple[set[int], bytes]:
        """Pieces (16 MiB) whose bytes are not those on record, and the SHA-256 state of the prefix as it should be.

        The file may have been wrong for a moment: a piece may have been read then, or the prefix's SHA-256 have gone on.
        """
        fresh, differing = PieceHasher(self.length), set[int]()
        for index, known in sorted(self.journal.pieces.items()):
            digests, midstate = fresh.hash_piece_at(self._fd, index)
            if digests != known:
                differing.add(index)
            elif midstate is not None:
                fresh.record(index, digests)
                fresh.advance(midstate)
        return differing, fresh.midstate()

    def _judge(self, differing: set[int], is_right: IsRight | None) -> Iterator[int]:
        """The torrent's pieces that are wrong; all around the `differing` ones when nobody can tell."""
        same = self.torrent_piece == PIECE
        for index in self.journal.torrent_pieces | (self.journal.pieces.keys() if same else set()):
            if is_right is None:
                if not differing.isdisjoint(self.pieces_around(index)):
                    yield index
                continue
            offset, size = piece_span(index, self.length, self.torrent_piece)
            if not is_right(index, os.pread(self._fd, size, offset)):
                yield index

    def pieces_around(self, torrent_piece: int) -> range:
        """The pieces (16 MiB) that a piece of the torrent has bytes of."""
        offset, size = piece_span(torrent_piece, self.length, self.torrent_piece)
        return range(offset // PIECE, (offset + size - 1) // PIECE + 1)

    def completed_by(self, torrent_piece: int) -> list[int]:
        """The pieces (16 MiB) around a piece of the torrent that have all their bytes now and are not hashed yet."""
        return [i for i in self.pieces_around(torrent_piece) if i not in self.journal.pieces and self._covered(i)]

    def _covered(self, index: int) -> bool:
        offset, size = piece_span(index, self.length)
        around = range(offset // self.torrent_piece, (offset + size - 1) // self.torrent_piece + 1)
        return all(i in self.journal.torrent_pieces for i in around)

    @property
    def have(self) -> set[int]:
        """Pieces (16 MiB) on disk, by the journal."""
        if self.streaming:
            return set(self.journal.pieces)
        return {i for i in range(piece_count(self.length)) if i in self.journal.pieces or self._covered(i)}

    def has(self, index: int) -> bool:
        """Whether piece `index` (16 MiB) is on disk, by the journal."""
        return index in self.journal.pieces or (not self.streaming and self._covered(index))

    @property
    def missing(self) -> list[int]:
        """Pieces not there yet."""
        have = self.have
        return [i for i in range(piece_count(self.length)) if i not in have]

    @property
    def unhashed(self) -> list[int]:
        """Pieces (16 MiB) that are there by the torrent's small pieces, and have not been hashed."""
        return [i for i in self.missing if self._covered(i)] if self.streaming else []

    @property
    def done_bytes(self) -> int:
        """Bytes on disk, by the journal; those of torrent pieces that do not fill a piece of 16 MiB yet count too."""
        there = self.journal.torrent_pieces
        if self.torrent_piece == PIECE and self.journal.pieces:
            there = there | self.journal.pieces.keys()
        # Asked after every piece: a sum over 6,000 pieces (100 GB) would take the event loop 2 ms each time.
        last = piece_count(self.length, self.torrent_piece) - 1
        short = self.torrent_piece - piece_span(last, self.length, self.torrent_piece)[1] if last in there else 0
        return len(there) * self.torrent_piece - short

    async def write_piece(
        self, index: int, data: bytes | bytearray | memoryview, source: PieceSource | None = None
    ) -> None:
        """Write a piece that just arrived, hash it while it is in memory, then put it on record."""
        offset, size = piece_span(index, self.length)
        await self._thread(partial(self._pwrite, data, offset))
        start_writing_out(self._fd, offset, size)
        if not self.streaming or self.torrent_piece != PIECE:
            for inner in self._torrent_pieces_in(index):
                self.journal.record_torrent_piece(inner, source)
        if not self.streaming:
            return
        digests = await self._thread(partial(self.hasher.add_piece, index, data))
        self.hashed += 1
        self.journal.record_piece(index, digests, self.hasher.midstate() if self.hasher.prefix else None, source)
        await self._follow_up()

    def _torrent_pieces_in(self, index: int) -> range:
        """The pieces of the torrent that lie wholly in piece `index` (16 MiB)."""
        offset, size = piece_span(index, self.length)
        last = offset + size == self.length
        end = piece_count(self.length, self.torrent_piece) if last else (offset + size) // self.torrent_piece
        return range(-(-offset // self.torrent_piece), end)

    async def adopt_piece(
        self, index: int, accept: Callable[[PieceDigests], bool] | None = None, source: PieceSource | None = None
    ) -> PieceDigests:
        """Hash a piece that another writer put into the file, and record it if `accept` agrees; VerificationFailed otherwise."""
        digests, midstate = await self._thread(partial(self.hasher.hash_piece_at, self._fd, index))
        self.hashed += 1
        if accept is not None and not accept(digests):
            raise VerificationFailed(
                f"piece {index} of {self.path.name} is not what the torrent promises", details={"pieces": [index]}
            )
        self.hasher.record(index, digests)
        # Pieces that come in order need no second read for the file's SHA-256.
        moved = midstate is not None and await self._thread(partial(self.hasher.advance, midstate))
        self.journal.record_piece(index, digests, midstate if moved else None, source)
        start_writing_out(self._fd, *piece_span(index, self.length))
        await self._follow_up()
        return digests

    async def _follow_up(self) -> None:
        """Catch up unless that is being done: it goes on with this piece, or the next piece or `finish` does."""
        if not self._catching_up.locked():
            await self._catch_up()

    async def _catch_up(self) -> None:
        """Let the file's SHA-256 follow the contiguous prefix, while its bytes are still in memory."""
        async with self._catching_up:
            before = self.hasher.prefix
            await self._thread(partial(self.hasher.catch_up, self._fd))
            if self.hasher.prefix != before:
                self.journal.record_midstate(self.hasher.midstate())

    async def finish(self, on_progress: Callable[[int], None] | None = None) -> FileDigests:
        """All digests, once every byte is there; what was not hashed on its way in is now. The bytes are then synced to disk."""
        digests = await self._finish_streamed() if self.hasher.missing() == [] else await self.hash_rest(on_progress)
        await self._thread(partial(os.fsync, self._fd))
        return digests

    async def _finish_streamed(self) -> FileDigests:
        await self._catch_up()
        self._log_end()
        return await self._thread(self.hasher.finish)

    async def hash_rest(self, on_progress: Callable[[int], None] | None = None) -> FileDigests:
        """Hash what is not on record, with all cores; every finished piece goes on record at once. `on_progress` gets bytes done."""
        done = sum(piece_span(i, self.length)[1] for i in self.journal.pieces)

        def on_piece(index: int, digests: PieceDigests, midstate: bytes) -> None:
            nonlocal done
            self.hashed += 1
            if index not in self.journal.pieces:
                done += piece_span(index, self.length)[1]
            # Pieces of our own size that were not hashed as they came have their source beside them.
            source = self.journal.torrent_sources.get(index) if self.torrent_piece == PIECE else None
            self.journal.record_piece(index, digests, midstate, source)
            if on_progress is not None:
                on_progress(done)

        try:
            digests = await hash_file_async(self._fd, on_piece=on_piece, known=self.hasher)
        except Failed as exc:
            if exc.code != "file_changed":
                raise
            what = f"{self.path.name} was written to while it was hashed"
            raise Failed(what, code=exc.code, hint=exc.hint, retryable=True) from None
        self._log_end()
        return digests

    def _log_end(self) -> None:
        log.info("incoming.hashed", file=self.path.name, pieces=piece_count(self.length), hashed=self.hashed)

    def _pwrite(self, data: bytes | bytearray | memoryview, offset: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, offset)
            view, offset = view[written:], offset + written

    async def _thread(self, work: Callable[[], T]) -> T:
        try:
            return await anyio.to_thread.run_sync(work)
        except OSError as exc:
            raise io_error(exc, str(self.path)) from exc

    def sources(self) -> dict[str, int]:
        """Bytes by who brought them (model/sources.py), over all lives of this file."""
        if self.torrent_piece == PIECE:
            known = self.journal.torrent_sources | self.journal.sources
        else:
            known = self.journal.torrent_sources
        return mix((piece_span(i, self.length, self.torrent_piece)[1], source) for i, source in known.items())

    def forget(self, pieces: Iterable[int]) -> None:
        """These pieces turned out wrong after all (the whole file's SHA-256 differs). Only for a file about to be closed."""
        self.journal.forget_pieces(pieces)

    def close(self) -> None:
        """Release file and journal; the next `open` goes on here."""
        self.journal.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

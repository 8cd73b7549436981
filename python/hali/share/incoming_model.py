"""A model on its way in, of one file or of several: pieces are numbered over all of them, and none has bytes of two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Self

import anyio
import anyio.to_thread
import msgspec

from hali.hashing import padded_sha1_of
from hali.model.digests import FileDigests, PieceDigests
from hali.model.piecemap import PieceMap
from hali.model.sources import PieceSource, SourceKind
from hali.model.splits import main_first
from hali.model.units import PIECE
from hali.share.incoming import JOURNAL, JOURNALS, IncomingFile, check_room
from hali.transfer.piece_check import PieceCheck
from hali.wire.manifest import FileRef

Progress = Callable[[int], None]


class Wanted(msgspec.Struct, frozen=True):
    """One file to come: its SHA-256 where it is pinned, and its path inside the repository where it has one."""

    name: str
    length: int
    sha256: str | None = None
    path: str | None = None


class Arrived(msgspec.Struct, frozen=True):
    """One file that is there, whole. `padded` is what a torrent of several files has for its last piece; empty for a single file."""

    path: Path
    digests: FileDigests
    padded: bytes = b""
    hf_path: str | None = None

    @property
    def ref(self) -> FileRef:
        """As the model's identity counts it."""
        return FileRef(self.path.name, self.digests.length, self.digests.sha256.hex())


async def arrived(path: Path, digests: FileDigests, *, alone: bool, hf_path: str | None = None) -> Arrived:
    """A finished file, with what a torrent needs of it."""
    padded = b"" if alone else await anyio.to_thread.run_sync(padded_sha1_of, path)
    return Arrived(path, digests, padded, hf_path)


class IncomingModel:
    """The files, each with a journal of its own, as one row of pieces. A context manager as they are."""

    def __init__(self, wanted: Sequence[Wanted], files: Sequence[IncomingFile], torrent_piece: int) -> None:
        self.wanted, self._files = tuple(wanted), tuple(files)
        lengths = [file.length for file in files]
        self.map, self._torrent_map = PieceMap(lengths), PieceMap(lengths, torrent_piece)
        self.length = sum(lengths)

    @classmethod
    async def open(
        cls,
        directory: Path,
        wanted: Sequence[Wanted],
        *,
        tag: str | None = None,
        streaming: bool = True,
        torrent_piece: int = PIECE,
        writable: bool = True,
        whole: bool = True,
    ) -> IncomingModel:
        """Go on with what is there or begin anew. NoSpace before the first byte if the disk cannot take the rest of all files.

        `writable=False` is for files that are whole already and only to be hashed, `whole=False` for one that will keep holes.
        """
        files: list[IncomingFile] = []
        try:
            for number, file in enumerate(wanted):
                journal = JOURNAL if len(wanted) == 1 else f"{JOURNALS}/{number}"
                opened = await IncomingFile.open(
                    directory,
                    file.name,
                    file.length,
                    sha256=file.sha256,
                    tag=tag,
                    streaming=streaming,
                    torrent_piece=torrent_piece,
                    writable=writable,
                    whole=whole,
                    journal_name=journal,
                )
                files.append(opened)
            model = cls(wanted, files, torrent_piece)
            if writable and whole:
                check_room(files[0].path, model.length - model.done_bytes)
        except BaseException:
            for opened in files:
                opened.close()
            raise
        return model

    @property
    def name(self) -> str:
        """Of the file that is opened to run the model."""
        return main_first(file.path.name for file in self._files)[0]

    @property
    def only(self) -> IncomingFile:
        """The file of a model of one file; ValueError."""
        (file,) = self._files
        return file

    # ---- pieces (16 MiB)

    def _at(self, index: int) -> tuple[IncomingFile, int]:
        number, local = self.map.locate(index)
        return self._files[number], local

    def _all(self, of: Callable[[IncomingFile], Collection[int]]) -> list[int]:
        """The pieces of the whole that are pieces `of` each file."""
        return [self.map.index(n, local) for n, file in enumerate(self._files) for local in of(file)]

    @property
    def have(self) -> set[int]:
        """Pieces on disk, by the journals."""
        return set(self._all(lambda file: file.have))

    @property
    def missing(self) -> list[int]:
        """Pieces not there yet."""
        return self._all(lambda file: file.missing)

    @property
    def unhashed(self) -> list[int]:
        """Pieces that are there by the torrent's small pieces, and have not been hashed."""
        return self._all(lambda file: file.unhashed)

    def has(self, index: int) -> bool:
        """Whether a piece is on disk, by the journals."""
        file, local = self._at(index)
        return file.has(local)

    def hashed(self) -> Iterator[tuple[int, PieceDigests]]:
        """The pieces on record with their digests."""
        for number, file in enumerate(self._files):
            for local, digests in file.journal.pieces.items():
                yield self.map.index(number, local), digests

    @property
    def done_bytes(self) -> int:
        """Bytes on disk, by the journals."""
        return sum(file.done_bytes for file in self._files)

    def sources(self) -> dict[str, int]:
        """Bytes by who brought them, over all lives."""
        total: Counter[str] = Counter()
        for file in self._files:
            total.update(file.sources())
        return dict(total)

    async def write_piece(self, index: int, data: memoryview, source: PieceSource) -> None:
        """Write a piece that just arrived, hash it and put it on record."""
        file, local = self._at(index)
        await file.write_piece(local, data, source)

    async def adopt_piece(
        self, index: int, accept: Callable[[PieceDigests], bool] | None = None, source: PieceSource | None = None
    ) -> PieceDigests:
        """Hash and record a piece that another writer put into its file; see `IncomingFile.adopt_piece`."""
        file, local = self._at(index)
        return await file.adopt_piece(local, accept, source)

    # ---- pieces of the torrent

    def torrent_pieces_in(self, index: int) -> range:
        """The pieces of the torrent that make up piece `index` (16 MiB), where they divide it."""
        number, local = self.map.locate(index)
        own, each = self._torrent_map.pieces_of(number), PIECE // self._torrent_map.piece
        return own[local * each : (local + 1) * each]

    def piece_of(self, torrent_piece: int) -> int:
        """The piece (16 MiB) that the first byte of a piece of the torrent lies in."""
        number, local = self._torrent_map.locate(torrent_piece)
        return self.map.index(number, local * self._torrent_map.piece // PIECE)

    def torrent_piece_size(self, torrent_piece: int) -> int:
        """Bytes of the file in a piece of the torrent."""
        return self._torrent_map.size(torrent_piece)

    @property
    def torrent_pieces(self) -> set[int]:
        """Those on record as such."""
        found = enumerate(self._files)
        return {self._torrent_map.index(n, local) for n, file in found for local in file.journal.torrent_pieces}

    def has_torrent_piece(self, torrent_piece: int) -> bool:
        """Whether it is on record as such."""
        number, local = self._torrent_map.locate(torrent_piece)
        return local in self._files[number].journal.torrent_pieces

    def record_torrent_piece(self, torrent_piece: int, source: PieceSource) -> None:
        """It is in its file."""
        number, local = self._torrent_map.locate(torrent_piece)
        self._files[number].journal.record_torrent_piece(local, source)

    def completed_by(self, torrent_piece: int) -> list[int]:
        """The pieces (16 MiB) around it that have all their bytes now and are not hashed yet."""
        number, local = self._torrent_map.locate(torrent_piece)
        return [self.map.index(number, each) for each in self._files[number].completed_by(local)]

    def pieces_around(self, torrent_piece: int) -> list[int]:
        """The pieces (16 MiB) that it has bytes of."""
        number, local = self._torrent_map.locate(torrent_piece)
        return [self.map.index(number, each) for each in self._files[number].pieces_around(local)]

    # ---- the end

    async def finish(self, on_progress: Progress | None = None) -> list[Arrived]:
        """All digests, once every byte is there, in the order of the files; the bytes are then synced to disk."""
        found, before = [], 0
        for wanted, file in zip(self.wanted, self._files, strict=True):
            digests = await file.finish(_beyond(before, on_progress))
            found.append(await arrived(file.path, digests, alone=len(self._files) == 1, hf_path=wanted.path))
            before += file.length
        return found

    async def overwritten(self, check: PieceCheck | None) -> bool:
        """As of each `IncomingFile`: whether anything is there that is not what was hashed. `check`: of the torrent."""
        found = [
            await file.overwritten(partial(check.is_piece, number) if check is not None else None)
            for number, file in enumerate(self._files)
        ]
        return any(found)

    def forget(self, names: Collection[str], *, only_swarm: bool) -> bool:
        """Believe no piece of these files (or none that peers brought), and only then `close`; False when there was none."""
        doubted = False
        for file in self._files:
            sources = file.journal.torrent_sources | file.journal.sources
            doubtful = [i for i, source in sources.items() if not only_swarm or source.kind is not SourceKind.HTTP]
            if file.path.name in names and doubtful:
                file.forget(doubtful)
                doubted = True
        return doubted

    def close(self) -> None:
        """Release the files; what is done stays done."""
        for file in self._files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _beyond(before: int, on_progress: Progress | None) -> Progress | None:
    """Progress of one file as progress of all."""
    return None if on_progress is None else lambda done: on_progress(before + done)

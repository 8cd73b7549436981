"""Which pieces a pull of some layers wants: the header's first, then, as soon as that can be read, those of the layers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio.to_thread

from hali.model.errors import Refused, UsageError
from hali.model.layers import Layers
from hali.model.units import PIECE, piece_count, piece_span
from hali.share.incoming import IncomingFile
from hali.transfer.metainfo import Metainfo
from hali.wire.gguf import GgufError, read_layout
from hali.wire.layer_ranges import needed_spans, pieces_of


class NoSuchPart(UsageError):
    """The file has no such layers; no other source will change that."""

    code = "no_such_part"


class Part:
    """The layers of one pull. `admit` is told the bytes they take once that is known; it raises NoSpace."""

    def __init__(self, layers: Layers, admit: Callable[[int], None] = lambda size: None) -> None:
        self.layers = layers
        self.wanted = frozenset({0})  # as far as known
        self._admit = admit
        self._settled = False

    @staticmethod
    def check(metainfo: Metainfo) -> None:
        """Refused for a torrent that is not hybrid with pieces of 16 MiB: its v1 hashes check pieces, its v2 infohash names the folder."""
        if not metainfo.is_single_file:
            raise Refused(f"{metainfo.name} is a model of several files: layers are pulled of models of one file")
        if metainfo.piece_length != PIECE or not metainfo.sha1_pieces or metainfo.infohashes.v2 is None:
            raise Refused(
                f"{metainfo.name}: layers are pulled by torrents that hali makes (pieces of 16 MiB, v1 and v2)",
                hint="pull the whole model, or the layers from a node that has it",
            )

    def size(self, length: int) -> int:
        """Bytes of the wanted pieces of a file of `length` bytes."""
        return sum(piece_span(i, length)[1] for i in self.wanted)

    async def look(self, incoming: IncomingFile) -> frozenset[int]:
        """What is wanted, now that `incoming` has what it has; NoSuchPart, NoSpace."""
        if not self._settled:
            await anyio.to_thread.run_sync(partial(self._look, incoming.path, incoming.length, incoming.have))
        return self.wanted

    def _look(self, path: Path, length: int, have: set[int]) -> None:
        front = next(i for i in range(piece_count(length) + 1) if i not in have)
        try:
            spans = self._spans(path, length, min(front * PIECE, length)) if front else None
        except (GgufError, UsageError) as exc:
            raise NoSuchPart(f"{path.name}: {exc.message}", hint=exc.hint) from None
        if spans is None:
            self.wanted = frozenset(range(front + 1))
            return
        self.wanted, self._settled = pieces_of(spans), True
        self._admit(self.size(length))

    def _spans(self, path: Path, length: int, known: int) -> list[tuple[int, int]] | None:
        """None when the header goes on behind the first `known` bytes."""
        short = False
        with path.open("rb") as file:

            def read(offset: int, count: int) -> bytes:
                nonlocal short
                short = short or offset + count > known
                file.seek(offset)
                return file.read(max(0, min(count, known - offset)))

            try:
                return needed_spans(read_layout(read, length), self.layers)
            except GgufError as exc:
                if short and exc.reason == "truncated":
                    return None
                raise

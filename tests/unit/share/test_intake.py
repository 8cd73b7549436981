"""What of an unfinished model is counted as done."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.model.sources import PieceSource, SourceKind
from hali.model.units import MIB, PIECE
from hali.share.incoming_model import Wanted
from hali.share.intake import Intake
from hali.share.part import Part
from hali.share.tally import Tally

pytestmark = pytest.mark.anyio


async def _opened(folder: Path, length: int, torrent_piece: int = PIECE) -> Intake:
    intake = Intake(folder, streaming=True, pinned=(), part=None, tally=Tally())
    await intake.open([Wanted("model.gguf", length)], torrent_piece=torrent_piece)
    return intake


async def test_bytes_at_hand_count_until_their_piece_is_on_record_or_given_up(tmp_path: Path) -> None:
    intake = await _opened(tmp_path, PIECE + MIB)
    try:
        async with intake.working(0):
            intake.coming(0, 3 * MIB)
            intake.coming(0, MIB)
            async with intake.working(1):
                intake.coming(1, MIB)
                assert intake.done == 5 * MIB
                await intake.deliver(1, memoryview(bytes(MIB)), SourceKind.HTTP)
                assert intake.done == 5 * MIB  # not twice
            assert intake.done == 5 * MIB
        assert intake.done == MIB
    finally:
        intake.close()


async def test_what_peers_brought_of_a_piece_that_comes_by_http_too_counts_once(tmp_path: Path) -> None:
    intake = await _opened(tmp_path, PIECE, torrent_piece=4 * MIB)
    try:
        async with intake.working(0):
            for inner in (0, 1):
                intake.incoming.record_torrent_piece(inner, PieceSource(SourceKind.SWARM, 0))
            intake.coming(0, 3 * MIB)
            assert intake.done == 8 * MIB
            intake.coming(0, 8 * MIB)
            assert intake.done == 11 * MIB
    finally:
        intake.close()


async def test_of_a_part_only_what_is_wanted_is_counted(tmp_path: Path) -> None:
    """Else the pieces of layers that were here before made more than all of it."""
    intake = await _opened(tmp_path, 3 * PIECE)
    try:
        for index in (1, 2):
            await intake.deliver(index, memoryview(bytes(PIECE)), SourceKind.HTTP)
        assert (intake.done, intake.total) == (2 * PIECE, 3 * PIECE)
        intake.part = Part((0, 1))
        intake.part.wanted = frozenset({0, 1})
        assert (intake.done, intake.total) == (PIECE, 2 * PIECE)
    finally:
        intake.close()

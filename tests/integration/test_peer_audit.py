"""Peers are asked by ourselves for blocks of a piece: the honest are told from liars, and who says too little gets no verdict."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from hali.model.units import BLOCK, KIB, MIB
from hali.transfer.auditing import NO_VERDICT, trial_for
from tests.fakes.corrupt_peer import INVERTED, CorruptPeer, Hashes, Manner, fraction
from tests.fakes.torrents import KINDS, Sample, make, two_sessions

pytestmark = pytest.mark.anyio

PIECE = 2 * MIB


class Court:
    """One trial of piece 1, the verdicts of it and the bytes that it took."""

    def __init__(self, sample: Sample, failed: bytes = b"") -> None:
        self.verdicts: dict[str, bool] = {}
        self.received = 0
        self.reasons: list[str] = []
        trial = trial_for(sample.metainfo, 1, self._counted, self.verdicts.__setitem__, lambda _: failed)
        assert trial is not None
        self.trial = trial

    def _counted(self, size: int) -> None:
        self.received += size

    async def ask(self, peer: tuple[str, int]) -> None:
        try:
            with anyio.fail_after(20):
                await self.trial.ask(peer)
        except NO_VERDICT as exc:
            self.reasons.append(f"{peer}: {exc!r}")


def liar(sample: Sample, number: int, share: float, **kwargs: object) -> CorruptPeer:
    hashes = sample.metainfo.infohashes
    return CorruptPeer(
        hashes.v1 or hashes.v2 or "",
        sample.content,
        sample.metainfo.piece_length,
        address=f"127.0.66.{number}",
        corrupt=fraction(share, number),
        **kwargs,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
async def test_the_honest_peer_is_told_from_liars_whatever_part_of_their_blocks_is_wrong(
    tmp_path: Path, kind: str, share: float
) -> None:
    sample = make(tmp_path / "seed", 5 * MIB + 300 * KIB, PIECE, KINDS[kind])
    court = Court(sample)
    bad = [liar(sample, i + 1, share, hashes=Hashes.WRONG) for i in range(3)]
    async with two_sessions() as (seeder, _), anyio.create_task_group() as group:
        await seeder.seed(sample.metainfo.raw, sample.path.parent)
        servers = [await peer.listen() for peer in bad]
        for server in servers:
            group.start_soon(court.ask, server.sockets[0].getsockname())
        group.start_soon(court.ask, ("127.0.0.1", seeder.port))
    for server in servers:
        server.close()
        await server.wait_closed()
    assert court.verdicts == {"127.0.0.1": True} | {peer.address: False for peer in bad}, court.reasons


@pytest.mark.parametrize("kind", KINDS)
async def test_nobody_is_judged_before_somebody_is_known_to_be_right(tmp_path: Path, kind: str) -> None:
    sample = make(tmp_path / "seed", 5 * MIB, PIECE, KINDS[kind])
    court = Court(sample)
    server = await liar(sample, 1, 1.0).listen()
    with anyio.move_on_after(1.0):
        await court.trial.ask(server.sockets[0].getsockname())
    server.close()
    await server.wait_closed()
    assert not court.verdicts


async def test_a_peer_that_chokes_and_one_that_does_not_exist_get_no_verdict(tmp_path: Path) -> None:
    sample = make(tmp_path / "seed", 5 * MIB, PIECE)
    court = Court(sample)
    server = await liar(sample, 1, 1.0, manner=Manner.CHOKES).listen()
    peer = server.sockets[0].getsockname()
    with anyio.move_on_after(0.3):
        await court.trial.ask(peer)
    server.close()
    await server.wait_closed()
    await court.ask(peer)
    assert not court.verdicts
    assert court.received < 1000


async def judged(court: Court, tmp_path: Path, sample: Sample, bad: CorruptPeer) -> None:
    async with two_sessions() as (seeder, _):
        await seeder.seed(sample.metainfo.raw, sample.path.parent)
        server = await bad.listen()
        await court.ask(server.sockets[0].getsockname())
        await court.ask(("127.0.0.1", seeder.port))
        server.close()
        await server.wait_closed()
    assert court.verdicts == {"127.0.0.1": True, bad.address: False}, court.reasons


async def test_the_version_of_the_piece_that_failed_is_not_fetched_again(tmp_path: Path) -> None:
    sample = make(tmp_path / "seed", 5 * MIB, PIECE, KINDS["v1"])
    court = Court(sample, failed=sample.content[PIECE : 2 * PIECE].translate(INVERTED))
    await judged(court, tmp_path, sample, liar(sample, 1, 1.0))
    assert PIECE <= court.received < PIECE + 300 * KIB, "the right version, and marks"


async def test_right_blocks_of_the_piece_that_failed_are_not_fetched_again(tmp_path: Path) -> None:
    sample = make(tmp_path / "seed", 5 * MIB, PIECE, KINDS["v1"])
    piece, half = sample.content[PIECE : 2 * PIECE], PIECE // 2
    court = Court(sample, failed=piece[:half] + piece[half:].translate(INVERTED))
    async with two_sessions() as (seeder, _):
        await seeder.seed(sample.metainfo.raw, sample.path.parent)
        await court.ask(("127.0.0.1", seeder.port))
    assert court.verdicts == {"127.0.0.1": True}
    assert half <= court.received < half + 200 * KIB


async def test_a_block_of_it_that_is_wrong_in_a_few_bytes_only_is_fetched_after_all(tmp_path: Path) -> None:
    sample = make(tmp_path / "seed", 5 * MIB, PIECE, KINDS["v1"])
    failed = bytearray(sample.content[PIECE : 2 * PIECE].translate(INVERTED))
    failed[:BLOCK] = sample.content[PIECE : PIECE + BLOCK]
    failed[0] ^= 1
    court = Court(sample, failed=bytes(failed))
    court.trial._places[0] = 100  # type: ignore[union-attr]  # where that byte is not
    await judged(court, tmp_path, sample, liar(sample, 1, 1.0))

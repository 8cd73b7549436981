"""Peers are asked by ourselves for blocks of a piece: the honest are told from liars, and who says too little gets no verdict."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from hali.model.units import KIB, MIB
from hali.transfer.auditing import NO_VERDICT, Trial, kind_for
from tests.fakes.corrupt_peer import CorruptPeer, Hashes, Manner, fraction
from tests.fakes.torrents import KINDS, Sample, make, two_sessions

pytestmark = pytest.mark.anyio

PIECE = 2 * MIB


class Court:
    """One trial of piece 1, the verdicts of it and the bytes that it took."""

    def __init__(self, sample: Sample) -> None:
        self.verdicts: dict[str, bool] = {}
        self.received = 0
        self.reasons: list[str] = []
        kind = kind_for(sample.metainfo)
        assert kind is not None
        self.trial: Trial = kind(sample.metainfo, 1, self._counted, self.verdicts.__setitem__)

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

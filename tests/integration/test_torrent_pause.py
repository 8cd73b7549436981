"""A pause of the real libtorrent session: seeds and fetches stand still, nobody is connected, and both go on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from hali.model.units import KIB, MIB
from hali.transfer.gate import Gate
from hali.transfer.session import Finished, TorrentSession, running
from tests.fakes.torrents import LOCAL, Sample, events_of, make

pytestmark = pytest.mark.anyio

SLOW = MIB // 2  # bytes per second: the file of 8 MiB is under way for seconds
DEADLINE = 30.0


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make(tmp_path / "seed", 8 * MIB, 64 * KIB)


@asynccontextmanager
async def gated(gate: Gate) -> AsyncIterator[TorrentSession]:
    session = TorrentSession(LOCAL, gate)
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: session.run(task_status=task_status))
        yield session
        group.cancel_scope.cancel()


async def received(session: TorrentSession) -> int:
    return (await session.totals()).downloaded


async def no_peers(session: TorrentSession) -> None:
    with anyio.fail_after(DEADLINE):
        while (await session.totals()).peers:
            await anyio.sleep(0.02)


@pytest.mark.parametrize("who", ["seeder", "leecher"])
async def test_in_a_pause_nothing_trickles_and_afterwards_the_fetch_goes_on(
    who: str, tmp_path: Path, sample: Sample
) -> None:
    gates = {"seeder": Gate(), "leecher": Gate()}
    async with gated(gates["seeder"]) as seeder, gated(gates["leecher"]) as leecher:
        await seeder.seed(sample.metainfo.raw, sample.path.parent)
        leecher.set_rates(upload=0, download=SLOW)
        peers = [("127.0.0.1", seeder.port)]
        # A pause must not use up the patience of the side that pauses; libtorrent connects again within a second or two.
        patience, look = (3.0, 1.2) if who == "leecher" else (60.0, 0.3)
        async with leecher.fetch(sample.metainfo, tmp_path, peers=peers, patience_s=patience) as fetch:
            with anyio.fail_after(DEADLINE):
                while not await received(leecher):
                    await anyio.sleep(0.02)
            gates[who].shut()
            await no_peers(leecher)
            await no_peers(seeder)
            before = await received(leecher)
            assert before < sample.metainfo.length
            for _ in range(3):
                await anyio.sleep(look)
                fetch.add_peers(peers)
                assert await received(leecher) == before
                # Who fetches may knock at the door of a paused seed now and then.
                assert who == "seeder" or (await leecher.totals()).peers == 0
            fetch.be_patient(True)  # only the pause is on trial: what follows may take a slow machine long
            gates[who].open()
            leecher.set_rates(upload=0, download=0)
            with anyio.fail_after(DEADLINE):
                assert (await events_of(fetch))[-1] == Finished()
    assert (tmp_path / "model.gguf").read_bytes() == sample.content


async def test_a_session_that_begins_in_a_pause_takes_its_seeds_and_gives_nothing_before_the_end(
    tmp_path: Path, sample: Sample
) -> None:
    gate = Gate(is_open=False)
    async with gated(gate) as seeder, running(LOCAL) as leecher:
        with anyio.fail_after(DEADLINE):
            await seeder.seed(sample.metainfo.raw, sample.path.parent)
        async with leecher.fetch(sample.metainfo, tmp_path, peers=[("127.0.0.1", seeder.port)]) as fetch:
            for _ in range(3):
                await anyio.sleep(0.3)
                assert await received(leecher) == 0
            gate.open()
            with anyio.fail_after(DEADLINE):
                assert (await events_of(fetch))[-1] == Finished()


async def test_a_fetch_that_begins_in_a_pause_waits_for_its_end(tmp_path: Path, sample: Sample) -> None:
    gate = Gate(is_open=False)
    async with running(LOCAL) as seeder, gated(gate) as leecher:
        await seeder.seed(sample.metainfo.raw, sample.path.parent)
        peers = [("127.0.0.1", seeder.port)]
        async with leecher.fetch(sample.metainfo, tmp_path, peers=peers, patience_s=0.2) as fetch:
            for _ in range(3):
                await anyio.sleep(0.6)
                assert await received(leecher) == 0
            fetch.be_patient(True)  # as above
            gate.open()
            with anyio.fail_after(DEADLINE):
                assert (await events_of(fetch))[-1] == Finished()

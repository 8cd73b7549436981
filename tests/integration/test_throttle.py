"""One cap over BitTorrent and HTTP at once, by real transfers on the loopback interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from hali.model.units import KIB, MIB
from hali.runtime.channels import Watch
from hali.transfer.session import TorrentSession, running
from hali.transfer.throttle import Caps, Throttle
from tests.both_transfers import FILE, REPO, both, reach
from tests.fakes.hf_server import FakeHub
from tests.fakes.torrents import LOCAL, Sample, content, make
from tests.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.alone]  # rates over seconds: whoever waits for a core counts in bursts

SIZE = 48 * MIB
CAPS = Caps(download_mbps=32)  # 4 MB/s: each transfer alone would move hundreds
WARM = 1 * MIB  # bytes of each kind before counting begins: what arrives before the first tick is a burst
COUNTED = 12 * MIB  # three seconds' worth


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make(tmp_path / "seed", SIZE, 256 * KIB)


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running_hub:
        running_hub.add(REPO, {FILE: content(SIZE)})
        yield running_hub


async def test_the_sum_of_both_holds_the_cap_and_each_gets_its_part(
    sample: Sample, hub: FakeHub, tmp_path: Path
) -> None:
    async with both(sample, hub, tmp_path, CAPS) as under_way:
        await reach(under_way.torrent, WARM)
        await until(lambda: under_way.http >= WARM)
        began, torrent, http = anyio.current_time(), await under_way.torrent(), under_way.http
        moved = await reach(under_way.total, torrent + http + COUNTED) - torrent - http
        seconds = anyio.current_time() - began
        # Never faster than the cap; how much slower is the machine's business. Without sharing it would be twice the cap. The bound
        # is generous because the window is short: a burst of a quarter second is a twelfth of it (the bench has 10 s and 5 %).
        assert moved / seconds <= 1.25 * CAPS.download
        assert await under_way.torrent() - torrent > COUNTED / 5
        assert under_way.http - http > COUNTED / 5


async def test_what_one_leaves_the_other_gets(sample: Sample, hub: FakeHub, tmp_path: Path) -> None:
    async with both(sample, hub, tmp_path, CAPS) as under_way:
        cap = CAPS.download
        await until(lambda: under_way.session.options.download_rate == cap / 2)  # both want it
        under_way.http_scope.cancel()
        await until(lambda: under_way.session.options.download_rate == cap)
        began, before = anyio.current_time(), await under_way.torrent()
        moved = await reach(under_way.torrent, before + COUNTED // 3) - before
        assert moved / (anyio.current_time() - began) <= 1.35 * cap


async def test_another_cap_holds_at_once_for_both_and_none_for_none(
    sample: Sample, hub: FakeHub, tmp_path: Path
) -> None:
    async with both(sample, hub, tmp_path, CAPS) as under_way:
        await reach(under_way.torrent, WARM // 4)
        under_way.throttle.set_caps(Caps(upload_mbps=1, download_mbps=0.001))
        await until(lambda: 0 < under_way.session.options.download_rate <= 125)
        assert under_way.session.options.upload_rate == 125_000
        assert under_way.throttle.download.rate == 125
        under_way.throttle.set_caps(Caps())
        await until(lambda: under_way.session.options.download_rate == 0)
        assert under_way.session.options.upload_rate == 0
        await until(lambda: under_way.http == SIZE)


async def test_a_new_session_is_told_the_caps(tmp_path: Path) -> None:
    torrents: Watch[TorrentSession | None] = Watch(None)
    throttle = Throttle(torrents, Caps(upload_mbps=8, download_mbps=16))
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: throttle.run(task_status=task_status))
        for _ in range(2):
            async with running(LOCAL) as session:
                torrents.set(session)
                await until(lambda session=session: session.options.download_rate == 2_000_000)
                assert session.options.upload_rate == 1_000_000
                assert session._session.get_settings()["upload_rate_limit"] == 1_000_000
            torrents.set(None)
        group.cancel_scope.cancel()

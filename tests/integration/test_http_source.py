"""Ranged downloads against a hub and CDN that misbehave."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import anyio
import msgspec
import pytest

from hali.model.errors import HaliError, NoSpace, NotFound, Refused, TransferFailed
from hali.transfer.gate import Gate
from hali.transfer.http import RangeSource
from hali.transfer.http_retry import HttpPolicy
from hali.transfer.rate_limit import RateLimiter
from tests.fakes.hf_server import FakeHub
from tests.waiting import until

PIECE = 256 * 1024
DATA = random.Random(7).randbytes(5 * PIECE + 12_345)
FILE = "m-Q4_K_M.gguf"
FAST = HttpPolicy(backoff_first=0.01, backoff_cap=0.05, stall=5, useful_progress=16 * 1024, retry_after_cap=0.3)
STALLED = msgspec.structs.replace(FAST, stall=0.3)  # only where somebody is silent: a slow machine is so too
ALL = range(6)
AUTH = {"Authorization": f"Bearer {FakeHub.TOKEN}"}


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running:
        running.add("o/r", {FILE: DATA, "config.json": b"{}"})
        yield running


class Sink:
    """Keeps the pieces; a piece that comes twice fails the test."""

    def __init__(self) -> None:
        self.got: dict[int, bytes] = {}

    async def __call__(self, index: int, view: memoryview) -> None:
        assert index not in self.got
        self.got[index] = bytes(view)

    @property
    def whole(self) -> bytes:
        return b"".join(self.got[i] for i in sorted(self.got))


def source(hub: FakeHub, file: str = FILE, **options: Any) -> RangeSource:
    settings = {"trusted": True, "size": len(DATA), "policy": FAST, "piece": PIECE, "headers": AUTH} | options
    return RangeSource(f"{hub.url}/o/r/resolve/{hub.repos['o/r'].sha}/{file}", **settings)


async def fetch(hub: FakeHub, **options: Any) -> Sink:
    sink = Sink()
    async with source(hub, **options) as src:
        with anyio.fail_after(20):
            await src.pieces(ALL, sink)
    assert sink.whole == DATA
    return sink


async def failure(hub: FakeHub, **options: Any) -> HaliError:
    with pytest.raises(HaliError) as caught:
        await fetch(hub, **options)
    return caught.value


async def test_each_byte_is_asked_for_once_over_parallel_connections(hub: FakeHub) -> None:
    await fetch(hub)
    assert hub.bytes_sent == len(DATA) + 1  # and the probe
    assert len(hub.ranges()) == 6
    assert len([r for r in hub.requests if r.server == "hub"]) == 1  # the redirect is resolved once


async def test_only_the_wanted_pieces_are_fetched(hub: FakeHub) -> None:
    sink = Sink()
    async with source(hub) as src:
        await src.pieces([4, 1], sink)
    assert set(sink.got) == {1, 4}
    assert sink.got[4] == DATA[4 * PIECE : 5 * PIECE]
    assert hub.bytes_sent == 2 * PIECE + 1


async def test_work_is_taken_from_a_generator_one_piece_at_a_time(hub: FakeHub) -> None:
    taken: list[int] = []

    def wanted() -> Iterator[int]:
        for index in ALL:
            taken.append(index)
            yield index

    async def sink(index: int, view: memoryview) -> None:
        assert len(taken) <= index + 2

    async with source(hub, policy=HttpPolicy(connections=1)) as src:
        await src.pieces(wanted(), sink)
    assert taken == list(ALL)


async def test_a_token_never_reaches_the_cdn(hub: FakeHub) -> None:
    await fetch(hub)
    assert {r.authorization for r in hub.requests if r.server == "cdn"} == {None}
    assert {r.authorization for r in hub.requests if r.server == "hub"} == {f"Bearer {FakeHub.TOKEN}"}


async def test_a_header_provider_is_asked_at_each_resolution(hub: FakeHub) -> None:
    asked = 0

    async def headers() -> dict[str, str]:
        nonlocal asked
        asked += 1
        return AUTH

    hub.add("o/r", {FILE: DATA}, gated=True)
    await fetch(hub, headers=headers)
    assert asked == 1


async def test_an_expired_redirect_is_resolved_anew(hub: FakeHub) -> None:
    hub.faults.token_uses = 3
    await fetch(hub, policy=HttpPolicy(connections=2, backoff_first=0.01))
    assert 2 <= len([r for r in hub.requests if r.server == "hub"]) <= 5
    assert hub.bytes_sent - len(DATA) <= 5 + 1000  # probes; the refusals have no file bytes


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_server_is_left_alone_for_as_long_as_it_asks(hub: FakeHub, status: int) -> None:
    hub.faults.busy, hub.faults.busy_status, hub.faults.retry_after = 1, status, "1"
    began = anyio.current_time()
    await fetch(hub, policy=HttpPolicy(backoff_first=0.01))
    assert anyio.current_time() - began >= 1.0


async def test_retry_after_as_a_date_is_understood_and_capped(hub: FakeHub) -> None:
    hub.faults.busy, hub.faults.retry_after = 2, formatdate(4_000_000_000, usegmt=True)
    with anyio.fail_after(10):
        await fetch(hub)


async def test_broken_connections_go_on_inside_the_piece(hub: FakeHub) -> None:
    hub.faults.cut_every = 100_000
    await fetch(hub)
    starts = [int(r.removeprefix("bytes=").split("-")[0]) for r in hub.ranges()]
    assert any(start % PIECE for start in starts)
    assert hub.bytes_sent < 1.3 * len(DATA)  # what was received is not asked for again; some was still under way


async def test_a_silent_server_is_asked_again(hub: FakeHub) -> None:
    hub.faults.stall_after, hub.faults.stall_times = 50_000, 3
    await fetch(hub, policy=STALLED)


async def test_a_trickle_counts_as_a_stall(hub: FakeHub) -> None:
    hub.faults.rate = 2_000
    error = await failure(hub, policy=HttpPolicy(attempts=2, backoff_first=0.01, slow_after=0.2, slow_rate=1e6))
    assert isinstance(error, TransferFailed)
    assert "only" in str(error.details["tried"])


async def test_an_answer_that_ends_early_is_completed(hub: FakeHub) -> None:
    hub.faults.end_early = 10_000
    await fetch(hub)


@pytest.mark.parametrize("fault", [{"too_long": 5}, {"shifted_range": True}])
async def test_lies_about_the_range_end_the_source(hub: FakeHub, fault: dict[str, Any]) -> None:
    async with source(hub) as src:
        await src.open()
        vars(hub.faults).update(fault)
        with pytest.raises(TransferFailed) as caught:
            await src.pieces(ALL, Sink())
    assert not caught.value.retryable


async def test_a_wrong_size_is_refused_before_the_first_piece(hub: FakeHub) -> None:
    hub.faults.size_lie = 1
    assert "size" in str(await failure(hub))
    assert hub.ranges() == []


async def test_a_wrong_etag_is_refused_and_the_right_one_accepted(hub: FakeHub) -> None:
    sha256 = hashlib.sha256(DATA).hexdigest()
    await fetch(hub, etag=f'"{sha256}"')
    assert "ETag" in str(await failure(hub, etag="0" * 64))


async def test_a_file_that_changes_on_the_way_is_refused(hub: FakeHub) -> None:
    hub.faults.etag_after = 3
    error = await failure(hub, policy=HttpPolicy(connections=1))
    assert "another" in str(error)


async def test_without_a_size_it_is_learnt(hub: FakeHub) -> None:
    async with source(hub, size=None) as src:
        await src.open()
        assert src.size == len(DATA)


async def test_a_server_without_ranges_is_read_as_one_stream(hub: FakeHub) -> None:
    hub.faults.no_ranges = True
    await fetch(hub)
    assert hub.bytes_sent <= 2 * len(DATA)  # the probe's answer is not read to its end


async def test_a_broken_stream_starts_again_and_skips_what_was_delivered(hub: FakeHub) -> None:
    hub.faults.no_ranges = True
    hub.faults.cut_every, hub.faults.cut_times = 3 * PIECE, 2
    await fetch(hub)  # the sink fails on a second delivery


async def test_a_stream_stops_after_the_last_wanted_piece(hub: FakeHub) -> None:
    hub.faults.no_ranges, hub.faults.rate = True, 1_000_000
    sink = Sink()
    async with source(hub) as src:
        await src.pieces([0], sink)
    assert set(sink.got) == {0}


async def test_the_final_error_tells_what_was_tried(hub: FakeHub) -> None:
    hub.faults.busy, hub.faults.busy_status, hub.faults.retry_after = 10_000, 500, None
    error = await failure(hub)
    assert isinstance(error, TransferFailed)
    assert len(error.details["tried"]) == FAST.attempts
    assert all("HTTP 500" in line for line in error.details["tried"])
    assert len(hub.requests) <= 2 * FAST.attempts


async def test_a_dead_server_ends_in_one_clear_error() -> None:
    with FakeHub() as gone:
        url = gone.url
    async with RangeSource(f"{url}/o/r/resolve/main/{FILE}", trusted=True, size=10, policy=FAST) as src:
        with pytest.raises(TransferFailed, match="given up after 6"), anyio.fail_after(10):
            await src.pieces([0], Sink())


@pytest.mark.parametrize(("status", "kind"), [(401, Refused), (403, Refused), (404, NotFound), (418, TransferFailed)])
async def test_final_statuses_are_not_retried(hub: FakeHub, status: int, kind: type[HaliError]) -> None:
    hub.faults.no_redirect, hub.faults.refuse = True, status
    assert isinstance(await failure(hub), kind)
    assert len(hub.requests) == 1


async def test_a_gated_file_without_a_token_says_what_to_do(hub: FakeHub) -> None:
    hub.add("o/r", {FILE: DATA}, gated=True)
    error = await failure(hub, headers={})
    assert isinstance(error, Refused)
    assert "HF_TOKEN" in str(error.hint)


async def test_an_error_of_the_sink_ends_all_and_is_raised_as_it_is(hub: FakeHub) -> None:
    async def full(index: int, view: memoryview) -> None:
        raise NoSpace("disk full")

    for ranges in (True, False):
        hub.faults.no_ranges = not ranges
        async with source(hub) as src:
            with pytest.raises(NoSpace):
                await src.pieces(ALL, full)


async def test_a_system_error_of_the_sink_is_not_taken_for_network_trouble(hub: FakeHub) -> None:
    calls = 0

    async def broken(index: int, view: memoryview) -> None:
        nonlocal calls
        calls += 1
        raise OSError("disk")

    hub.faults.no_ranges = True
    async with source(hub) as src:
        with pytest.raises(OSError, match="disk"):
            await src.pieces(ALL, broken)
    assert calls == 1


async def test_the_rate_limit_holds_over_all_connections_and_sources(hub: FakeHub) -> None:
    limiter = RateLimiter(4_000_000)
    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(lambda: fetch(hub, limiter=limiter))
    assert anyio.current_time() - began >= 2 * len(DATA) / 4_000_000 * 0.9


async def test_progress_adds_up_to_the_file(hub: FakeHub) -> None:
    counted: list[int] = []
    hub.faults.cut_every, hub.faults.cut_times = 100_000, 5
    await fetch(hub, progress=counted.append)
    assert sum(counted) == len(DATA)


async def test_a_flipped_byte_is_passed_on_for_the_hasher_to_find(hub: FakeHub) -> None:
    hub.faults.flip_at = PIECE + 5
    sink = Sink()
    async with source(hub) as src:
        await src.pieces([1], sink)
    assert sink.got[1] != DATA[PIECE : 2 * PIECE]


async def test_an_untrusted_url_may_not_lead_inside(hub: FakeHub) -> None:
    assert isinstance(await failure(hub, trusted=False), Refused)
    assert hub.requests == []


@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://x/"])
async def test_redirects_to_other_schemes_are_refused(hub: FakeHub, target: str) -> None:
    hub.faults.redirect_to = target
    assert isinstance(await failure(hub), Refused)


async def test_a_circle_of_redirects_ends(hub: FakeHub) -> None:
    hub.faults.redirect_to = f"{hub.url}/o/r/resolve/main/{FILE}"
    assert "redirects" in str(await failure(hub))


async def test_an_empty_file_needs_no_piece(hub: FakeHub) -> None:
    hub.add("o/r", {FILE: b""})
    async with source(hub, size=None) as src:
        await src.pieces([], Sink())
        assert src.size == 0


async def test_cancelling_leaves_no_connection_open(hub: FakeHub) -> None:
    hub.faults.rate = 50_000
    with anyio.move_on_after(0.3):
        await fetch(hub)


@pytest.mark.parametrize("seed", range(6))
async def test_any_mixture_of_passing_trouble_ends_with_the_right_bytes(hub: FakeHub, seed: int) -> None:
    draw = random.Random(seed)
    faults = hub.faults
    faults.cut_every, faults.cut_times = draw.choice([None, 30_000, 90_000]), draw.randint(1, 12)
    faults.stall_after, faults.stall_times = draw.choice([None, 20_000]), draw.randint(1, 3)
    faults.busy, faults.busy_status = draw.randint(0, 4), draw.choice([429, 500, 502, 503])
    faults.retry_after = draw.choice([None, "0"])
    faults.token_uses = draw.choice([None, 4, 9])
    faults.end_early = draw.choice([None, 7_000])
    connections = draw.choice([1, 3, 8])
    policy = HttpPolicy(connections=connections, attempts=12, backoff_first=0.01, backoff_cap=0.05, stall=0.2)
    await fetch(hub, policy=policy)


async def test_a_pause_stops_in_the_middle_of_a_piece_with_no_connection_left_and_goes_on_there(hub: FakeHub) -> None:
    hub.faults.rate = 100_000  # per connection: all six pieces are under way for more than two seconds
    gate, sink, came = Gate(), Sink(), 0

    def progress(count: int) -> None:
        nonlocal came
        came += count

    async with source(hub, gate=gate, progress=progress) as src, anyio.create_task_group() as group:
        group.start_soon(src.pieces, ALL, sink)
        await until(lambda: came > 6 * 64 * 1024)
        gate.shut()
        await until(lambda: hub.connections == 0)
        asked, stopped_at, early = len(hub.ranges()), came, set(sink.got)
        assert early <= {5}  # the short one at the end
        # Nothing is asked for while it is shut, however long: no task of ours can run but those that wait at the gate.
        await anyio.wait_all_tasks_blocked()
        assert (len(hub.ranges()), came) == (asked, stopped_at)
        hub.faults.rate = None
        gate.open()
    assert sink.whole == DATA
    again = hub.ranges()[asked:]
    assert len(again) == 6 - len(early)
    assert all(int(span.removeprefix("bytes=").split("-")[0]) % PIECE for span in again)  # none from its beginning


async def test_a_source_opened_during_a_pause_asks_for_nothing_before_its_end(hub: FakeHub) -> None:
    gate, sink = Gate(is_open=False), Sink()
    async with source(hub, gate=gate) as src, anyio.create_task_group() as group:
        group.start_soon(src.pieces, ALL, sink)
        await anyio.wait_all_tasks_blocked()
        assert hub.requests == []
        gate.open()
    assert sink.whole == DATA


@pytest.mark.parametrize("no_ranges", [False, True])
async def test_a_pause_does_not_cut_off_the_keeping_of_a_piece(hub: FakeHub, no_ranges: bool) -> None:
    hub.faults.no_ranges = no_ranges
    gate, sink, kept = Gate(), Sink(), 0

    async def keep(index: int, view: memoryview) -> None:
        nonlocal kept
        gate.shut()
        await anyio.lowlevel.checkpoint()
        await sink(index, view)
        kept += 1

    async with source(hub, gate=gate) as src, anyio.create_task_group() as group:
        group.start_soon(src.pieces, ALL, keep)
        for _ in range(len(ALL)):  # each pause costs at most the pieces in flight, and no kept one
            await until(lambda: (not gate.is_open and hub.connections == 0) or kept == 6)
            gate.open()
        group.cancel_scope.cancel()
    assert sink.whole == DATA

"""Pieces from servers that lie, and links that lead where they must not: the right bytes or one clear error, and no packet inside."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from hali.model.errors import HaliError, Refused, TransferFailed
from hali.transfer.http import NoRanges, RangeSource
from hali.transfer.http_dial import Dialer
from hali.transfer.http_document import fetch_document
from hali.transfer.http_guard import next_hop
from hali.transfer.http_retry import HttpPolicy
from tests.fakes.attacks import LIARS, bad_links
from tests.fakes.canary import Canary
from tests.fakes.hf_server import FakeHub
from tests.fakes.internet import Internet

PIECE = 256 * 1024
DATA = random.Random(7).randbytes(5 * PIECE + 12_345)
FILE = "m-Q4_K_M.gguf"
FAST = HttpPolicy(backoff_first=0.01, backoff_cap=0.05, stall=5, useful_progress=16 * 1024, retry_after_cap=0.3)
PUBLIC, CDN = "93.184.215.14", "151.101.1.6"


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running:
        running.add("o/r", {FILE: DATA})
        yield running


@pytest.fixture
def canary() -> Iterator[Canary]:
    with Canary() as listening:
        yield listening


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch, hub: FakeHub) -> Internet:
    """`public.example` is the hub, `cdn.example` its CDN, and some names lie."""
    net = Internet(monkeypatch)
    net.name("public.example", [PUBLIC])
    net.name("cdn.example", [CDN])
    net.serve(PUBLIC, hub.url)
    net.serve(CDN, hub.cdn_url)
    for name, addresses in LIARS.items():
        net.name(name, addresses)
    return net


def path(hub: FakeHub) -> str:
    return f"/o/r/resolve/{hub.repos['o/r'].sha}/{FILE}"


def at(hub: FakeHub, base: str | None = None, **options: Any) -> RangeSource:
    settings: dict[str, Any] = {"trusted": True, "size": len(DATA), "policy": FAST, "piece": PIECE} | options
    return RangeSource(f"{base or hub.url}{path(hub)}", **settings)


async def whole(source: RangeSource) -> bytes:
    got: dict[int, bytes] = {}

    async def sink(index: int, view: memoryview) -> None:
        assert index not in got
        got[index] = bytes(view)

    async with source:
        with anyio.fail_after(20):
            await source.pieces(range(6), sink)
    return b"".join(got[index] for index in sorted(got))


async def failure(source: RangeSource) -> HaliError:
    with pytest.raises(HaliError) as caught:
        await whole(source)
    return caught.value


# ---- one piece at a time


async def test_pieces_fetched_one_by_one_share_few_connections_and_ask_for_no_byte_twice(hub: FakeHub) -> None:
    got: dict[int, bytes] = {}
    hub.faults.cut_every, hub.faults.cut_times = 100_000, 3
    async with (
        at(hub, policy=HttpPolicy(connections=2, backoff_first=0.01)) as source,
        anyio.create_task_group() as group,
    ):

        async def one(offset: int) -> None:
            got[offset] = bytes(await source.fetch_piece(offset, min(PIECE, len(DATA) - offset)))

        for offset in range(0, len(DATA), PIECE):
            group.start_soon(one, offset)
    assert b"".join(got[offset] for offset in sorted(got)) == DATA
    assert hub.bytes_sent < 1.3 * len(DATA)
    assert hub.most_at_once["cdn"] <= 2
    assert len([r for r in hub.requests if r.server == "hub"]) == 1


async def test_a_piece_is_put_where_the_caller_wants_it(hub: FakeHub) -> None:
    buffer = bytearray(PIECE)
    async with at(hub) as source:
        view = await source.fetch_piece(PIECE + 3, 1000, buffer)
    assert view == DATA[PIECE + 3 : PIECE + 1003] == buffer[:1000]


async def test_a_piece_of_a_server_without_ranges_is_an_error_of_its_own(hub: FakeHub) -> None:
    hub.faults.no_ranges = True
    async with at(hub) as source:
        with pytest.raises(NoRanges):
            await source.fetch_piece(0, PIECE)


async def test_bytes_beyond_the_end_are_a_mistake_of_the_caller(hub: FakeHub) -> None:
    async with at(hub) as source:
        with pytest.raises(ValueError, match="of a file of"):
            await source.fetch_piece(len(DATA) - 10, 11)


# ---- servers that lie


async def test_a_server_that_forgets_ranges_on_the_way_is_read_to_the_end_as_a_stream(hub: FakeHub) -> None:
    hub.faults.no_ranges_after = 3
    assert await whole(at(hub, policy=HttpPolicy(connections=2, backoff_first=0.01))) == DATA


@pytest.mark.parametrize("fault", ["api_lie", "length_lie"])
async def test_a_lie_that_changes_no_byte_does_no_harm(hub: FakeHub, fault: str) -> None:
    setattr(hub.faults, fault, 7)
    assert await whole(at(hub)) == DATA


@pytest.mark.parametrize("fault", ["promise_lie", "total_lie"])
@pytest.mark.parametrize("size", [len(DATA), None])
async def test_servers_that_disagree_on_the_size_are_refused_before_the_first_piece(
    hub: FakeHub, fault: str, size: int | None
) -> None:
    setattr(hub.faults, fault, 7)
    error = await failure(at(hub, size=size))
    assert "size" in str(error) and not error.retryable
    assert hub.ranges() == []


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_compressed_answer_is_not_taken_for_the_file(hub: FakeHub, ranges: bool) -> None:
    hub.faults.gzipped, hub.faults.no_ranges = True, not ranges
    error = await failure(at(hub))
    assert isinstance(error, TransferFailed) and not error.retryable


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("ranges", [True, False])
async def test_a_login_page_with_200_is_named_and_not_tried_again(hub: FakeHub, after: int, ranges: bool) -> None:
    hub.faults.page_after, hub.faults.no_ranges = after, not ranges
    hub.faults.cut_every = 400_000 if not ranges else None  # else the stream is over before the page would come
    error = await failure(at(hub, policy=HttpPolicy(connections=1, backoff_first=0.01)))
    assert "web page" in str(error) and "login" in str(error.hint)


async def test_a_server_that_never_answers_is_given_up_with_what_was_tried(hub: FakeHub) -> None:
    hub.faults.silent = True
    error = await failure(at(hub, policy=HttpPolicy(attempts=2, backoff_first=0.01, stall=0.1)))
    assert isinstance(error, TransferFailed) and "no byte in time" in str(error.hint)


async def test_another_sha256_than_the_pinned_one_ends_it_before_the_first_piece(hub: FakeHub) -> None:
    error = await failure(at(hub, sha256="ab" * 32))
    assert "SHA-256" in str(error) and hub.ranges() == []
    assert await whole(at(hub, sha256=hub.repos["o/r"].oids[FILE])) == DATA


async def test_tags_that_differ_between_the_hosts_of_a_cdn_are_no_changed_file(hub: FakeHub) -> None:
    hub.faults.plain_mirror, hub.faults.token_uses = True, 3
    assert (
        await whole(at(hub, sha256=hub.repos["o/r"].oids[FILE], policy=HttpPolicy(connections=1, backoff_first=0.01)))
        == DATA
    )
    assert len([r for r in hub.requests if r.server == "hub"]) > 1


async def test_behind_a_proxy_links_are_looked_at_before_it_is_asked(
    hub: FakeHub, internet: Internet, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
    for host in ("127.0.0.1", "inside.example", "metadata.example", "[::1]"):
        with pytest.raises(Refused):
            await fetch_document(f"http://{host}:8080/x", trusted=False, limit=10)
    assert not canary.touched
    with pytest.raises(TransferFailed):
        await fetch_document(
            "http://public.example/x", trusted=False, limit=10, policy=HttpPolicy(attempts=1, stall=0.2)
        )
    assert canary.touched  # it is the proxy that is asked


async def test_a_token_without_rights_is_refused_and_stays_with_the_hub(hub: FakeHub) -> None:
    hub.add("o/r", {FILE: DATA}, gated=True)
    error = await failure(at(hub, headers={"Authorization": f"Bearer {FakeHub.STRANGER}"}))
    assert isinstance(error, Refused) and "accept its terms" in str(error.hint)
    assert FakeHub.STRANGER not in str(error)
    assert {r.server for r in hub.requests} == {"hub"}


# ---- where links lead


async def test_no_link_leads_into_this_machine_or_network(hub: FakeHub, internet: Internet, canary: Canary) -> None:
    for link in bad_links(canary.port):
        with pytest.raises(Refused):
            await whole(RangeSource(link, trusted=False, size=1, policy=FAST))
        with pytest.raises(Refused):
            await fetch_document(link, trusted=False, limit=1000)
    assert not canary.touched and internet.dialled == []


async def test_no_redirect_of_a_public_hub_leads_into_this_machine_or_network(
    hub: FakeHub, internet: Internet, canary: Canary
) -> None:
    for link in bad_links(canary.port):
        hub.faults.redirect_to = link.encode().decode("latin-1")  # as bytes on the wire
        error = await failure(at(hub, "http://public.example"))
        stays = link in ("http:///x", "http://")  # names no host, so it is a place on the same one
        assert isinstance(error, Refused) or stays, link
        with pytest.raises(HaliError):
            await fetch_document(f"http://public.example{path(hub)}", trusted=True, limit=1000)
    assert not canary.touched
    assert set(internet.dialled) == {PUBLIC}


async def test_a_name_that_changes_its_address_after_the_check_gains_nothing(
    hub: FakeHub, internet: Internet, canary: Canary
) -> None:
    url = f"http://flip.example:{canary.port}/x"
    internet.name("flip.example", [PUBLIC], ["127.0.0.1"])
    assert await Dialer(url, trusted=False).allowed("flip.example", canary.port) == [PUBLIC]
    with pytest.raises(Refused):
        await fetch_document(url, trusted=False, limit=10)
    assert not canary.touched
    internet.name("flip.example", [CDN], ["127.0.0.1"])
    hub.faults.redirect_to = None
    before = len(internet.lookups)
    hub.cdn_name = "http://flip.example"
    assert await whole(at(hub, "http://public.example", policy=HttpPolicy(connections=1))) == DATA
    assert internet.lookups[before:] == ["public.example", "flip.example"]  # one for each connection, none besides


async def test_a_public_hub_with_a_cdn_elsewhere_serves_and_the_token_stays_at_home(
    hub: FakeHub, internet: Internet
) -> None:
    hub.add("o/r", {FILE: DATA}, gated=True)
    hub.cdn_name = "http://cdn.example"
    headers = {"Authorization": f"Bearer {FakeHub.TOKEN}", "Cookie": "session=1"}
    assert await whole(at(hub, "http://public.example", headers=headers)) == DATA
    assert {r.authorization for r in hub.requests if r.server == "cdn"} == {None}
    assert set(internet.dialled) == {PUBLIC, CDN}


async def test_a_dead_address_of_a_host_costs_a_moment_and_not_the_download(hub: FakeHub, internet: Internet) -> None:
    internet.name("public.example", ["2606:4700::1", PUBLIC])
    internet.hole("2606:4700::1")
    hub.cdn_name = "http://cdn.example"
    assert await whole(at(hub, "http://public.example")) == DATA
    assert internet.dialled[:2] == ["2606:4700::1", PUBLIC]


async def test_plain_http_after_https_is_refused(hub: FakeHub) -> None:
    assert next_hop("http://h/a", "https://h/b") == "https://h/b"
    for location in ("http://h/b", "http://cdn.example/b"):
        with pytest.raises(Refused, match="plain http"):
            next_hop("https://h/a", location)


async def test_a_document_is_read_up_to_its_limit_only(hub: FakeHub) -> None:
    url = f"{hub.url}{path(hub)}"
    assert await fetch_document(url, trusted=True, limit=len(DATA)) == DATA
    for fault in ({"too_long": 1}, {"rate": 10_000_000}):
        vars(hub.faults).update(fault)
        with pytest.raises(TransferFailed, match="more than"):
            await fetch_document(url, trusted=True, limit=len(DATA) if "too_long" in fault else 100_000)

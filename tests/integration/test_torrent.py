"""Seeding and fetching between real libtorrent sessions on the loopback interface."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import libtorrent as lt
import msgspec
import pytest

from hali.model.digests import FileDigests
from hali.model.errors import NotFound, NotRunning, PortInUse, Refused, VerificationFailed
from hali.model.ids import InfoHashes
from hali.model.units import GIB, KIB, MIB, PIECE, piece_count
from hali.transfer.magnet import Magnet
from hali.transfer.metainfo import build, of_info, parse
from hali.transfer.partial_seeding import PartialSeed
from hali.transfer.seeding import Seed
from hali.transfer.session import (
    Fetch,
    FetchFailed,
    Finished,
    MetadataReceived,
    PieceDone,
    Progress,
    SeedDamaged,
    SessionOptions,
    TorrentAdded,
    TorrentRemoved,
    TorrentSession,
    running,
)
from tests.fakes.torrents import (
    LOCAL,
    Pair,
    Sample,
    events_of,
    info_of,
    local,
    make,
    piece_in_file,
    piece_of,
    torrent_of,
    two_sessions,
)
from tests.waiting import until

pytestmark = pytest.mark.anyio

LENGTH = 40 * MIB  # three pieces, the last one short
PATIENCE = 30.0  # deadline of a whole test's waiting; far above what a loaded machine needs


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    """A file of three pieces and its torrent."""
    return make(tmp_path / "seed", LENGTH, PIECE)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A session that seeds and one that fetches."""
    async with two_sessions() as sessions:
        yield sessions


def bare_seeder(raw: bytes, folder: Path) -> tuple[Any, int]:
    """A plain libtorrent session that seeds, and its port."""
    session = lt.session(
        {"listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False, "enable_upnp": False}
    )
    params = lt.load_torrent_buffer(raw)
    params.save_path = str(folder)
    params.flags = lt.torrent_flags.seed_mode
    session.add_torrent(params)
    return session, session.listen_port()


async def test_a_torrent_built_by_hali_is_fetched_piece_by_piece_and_each_can_be_read_when_reported(
    tmp_path: Path, sample: Sample, pair: Pair
) -> None:
    seeder, leecher = pair
    assert await seeder.seed(sample.metainfo.raw, sample.path.parent) == sample.metainfo.infohashes

    done = []
    async with leecher.fetch(sample.metainfo, tmp_path, peers=local(seeder)) as fetch:
        async for event in fetch.events():
            if isinstance(event, PieceDone):
                assert piece_in_file(tmp_path / "model.gguf", sample.metainfo, event.index) == piece_of(
                    sample, event.index
                )
                done.append(event.index)
            else:
                assert isinstance(event, Progress | Finished)

    assert sorted(done) == [0, 1, 2]
    assert (tmp_path / "model.gguf").read_bytes() == sample.content
    assert await leecher.status() == []


@pytest.mark.parametrize("flags", [lt.create_torrent.v1_only, lt.create_torrent.v2_only, 0], ids=["v1", "v2", "hybrid"])
@pytest.mark.parametrize("by", ["metainfo", "metainfo without piece layers", "magnet"])
async def test_foreign_torrents_of_every_kind_are_fetched_and_each_piece_can_be_read_when_reported(
    tmp_path: Path, pair: Pair, flags: int, by: str
) -> None:
    seeder, leecher = pair
    sample = make(tmp_path / "seed", 20 * MIB + 5, 256 * KIB, flags)
    await seeder.seed(sample.metainfo.raw, sample.path.parent)

    done = set()
    sources = {
        "metainfo": sample.metainfo,
        "metainfo without piece layers": parse(of_info(bytes(lt.bencode(info_of(sample.metainfo.raw))))),
        "magnet": Magnet(sample.metainfo.infohashes),
    }
    async with leecher.fetch(sources[by], tmp_path, peers=local(seeder)) as fetch:
        async for event in fetch.events():
            assert not isinstance(event, FetchFailed)
            if isinstance(event, PieceDone):
                assert piece_in_file(tmp_path / "model.gguf", sample.metainfo, event.index) == piece_of(
                    sample, event.index
                )
                done.add(event.index)

    assert done == set(range(81))
    assert (tmp_path / "model.gguf").read_bytes() == sample.content


async def test_a_magnet_brings_the_metadata_and_at_the_end_the_whole_torrent(
    tmp_path: Path, sample: Sample, pair: Pair
) -> None:
    seeder, leecher = pair
    await seeder.seed(sample.metainfo.raw, sample.path.parent)

    async with leecher.fetch(Magnet(sample.metainfo.infohashes), tmp_path, peers=local(seeder)) as fetch:
        events = await events_of(fetch)

    first, last = events[0], events[-1]
    assert isinstance(first, MetadataReceived) and isinstance(last, Finished) and last.metainfo is not None
    assert parse(first.metainfo).infohashes == parse(last.metainfo).infohashes == sample.metainfo.infohashes
    assert parse(last.metainfo).v2_layer == sample.metainfo.v2_layer


async def test_nothing_is_written_before_the_owner_has_seen_the_metadata(tmp_path: Path, pair: Pair) -> None:
    leecher = pair[1]
    make(tmp_path / "models", 1 * MIB, 256 * KIB, name="a.gguf")
    make(tmp_path / "models", 1 * MIB, 256 * KIB, name="b.gguf")
    several = parse(torrent_of(tmp_path / "models", 256 * KIB))
    seeder, port = bare_seeder(several.raw, tmp_path)
    target = tmp_path / "target"
    target.mkdir()

    async with leecher.fetch(Magnet(several.infohashes), target, peers=[("127.0.0.1", port)]) as fetch:
        async for event in fetch.events():
            if isinstance(event, MetadataReceived):
                assert not parse(event.metainfo).is_single_file
                break

    del seeder
    assert list(target.iterdir()) == []


async def test_pieces_that_are_there_are_neither_fetched_nor_reported_nor_checked(
    tmp_path: Path, sample: Sample, pair: Pair
) -> None:
    seeder, leecher = pair
    await seeder.seed(sample.metainfo.raw, sample.path.parent)
    mark = b"what the journal says is there"  # not what the torrent says: nobody may look
    (tmp_path / "model.gguf").write_bytes(mark)

    async with leecher.fetch(sample.metainfo, tmp_path, peers=local(seeder), have={0, 2}) as fetch:
        events = await events_of(fetch)

    assert events == [PieceDone(1, {"127.0.0.1": 1024}), Finished()]
    assert piece_in_file(tmp_path / "model.gguf", sample.metainfo, 1) == piece_of(sample, 1)
    assert piece_in_file(tmp_path / "model.gguf", sample.metainfo, 0).startswith(mark)
    assert (await leecher.totals()).downloaded == PIECE


async def test_a_fetch_of_nothing_is_finished_at_once_and_needs_no_peer(
    tmp_path: Path, sample: Sample, pair: Pair
) -> None:
    async with pair[1].fetch(sample.metainfo, tmp_path, have=range(3)) as fetch:
        assert await events_of(fetch) == [Finished()]


async def test_pieces_come_in_order_while_nobody_lacks_any_and_rarest_first_otherwise(
    tmp_path: Path, sample: Sample
) -> None:
    slow = msgspec.structs.replace(LOCAL, upload_rate=5 * MIB)
    async with two_sessions(seeder=slow) as (seeder, leecher), running(LOCAL) as partial:
        await seeder.seed(sample.metainfo.raw, sample.path.parent)
        (tmp_path / "partial").mkdir()
        fetches = (
            partial.fetch(sample.metainfo, tmp_path / "partial", have={0}),
            leecher.fetch(sample.metainfo, tmp_path, peers=local(seeder)),
        )
        async with fetches[0], fetches[1] as fetch, anyio.create_task_group() as group:
            group.start_soon(events_of, fetch)
            await until(lambda: fetch.status().seeds == 1)
            assert in_order(fetch)
            fetch.add_peers(local(partial))
            await until(lambda: fetch.status().peers == 2)
            await until(lambda: not in_order(fetch))
            group.cancel_scope.cancel()


def in_order(fetch: Fetch) -> bool:
    assert fetch._handle is not None
    return bool(fetch._handle.flags() & lt.torrent_flags.sequential_download)


# ---- seeding


def merkle_root(layer: bytes) -> bytes:
    """BEP 52's root over a piece layer whose number of pieces is a power of two."""
    nodes = [layer[i : i + 32] for i in range(0, len(layer), 32)]
    while len(nodes) > 1:
        nodes = [hashlib.sha256(nodes[i] + nodes[i + 1]).digest() for i in range(0, len(nodes), 2)]
    return nodes[0]


def characters_read() -> int:
    """Bytes that this process, libtorrent's threads included, has got from read calls."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])


async def test_a_finished_file_is_seeded_without_being_read(tmp_path: Path, pair: Pair) -> None:
    pieces = piece_count(GIB)
    layer = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(pieces))
    digests = FileDigests(GIB, bytes(32), bytes(32), bytes(20 * pieces), merkle_root(layer), layer)
    with (tmp_path / "huge.gguf").open("wb") as file:
        file.truncate(GIB)

    before = characters_read()
    await pair[0].seed(build(digests, "huge.gguf"), tmp_path)

    (status,) = await pair[0].status()
    assert (status.state, status.progress, status.name) == ("seeding", 1.0, "huge.gguf")
    assert characters_read() - before < MIB


async def test_seeding_twice_is_one_torrent_and_removing_twice_is_fine(sample: Sample, pair: Pair) -> None:
    seeder, _ = pair
    with seeder.events.subscribe() as events:
        for _ in range(2):
            await seeder.seed(sample.metainfo.raw, sample.path.parent)
        assert len(await seeder.status()) == 1
        await seeder.remove(InfoHashes(v1=sample.metainfo.infohashes.v1))
        await seeder.remove(sample.metainfo.infohashes)

        assert await seeder.status() == []
        assert [type(await anext(events)) for _ in range(2)] == [TorrentAdded, TorrentRemoved]
    assert sample.path.read_bytes() == sample.content


async def test_a_file_that_moved_is_seeded_from_its_new_place(tmp_path: Path, sample: Sample, pair: Pair) -> None:
    seeder, leecher = pair
    await seeder.seed(sample.metainfo.raw, sample.path.parent)
    (tmp_path / "new").mkdir()
    sample.path.rename(tmp_path / "new" / sample.path.name)

    await seeder.seed(sample.metainfo.raw, tmp_path / "new")

    async with leecher.fetch(sample.metainfo, tmp_path, peers=local(seeder)) as fetch:
        assert (await events_of(fetch))[-1] == Finished()


async def test_a_missing_or_short_file_is_not_seeded(tmp_path: Path, sample: Sample, pair: Pair) -> None:
    with pytest.raises(NotFound):
        await pair[0].seed(sample.metainfo.raw, tmp_path)
    sample.path.write_bytes(sample.content[:-1])
    with pytest.raises(VerificationFailed):
        await pair[0].seed(sample.metainfo.raw, sample.path.parent)
    assert await pair[0].status() == []


async def test_what_could_not_be_seeded_does_not_pass_for_seeded(sample: Sample) -> None:
    stopped = TorrentSession(LOCAL)

    for _ in range(2):
        with pytest.raises(NotRunning):
            await stopped.seed(sample.metainfo.raw, sample.path.parent)


@pytest.mark.parametrize("part", [False, True])
async def test_a_cancelled_seed_can_be_added_again(
    sample: Sample, pair: Pair, part: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeder, _ = pair
    raw, folder = sample.metainfo.raw, sample.path.parent
    with anyio.CancelScope() as scope, monkeypatch.context() as patched:
        # Before it is ready: no alert may make it so, whichever libtorrent tells first.
        patched.setattr(PartialSeed if part else Seed, "on_alert", lambda self, alert: scope.cancel())
        await (seeder.seed_part(raw, folder, [0]) if part else seeder.seed(raw, folder))

    assert scope.cancelled_caught
    assert await seeder.status() == []
    await (seeder.seed_part(raw, folder, [0]) if part else seeder.seed(raw, folder))
    assert [s.infohashes for s in await seeder.status()] == [sample.metainfo.infohashes]


async def test_a_seed_that_is_removed_while_libtorrent_takes_it_does_not_stay_there(
    sample: Sample, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeder, _ = pair
    raw, folder, add = sample.metainfo.raw, sample.path.parent, seeder.add
    began, go_on = anyio.Event(), anyio.Event()

    async def held(*args: Any) -> Any:
        began.set()
        await go_on.wait()
        return await add(*args)

    with monkeypatch.context() as patched:
        patched.setattr(seeder, "add", held)
        async with anyio.create_task_group() as group:
            group.start_soon(seeder.seed, raw, folder)
            await began.wait()
            group.start_soon(seeder.remove, sample.metainfo.infohashes)
            await anyio.wait_all_tasks_blocked()
            go_on.set()

    assert await seeder.status() == []
    await seeder.seed(raw, folder)
    assert [s.infohashes for s in await seeder.status()] == [sample.metainfo.infohashes]


async def test_a_seed_whose_file_changed_serves_nothing_wrong_and_says_so(
    tmp_path: Path, sample: Sample, pair: Pair
) -> None:
    seeder, leecher = pair
    await seeder.seed(sample.metainfo.raw, sample.path.parent)
    damaged = bytes([sample.content[0] ^ 1]) + sample.content[1:]
    sample.path.write_bytes(damaged)

    with seeder.events.subscribe() as events:
        async with (
            leecher.fetch(sample.metainfo, tmp_path, peers=local(seeder)) as fetch,
            anyio.create_task_group() as group,
        ):
            group.start_soon(events_of, fetch)
            with anyio.fail_after(PATIENCE):
                event = await anext(events)
            group.cancel_scope.cancel()

    assert isinstance(event, SeedDamaged) and event.infohashes == sample.metainfo.infohashes
    assert sample.path.read_bytes() == damaged  # nobody "repairs" a model behind the user's back
    assert (await leecher.totals()).downloaded < LENGTH


async def test_what_is_seeded_is_not_fetched(tmp_path: Path, sample: Sample, pair: Pair) -> None:
    await pair[0].seed(sample.metainfo.raw, sample.path.parent)
    with pytest.raises(Refused):
        pair[0].fetch(Magnet(sample.metainfo.infohashes), tmp_path)


# ---- failing


async def test_without_peers_a_fetch_gives_up_with_a_reason(tmp_path: Path, sample: Sample, pair: Pair) -> None:
    for source, what in ((sample.metainfo, "no data"), (Magnet(sample.metainfo.infohashes), "no metadata")):
        async with pair[1].fetch(source, tmp_path, patience_s=0.5) as fetch:
            (event,) = await events_of(fetch)
        assert isinstance(event, FetchFailed) and event.code == "stalled" and what in event.reason


async def test_a_folder_that_cannot_be_written_is_a_reason(tmp_path: Path, sample: Sample, pair: Pair) -> None:
    seeder, leecher = pair
    await seeder.seed(sample.metainfo.raw, sample.path.parent)
    (tmp_path / "file").write_bytes(b"")

    async with leecher.fetch(sample.metainfo, tmp_path / "file" / "folder", peers=local(seeder)) as fetch:
        event = (await events_of(fetch))[-1]

    assert isinstance(event, FetchFailed) and event.code == "io"


async def test_peers_that_are_no_addresses_are_ignored(tmp_path: Path, sample: Sample, pair: Pair) -> None:
    seeder, leecher = pair
    await seeder.seed(sample.metainfo.raw, sample.path.parent)

    async with leecher.fetch(sample.metainfo, tmp_path, peers=[("no host", 1), ("127.0.0.1", 99999)]) as fetch:
        fetch.add_peers(local(seeder))
        assert (await events_of(fetch))[-1] == Finished()


async def test_a_fetch_that_is_left_keeps_its_file_and_can_go_on(tmp_path: Path, sample: Sample, pair: Pair) -> None:
    seeder, leecher = pair
    await seeder.seed(sample.metainfo.raw, sample.path.parent)
    leecher.set_rates(upload=0, download=30 * MIB)

    have = set()
    async with leecher.fetch(sample.metainfo, tmp_path, peers=local(seeder)) as fetch:
        async for event in fetch.events():
            if isinstance(event, PieceDone):
                have.add(event.index)
                break
    leecher.set_rates(upload=0, download=0)
    assert have and (tmp_path / "model.gguf").exists()

    async with leecher.fetch(sample.metainfo, tmp_path, peers=local(seeder), have=have) as fetch:
        events = await events_of(fetch)

    assert {e.index for e in events if isinstance(e, PieceDone)} == {0, 1, 2} - have
    assert (tmp_path / "model.gguf").read_bytes() == sample.content


async def test_a_paused_fetch_waits_without_losing_patience(tmp_path: Path, sample: Sample, pair: Pair) -> None:
    seeder, leecher = pair
    await seeder.seed(sample.metainfo.raw, sample.path.parent)

    patience = 2.0
    async with leecher.fetch(sample.metainfo, tmp_path, patience_s=patience) as fetch:
        fetch.pause()
        with anyio.move_on_after(1.25 * patience) as waited:
            await events_of(fetch)
        assert waited.cancelled_caught
        fetch.add_peers(local(seeder))
        fetch.be_patient(True)  # only the pause is on trial: what follows may take a slow machine long
        fetch.resume()
        with anyio.fail_after(PATIENCE):
            assert (await events_of(fetch))[-1] == Finished()


async def test_the_end_of_the_session_ends_its_fetches(tmp_path: Path, sample: Sample) -> None:
    async with running(LOCAL) as session:
        fetch = session.fetch(sample.metainfo, tmp_path)
        await fetch.__aenter__()
    (event,) = await events_of(fetch)
    await fetch.__aexit__(None, None, None)

    assert isinstance(event, FetchFailed) and event.code == "closed"
    with pytest.raises(NotRunning):
        await session.status()


# ---- the session


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_a_taken_port_is_an_error_that_names_it_or_another_is_taken(kind: socket.SocketKind) -> None:
    with socket.socket(type=kind) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=str(port)):
            await TorrentSession(msgspec.structs.replace(LOCAL, port=port)).run(task_status=anyio.TASK_STATUS_IGNORED)
        async with running(msgspec.structs.replace(LOCAL, preferred_port=port)) as session:
            assert session.port != port
            async with await anyio.connect_tcp("127.0.0.1", session.port):
                pass


@pytest.mark.alone  # the port is free for a moment, and the kernel might give it to somebody else
async def test_the_chosen_port_listens_and_can_be_kept() -> None:
    async with running(LOCAL) as session:
        port = session.port
        async with await anyio.connect_tcp("127.0.0.1", port):
            pass
    async with running(SessionOptions(port=port, addresses=("127.0.0.1",), lsd=False)) as again:
        assert again.port == port


async def test_the_port_of_last_time_is_preferred_but_not_insisted_on() -> None:
    async with running(LOCAL) as other, running(msgspec.structs.replace(LOCAL, preferred_port=other.port)) as session:
        assert 0 < session.port != other.port
    async with running(msgspec.structs.replace(LOCAL, preferred_port=session.port)) as again:
        assert again.port == session.port


async def test_one_port_serves_every_address_of_the_machine() -> None:
    """libtorrent would take a different free port for each, and announce only one of them."""
    async with running(SessionOptions(lsd=False)) as session:
        async with await anyio.connect_tcp("127.0.0.1", session.port):
            pass
        assert all(outcome.port == session.port for outcome in session._listening)


@pytest.mark.parametrize("side", ["upload", "download"])
async def test_a_rate_cap_holds_on_the_local_network(tmp_path: Path, sample: Sample, side: str) -> None:
    cap = 20 * MIB
    capped = SessionOptions(addresses=("127.0.0.1",), lsd=False, upload_rate=cap if side == "upload" else 0)
    async with two_sessions(seeder=capped) as (seeder, leecher):
        if side == "download":
            leecher.set_rates(upload=0, download=cap)
        await seeder.seed(sample.metainfo.raw, sample.path.parent)
        started = anyio.current_time()
        async with leecher.fetch(sample.metainfo, tmp_path, peers=local(seeder)) as fetch:
            assert (await events_of(fetch))[-1] == Finished()

    # 40 MiB at 20 MiB/s; a bucket may start full, so one second of the two is certain.
    assert anyio.current_time() - started > 1.0


async def test_totals_count_both_directions(tmp_path: Path, sample: Sample, pair: Pair) -> None:
    seeder, leecher = pair
    await seeder.seed(sample.metainfo.raw, sample.path.parent)
    async with leecher.fetch(sample.metainfo, tmp_path, peers=local(seeder)) as fetch:
        await events_of(fetch)

    assert (await leecher.totals()).downloaded == LENGTH
    assert (await seeder.totals()).uploaded == LENGTH


async def test_lost_alerts_do_not_lose_pieces(
    tmp_path: Path, sample: Sample, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When libtorrent's queue overflows, what was missed is asked for."""
    from hali.transfer import alerts

    seeder, leecher = pair
    await seeder.seed(sample.metainfo.raw, sample.path.parent)
    lose: Any = lambda alert: alerts.Dropped() if alert.piece_index == 1 else alerts.PieceFinished(alert.piece_index)  # noqa: E731
    monkeypatch.setitem(alerts._TRANSLATE, lt.piece_finished_alert, lose)

    async with leecher.fetch(sample.metainfo, tmp_path, peers=local(seeder)) as fetch:
        with anyio.fail_after(PATIENCE):
            events = await events_of(fetch)

    assert sorted(e.index for e in events if isinstance(e, PieceDone)) == [0, 1, 2]


async def test_of_two_addresses_of_one_node_one_is_left_alone(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = iter([b"-HA0100-" + b"a" * 12, b"-HA0100-" + b"b" * 12])  # the greater one dials: its newest connection wins
    monkeypatch.setattr("hali.transfer.session.new_peer_id", lambda: next(ids))
    everywhere = msgspec.structs.replace(LOCAL, addresses=("127.0.0.1", "127.0.0.2"))
    slow = msgspec.structs.replace(everywhere, upload_rate=6 * MIB)  # three seconds a piece
    lost: list[str] = []
    async with two_sessions(slow, everywhere) as (seeder, leecher):
        await seeder.seed(sample.metainfo.raw, sample.path.parent)
        peers = [("127.0.0.1", seeder.port), ("127.0.0.2", seeder.port)]
        async with leecher.fetch(sample.metainfo, tmp_path, peers=peers, trusted_peers=everywhere.addresses) as fetch:
            left = fetch._guard.left
            monkeypatch.setattr(fetch._guard, "left", lambda *gone, **how: (lost.append(gone[0]), left(*gone, **how)))
            at_each_piece = [len(lost) async for event in fetch.events() if isinstance(event, PieceDone)]

    assert at_each_piece[0] == at_each_piece[1]

"""Every service of a node killed under load: it comes back, the others never notice, nothing is lost or silently cut."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import httpx
import libtorrent as lt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hali.config.identity import Identity
from hali.hashing import hash_file
from hali.model.units import PIECE
from hali.runtime.activity import Activity
from hali.share.incoming import METAINFO, IncomingFile
from hali.share.job import Job, JobSpec
from hali.store.metadata import now_rfc3339
from hali.store.models import ModelStore
from hali.store.partials import PartialMeta, PartialStore
from hali.transfer import magnet, metainfo
from hali.transfer.lan import LanAnnouncer, LanOptions
from tests.fakes import plain_client
from tests.fakes.hf_server import FakeHub
from tests.living import LivingNode, Talker, living
from tests.nodes import LAN_PORT, random_file, sha256_of
from tests.waiting import until

SAME_OBJECT = ("Regulator", "Throttle", "Dashboard")  # others hold their gate, their bucket, their feed
ENDS_STREAMS = ("InferenceRouter", "ApiServer")  # with an error event; all others leave replies alone
ASKED = 'hali_requests_total{dialect="hali",method="GET",route="/metrics",status="200"}'
RESTARTED = "hali is stopping, or restarts what made this reply"
SHARED, HUB, SWARM = "Shared-1B-Q8_0.gguf", "Hub-1B-Q8_0.gguf", "Swarm-1B-Q8_0.gguf"
PART = "Part-1B-Q8_0.gguf"  # of which the node has the first piece
REPO = "owner/Hub-1B-GGUF"
RATE = 200_000  # bytes a second of each transfer: for two minutes, so that no kill comes too late
WAIT_S = 60.0


class Files:
    def __init__(self, folder: Path) -> None:
        self.shared = random_file(folder / SHARED, 16, seed=1)
        self.hub = random_file(folder / HUB, 24, seed=2)
        self.swarm = random_file(folder / SWARM, 24, seed=3)
        self.torrent = metainfo.parse(metainfo.build(hash_file(self.swarm), SWARM))
        self.part = random_file(folder / PART, 20, seed=4)
        self.torrent_of_part = metainfo.parse(metainfo.build(hash_file(self.part), PART))


async def leave_a_part(home: Path, files: Files) -> None:
    """As an earlier life of the node left it: a file with holes, its journal, its torrent."""
    store, torrent = PartialStore(ModelStore(home / "models")), files.torrent_of_part
    folder, data = store.incoming("k"), files.part.read_bytes()
    with await IncomingFile.open(folder, PART, len(data), tag=torrent.infohashes.v2) as incoming:
        await incoming.write_piece(0, data[:PIECE])
    (folder / METAINFO).write_bytes(torrent.raw)
    meta = PartialMeta(
        model_id="part:1b:base:q8_0",
        file=PART,
        size=len(data),
        layers=[(0, 1)],
        infohash_v1=torrent.infohashes.v1 or "",
        infohash_v2=torrent.infohashes.v2 or "",
        downloaded_at=now_rfc3339(),
        mtime_ns=(folder / PART).stat().st_mtime_ns,
    )
    store.place("k", meta)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("files"))


class Leech:
    """A stranger that fetches what the node shares, slowly until it is let loose."""

    def __init__(self, link: str, folder: Path, port: int) -> None:
        folder.mkdir()
        limits = {"download_rate_limit": RATE, "ignore_limits_on_local_network": False}
        self._session = lt.session({**plain_client.LOCAL, **limits, "listen_interfaces": "127.0.0.1:0"})
        params = lt.parse_magnet_uri(link)
        params.save_path = str(folder)
        self._handle, self._port = self._session.add_torrent(params), port

    def dial(self) -> None:
        """As a client does that has heard of the node's port and dials it now and then."""
        if not self._handle.status().num_peers:
            self._handle.connect_peer(("127.0.0.1", self._port))

    def got(self) -> int:
        self.dial()
        return int(self._handle.status().total_payload_download)

    def has_all(self) -> bool:
        self.dial()
        return bool(self._handle.status().is_seeding)

    def let_loose(self) -> None:
        self._session.apply_settings({"download_rate_limit": 0})


@contextmanager
def leech(link: str, folder: Path, port: int) -> Iterator[Leech]:
    made = Leech(link, folder, port)
    try:
        yield made
    finally:
        del made._handle, made._session  # libtorrent ends with its last reference


class Stream:
    """A chat reply that a client is reading."""

    def __init__(self) -> None:
        self.words = 0
        self.errors: list[str] = []
        self.ended = False  # by the dialect's own last word
        self.over = anyio.Event()

    async def read(self, url: str) -> None:
        body = {"model": SHARED, "stream": True, "messages": [{"role": "user", "content": "talk"}]}
        async with (
            httpx.AsyncClient(base_url=url, timeout=WAIT_S, trust_env=False) as client,
            client.stream("POST", "/v1/chat/completions", json=body) as reply,
        ):
            assert reply.status_code == 200
            async for line in reply.aiter_lines():
                self.take(line)
        self.over.set()

    def take(self, line: str) -> None:
        data = line.removeprefix("data: ")
        if data == "[DONE]":
            self.ended = True
        elif data.startswith("{"):
            event = json.loads(data)
            if "error" in event:
                self.errors.append(event["error"]["message"])
            self.words += 1


class Load:
    """All that goes on while a service dies."""

    def __init__(self, alive: LivingNode, files: Files, hub: FakeHub, theirs: plain_client.PlainSeeder) -> None:
        self.alive, self.files, self.hub, self.theirs = alive, files, hub, theirs
        self.stream, self.jobs = Stream(), list[Job]()
        self.neighbour = LanAnnouncer(
            Identity(Ed25519PrivateKey.generate()), LanOptions(port=self.lan_port()), lambda: 9
        )
        self.group: anyio.abc.TaskGroup
        self.asked = 0  # for metrics
        self.killed: list[str] = []
        self.leech: Leech
        self.link = ""
        self.url = str(alive.node.api.value.address) if alive.node.api.value else ""
        self.port = alive.node._last_torrent_port

    @staticmethod
    def lan_port() -> int:
        return LAN_PORT + 1

    async def begin(self, group: anyio.abc.TaskGroup) -> None:
        self.group, board = group, self.alive.node.board
        await group.start(lambda *, task_status: self.neighbour.run(task_status=task_status))
        added = await board.submit(JobSpec("add", str(self.files.shared)))
        await added.ended()
        self.link = added.outcome()["magnet"]
        peer = self.theirs.peer.rpartition(":")
        link = magnet.build(self.files.torrent.infohashes, SWARM, peers=[(peer[0], int(peer[2]))])
        self.jobs = [await board.submit(JobSpec("pull", what)) for what in (REPO, link)]
        group.start_soon(self.stream.read, self.url)
        await until(lambda: all(job.progress.rate for job in self.jobs), "both pulls are under way")
        await until(lambda: self.stream.words > 3, "the reply is under way")
        await until(lambda: self.neighbour.entries(), "the neighbour has heard of us")

    async def metrics(self) -> dict[str, float]:
        """What /metrics tells now, by name and labels."""
        async with httpx.AsyncClient(base_url=self.url, timeout=WAIT_S, trust_env=False) as client:
            lines = (await client.get("/metrics")).text.splitlines()
        self.asked += 1
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def let_loose(self) -> None:
        """No limits any more: what is not finished now was broken."""
        self.hub.faults.rate = None
        self.theirs.limit(0)
        self.leech.let_loose()


@asynccontextmanager
async def under_load(tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Load]:
    with FakeHub() as hub, plain_client.seeder(files.torrent.raw, files.swarm.parent, rate=RATE) as theirs:
        hub.add(REPO, {HUB: files.hub})
        hub.faults.rate = RATE // 8  # a connection
        settings = {
            "lan.port": str(Load.lan_port()),
            "hf.endpoint": hub.url,
            "registry.url": f"http://127.0.0.1:{dead_port()}",
        }
        await leave_a_part(tmp_path / "home", files)
        async with living(tmp_path / "home", monkeypatch, **settings) as alive, anyio.create_task_group() as group:
            load = Load(alive, files, hub, theirs)
            await load.begin(group)
            with leech(load.link, tmp_path / "leech", load.port) as load.leech:
                await until(load.leech.got, "a stranger fetches from us")
                yield load
            group.cancel_scope.cancel()


def dead_port() -> int:
    """Nobody listens there: a registry that is down."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def told(activity: Activity) -> list[tuple[str, object]]:
    return [(e.kind, e.fields["service"]) for e in activity.events._history if e.kind.startswith("service.")]


@pytest.mark.alone  # it makes the load itself
@pytest.mark.blocking_ok
async def test_each_service_that_dies_under_load_is_back_and_nothing_else_is_disturbed(
    tmp_path: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with under_load(tmp_path, files, monkeypatch) as load:
        for victim in [status.name for status in load.alive.node.supervisor.statuses()]:
            before, load.stream.words = told(load.alive.node.activity), 0
            load.killed.append(victim)
            load.alive.kill(victim)
            await load.alive.is_back(victim)
            failed, restored = told(load.alive.node.activity)[len(before) :]
            assert (failed, restored) == (("service.failed", victim), ("service.restored", victim))
            await it_is_itself_again(load, victim)
            await replies_go_on_or_say_that_they_do_not(load, victim)
            assert load.alive.states == [(victim, state) for state in ("backoff", "starting", "ready")]
        assert [job.spec.what for job in load.jobs if job.is_over] == [], "too early to be under load"
        Talker.enough.set()
        await until(load.stream.over.is_set, "the reply ends")
        assert load.stream.ended and not load.stream.errors
        load.let_loose()
        await everything_arrives(load, tmp_path)


async def it_is_itself_again(load: Load, victim: str) -> None:
    """A new object, where others do not hold the old one; at the old addresses, with all that was counted and kept."""
    first, second = load.alive.lives[victim]
    assert (first is second) == (victim in SAME_OBJECT)
    if victim == "ApiServer":  # clients may refer to replies of before
        assert first._deps.responses is second._deps.responses  # type: ignore[attr-defined]
    node = load.alive.node
    assert (node.api.value and node.api.value.address, node._last_torrent_port) == (load.url, load.port)
    asked, now = load.asked, await load.metrics()
    assert now[f'hali_service_restarts_total{{service="{victim}"}}'] == 1
    assert sum(value for name, value in now.items() if name.startswith("hali_service_restarts_total")) == len(
        load.killed
    )
    assert {value for name, value in now.items() if name.startswith("hali_service_up")} == {1.0}
    assert now.get(ASKED, 0) == asked
    for channel in ("acquisition", "activity", "dashboard", "torrents"):
        assert now[f'hali_channel_dropped_total{{channel="{channel}"}}'] == 0
        assert f'hali_channel_depth{{channel="{channel}"}}' in now


async def replies_go_on_or_say_that_they_do_not(load: Load, victim: str) -> None:
    if victim in ENDS_STREAMS:
        await until(load.stream.over.is_set, "the cut reply ends")
        assert load.stream.errors == [RESTARTED] and not load.stream.ended
        load.stream = Stream()
        load.group.start_soon(load.stream.read, load.url)
    before = load.stream.words
    await until(lambda: load.stream.words > before + 3, f"words come after {victim} was killed")


async def everything_arrives(load: Load, tmp_path: Path) -> None:
    files = load.files
    with anyio.fail_after(WAIT_S):
        for job, wanted in zip(load.jobs, (files.hub, files.swarm), strict=True):
            await job.ended()
            (path,) = [Path(p) for p in [job.outcome()["path"]]]
            assert await anyio.to_thread.run_sync(sha256_of, path) == await anyio.to_thread.run_sync(sha256_of, wanted)
    await until(load.leech.has_all, "the stranger has all of it")
    there, shared = tmp_path / "leech" / SHARED, files.shared.read_bytes()
    await until(
        lambda: there.read_bytes() == shared, "its libtorrent, which checks blocks before it writes them, wrote it"
    )
    names = {"shared:1b:base:q8_0", "hub:1b:base:q8_0", "swarm:1b:base:q8_0"}
    await until(lambda: {e.model_id for e in load.neighbour.entries()} >= names, "the neighbour knows all models")
    session = load.alive.node.torrents.value
    assert session is not None
    assert {status.name for status in await session.status()} == {SHARED, HUB, SWARM, PART}

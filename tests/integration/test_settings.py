"""Every configuration key has an effect: one test a key, on the real parts, and a test that none is missing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import anyio
import pytest

from hali.api.binding import Bind
from hali.api.server import ApiServer
from hali.cli.handoff import account
from hali.config import identity
from hali.config.load import load
from hali.config.paths import Paths
from hali.config.schema import KEYS, Settings
from hali.daemon.main import _api_keys
from hali.daemon.node import Node
from hali.daemon.options import caps_of, engine_options, lan_options, router_limits, torrent_options
from hali.engine.options import EngineOptions
from hali.hashing import hash_file
from hali.model.errors import ConfigError, NoSpace, Overloaded, Refused, UsageError
from hali.runtime import log as logs
from hali.runtime.memory import total_ram
from hali.service.doctor.context import Context, Daemon
from hali.service.doctor.servers import upstream
from hali.share.acquire import AcquisitionManager
from hali.share.incoming_model import Arrived
from hali.share.job import Job, JobSpec
from hali.share.library import Entry, Origin
from hali.share.targets import MagnetTarget
from hali.store.database import Database
from hali.transfer.session import TorrentSession
from tests.fakes.otlp_collector import collector
from tests.nodes import random_file

Effect = Callable[[Path], Awaitable[None]]
EFFECTS: dict[str, Effect] = {}


def effect(key: str) -> Callable[[Effect], Effect]:
    def register(check: Effect) -> Effect:
        EFFECTS[key] = check
        return check

    return register


def settings(**flags: str) -> Settings:
    return load(Path("/nonexistent"), {}, {name.replace("__", "."): text for name, text in flags.items()}).settings


NODES: list[Node] = []


@pytest.fixture(autouse=True)
def closed_nodes() -> Iterator[None]:
    """Nodes that a test made are closed at its end."""
    yield
    while NODES:
        NODES.pop().close()


def make_node(home: Path, **flags: str) -> Node:
    paths = Paths(home)
    paths.create()
    loaded = load(paths.config, {}, {name.replace("__", "."): text for name, text in flags.items()})
    NODES.append(
        Node(paths, loaded, identity.load_or_create(paths.identity), Database(paths.database), _api_keys(paths, loaded))
    )
    return NODES[-1]


def test_every_key_has_a_test_of_its_effect() -> None:
    assert set(EFFECTS) == set(KEYS)


@pytest.mark.blocking_ok
@pytest.mark.parametrize("key", KEYS)
async def test_the_key_has_its_effect(key: str, tmp_path: Path) -> None:
    await EFFECTS[key](tmp_path)


async def session_setting(name: str, **flags: str) -> object:
    """A setting of the real libtorrent session that these keys make."""
    chosen = settings(**flags)
    session = TorrentSession(torrent_options(chosen, 0, caps_of(chosen)))
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: session.run(task_status=task_status))
        value = session._session.get_settings()[name]
        group.cancel_scope.cancel()
    return value


@effect("upstream.urls")
async def upstream_urls(home: Path) -> None:
    for url, status in (("", "skip"), ("http://127.0.0.1:9", "fail")):
        context = Context(Paths(home), {"HALI_UPSTREAM_URLS": url}, Daemon())
        assert upstream(context).status == status


@effect("storage.quota_gb")
async def quota_gb(home: Path) -> None:
    make_node(home / "free").space.admit("large", 10**15)
    with pytest.raises(NoSpace, match=r"needs 2\.0 GB, 1\.5 GB of the quota of 1\.5 GB are left"):
        make_node(home / "bound", storage__quota_gb="1.5").space.admit("large", 2 * 10**9)


@effect("torrent.lsd")
async def lsd(home: Path) -> None:
    assert await session_setting("enable_lsd")
    assert not await session_setting("enable_lsd", torrent__lsd="off")


@effect("torrent.dht")
async def dht(home: Path) -> None:
    assert not await session_setting("enable_dht")
    assert await session_setting("enable_dht", torrent__dht="on")


@effect("torrent.dht_bootstrap")
async def dht_bootstrap(home: Path) -> None:
    assert await session_setting("dht_bootstrap_nodes", torrent__dht_bootstrap="10.0.0.1:1,b:2") == "10.0.0.1:1,b:2"


@effect("torrent.upnp")
async def upnp(home: Path) -> None:
    assert not await session_setting("enable_upnp")
    assert await session_setting("enable_upnp", torrent__upnp="on")
    assert await session_setting("enable_natpmp", torrent__upnp="on")


@effect("torrent.v1_twins")
async def v1_twins(home: Path) -> None:
    for folder, flags, lacks in (("a", {}, True), ("b", {"torrent__v1_twins": "off"}, False)):
        assert make_node(home / folder, **flags).library.twins.lacks("ab" * 32) is lacks


@effect("torrent.private_web_seeds")
async def private_web_seeds(home: Path) -> None:
    plain = "http://127.0.0.1:9/model.gguf"
    with pytest.raises(Refused):
        await make_node(home / "a")._open_web_seed(plain, 1, lambda _: None)
    async with await make_node(home / "b", torrent__private_web_seeds="on")._open_web_seed(plain, 1, lambda _: None):
        pass


@effect("torrent.loopback_peers")
async def loopback_peers(home: Path) -> None:
    link = MagnetTarget(f"magnet:?xt=urn:btih:{'ab' * 20}&x.pe=127.0.0.1:6881&x.pe=10.0.0.1:6881")
    for folder, flags, hosts in (
        ("a", {}, ["10.0.0.1"]),
        ("b", {"torrent__loopback_peers": "on"}, ["127.0.0.1", "10.0.0.1"]),
    ):
        manager = make_node(home / folder, **flags)._acquisition()
        assert isinstance(manager, AcquisitionManager)
        assert [host for host, _ in (await manager._resolver.plan(link)).peers] == hosts


@effect("max_upload_mbps")
async def max_upload(home: Path) -> None:
    assert await session_setting("upload_rate_limit", max_upload_mbps="8") == 1_000_000


@effect("max_download_mbps")
async def max_download(home: Path) -> None:
    assert await session_setting("download_rate_limit", max_download_mbps="8") == 1_000_000
    assert make_node(home, max_download_mbps="8").throttle.download.rate == 1_000_000


@effect("schedule")
async def schedule(home: Path) -> None:
    capped = make_node(home, schedule="daily 00:00-24:00 down=8")
    assert capped.throttle.download.rate == 1_000_000
    assert capped.regulator.gate.is_open
    assert not make_node(home, schedule="daily 00:00-24:00 pause").regulator.gate.is_open


@effect("pull_concurrency")
async def pull_concurrency(home: Path) -> None:
    assert make_node(home).room.places == 4
    assert make_node(home, pull_concurrency="2").room.places == 2


@effect("torrent_port")
async def torrent_port(home: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        port = probe.getsockname()[1]
    chosen = settings(torrent_port=str(port))
    session = TorrentSession(torrent_options(chosen, 0, caps_of(chosen)))
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: session.run(task_status=task_status))
        assert session.port == port
        group.cancel_scope.cancel()


@effect("streaming_hash")
async def streaming_hash(home: Path) -> None:
    # What it does to a file is proved in tests/unit/share/test_incoming.py; here: that the key reaches the manager.
    for text, value in (("on", True), ("off", False)):
        manager = make_node(home, streaming_hash=text)._acquisition()
        assert isinstance(manager, AcquisitionManager)
        assert manager._puller._streaming is value


@effect("debug")
async def debug(home: Path) -> None:
    log = logs.get_logger("hali.test")
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        for wanted in (False, True):
            logs.configure(debug=settings(debug=str(wanted)).debug, directory=home / str(wanted), stderr=False)
            log.debug("test.debug")
            assert ("test.debug" in (home / str(wanted) / "hali.log").read_text()) is wanted
    finally:
        for handler in logging.getLogger().handlers[:]:
            logging.getLogger().removeHandler(handler)
            handler.close()
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)


@effect("models_dir")
async def models_dir(home: Path) -> None:
    assert make_node(home).library.store.root == home / "models"
    assert make_node(home, models_dir=str(home / "elsewhere")).library.store.root == home / "elsewhere"


async def serve(home: Path, check: Callable[[str], Awaitable[None]], **flags: str) -> None:
    """Run the node's real API server and hand its address to `check`."""
    node = make_node(home, **flags)
    server = node._api_service()
    assert isinstance(server, ApiServer)
    async with anyio.create_task_group() as group:
        await group.start(lambda task_status: server.run(task_status=task_status))
        assert server.address is not None
        await check(server.address)
        group.cancel_scope.cancel()


async def get(address: str, *headers: str) -> tuple[int, bytes]:
    """Status and body of GET /v1/models."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    lines = ["GET /v1/models HTTP/1.1", f"Host: {host}:{port}", "Connection: close", *headers]
    writer.write("\r\n".join([*lines, "", ""]).encode())
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1]), answer


@effect("daemon_port")
async def daemon_port(home: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def check(address: str) -> None:
        assert address == f"http://127.0.0.1:{port}"

    await serve(home, check, daemon_port=str(port))


@effect("daemon_listen_addr")
async def daemon_listen_addr(home: Path) -> None:
    async def check(address: str) -> None:
        assert address.startswith("http://127.0.0.2:")

    await serve(home, check, daemon_listen_addr="127.0.0.2", daemon_port="0")
    assert not Paths(home).api_key.exists()
    make_node(home, daemon_listen_addr="0.0.0.0")
    assert Paths(home).api_key.stat().st_mode & 0o777 == 0o600
    assert not Bind("0.0.0.0").loopback


@effect("api.require_key")
async def require_key(home: Path) -> None:
    async def free(address: str) -> None:
        assert (await get(address))[0] == 200

    async def locked(address: str) -> None:
        key = Paths(home).api_key.read_text().strip()
        assert (await get(address))[0] == 401
        assert (await get(address, f"Authorization: Bearer {key}"))[0] == 200

    await serve(home, free, daemon_port="0")
    await serve(home, locked, daemon_port="0", api__require_key="on")


@effect("api.queue")
async def api_queue(home: Path) -> None:
    # What the router does with these: tests/unit/pipeline/test_router.py.
    assert router_limits(settings(api__queue="5")).queued == 5


@effect("api.queue_per_key")
async def api_queue_per_key(home: Path) -> None:
    assert router_limits(settings(api__queue_per_key="6")).queued_per_key == 6


@effect("api.queue_wait_s")
async def api_queue_wait(home: Path) -> None:
    assert router_limits(settings(api__queue_wait_s="1.5")).queue_wait_s == 1.5


@effect("api.requests_per_minute")
async def api_requests_per_minute(home: Path) -> None:
    shared = make_node(home, api__requests_per_minute="1").key_ring.budget(None)
    shared.request(0.0)
    with pytest.raises(Overloaded, match="1 requests a minute"):
        shared.request(0.0)


@effect("api.tokens_per_minute")
async def api_tokens_per_minute(home: Path) -> None:
    shared = make_node(home, api__tokens_per_minute="100").key_ring.budget(None)
    shared.reserve(100, 0.0)
    with pytest.raises(Overloaded, match="100 tokens a minute"):
        shared.reserve(1, 0.0)


@effect("lan.enabled")
async def lan_enabled(home: Path) -> None:
    def names(node: Node) -> set[str]:
        return {status.name for status in node.supervisor.statuses()}

    assert "LanAnnouncer" in names(make_node(home))
    assert "LanAnnouncer" not in names(make_node(home, lan__enabled="off"))


@effect("lan.port")
async def lan_port(home: Path) -> None:
    assert lan_options(settings(lan__port="5000")).port == 5000


@effect("lan.peers")
async def lan_peers(home: Path) -> None:
    assert lan_options(settings(lan__peers="a,b:7")).peers == ("a", "b:7")


@effect("lan.hmac_enabled")
async def lan_hmac_enabled(home: Path) -> None:
    assert lan_options(settings(lan__hmac_shared_secret="ab" * 32)).secret is None
    with pytest.raises(ConfigError, match=r"needs lan\.hmac_shared_secret"):
        lan_options(settings(lan__hmac_enabled="on"))


@effect("lan.hmac_shared_secret")
async def lan_hmac_secret(home: Path) -> None:
    assert lan_options(settings(lan__hmac_enabled="on", lan__hmac_shared_secret="ab" * 32)).secret == b"\xab" * 32


@effect("hf.endpoint")
async def hf_endpoint(home: Path) -> None:
    hub = make_node(home, hf__endpoint="http://127.0.0.1:1").hub()
    assert (await hub.file_source("o/r", "0" * 40, "f.gguf")).url.startswith("http://127.0.0.1:1/o/r/resolve/")


@effect("hf.connections")
async def hf_connections(home: Path) -> None:
    from hali.model.ids import ModelRef
    from hali.share.resolve import Plan

    node = make_node(home, hf__connections="3", hf__endpoint="http://127.0.0.1:1")
    plan = Plan("k", "f.gguf", ref=ModelRef("ab" * 32, "f.gguf", 1, "o/r", "0" * 40), repo_path="f.gguf")
    async with await node._open_source(plan, *plan.wanted, lambda _: None) as source:
        assert source._policy.connections == 3


@effect("registry.url")
async def registry_url(home: Path) -> None:
    node = make_node(home, registry__url="http://127.0.0.1:1,https://r.example/f#ed25519:" + "ab" * 32)
    assert node.registry.servers == ("http://127.0.0.1:1",)
    assert list(node.registry.finder._sources) == ["http://127.0.0.1:1", "https://r.example/f"]
    assert "RegistryOutbox" in {status.name for status in node.supervisor.statuses()}
    assert "RegistryOutbox" not in {status.name for status in make_node(home).supervisor.statuses()}
    with pytest.raises(UsageError, match=r"registry\.url"):
        settings(registry__url="gopher://x")


async def adopted(node: Node, home: Path) -> Entry:
    """A model in its library."""
    digests = hash_file(random_file(home / "incoming" / "Tiny-1B-Q8_0.gguf", 0.1))
    return await node.library.adopt([Arrived(home / "incoming" / "Tiny-1B-Q8_0.gguf", digests)], Origin())


async def told_after_a_pull(home: Path, **flags: str) -> list[str]:
    """Kinds of the events that a node with these keys writes down when a pull has ended."""
    node = make_node(home, registry__url="http://127.0.0.1:1", **flags)
    entry = await adopted(node, home)
    job = Job(JobSpec("pull", "tiny"))
    job.finish({**node.library.describe(entry), "from_store": False})
    with node.database.transaction() as db:
        node.registry.job_ended(job, db)
    return [event.kind for event in node.registry.outbox.events()]


@effect("registry.publish")
async def registry_publish(home: Path) -> None:
    assert await told_after_a_pull(home / "a") == []
    assert await told_after_a_pull(home / "b", registry__publish="on") == ["publish"]


@effect("telemetry")
async def telemetry(home: Path) -> None:
    # What exactly is sent: tests/unit/registry/test_telemetry.py.
    assert await told_after_a_pull(home / "a", telemetry="on") == ["report"]


@effect("tracing.otlp_endpoint")
async def tracing_otlp_endpoint(home: Path) -> None:
    # What is told: tests/unit/api/test_tracing.py.
    async def ask(address: str) -> None:
        assert (await get(address))[0] == 200

    with collector() as heard:
        await serve(home, ask, daemon_port="0", tracing__otlp_endpoint=heard.url)
        await anyio.to_thread.run_sync(NODES.pop().close)
        assert [span.name for span in heard.spans] == ["GET /v1/models"]


def handoff_effect(client: str, key: str) -> None:
    """What `hali handoff` calls the client with; that the real clients obey is in tests/net/test_handoff.py."""

    @effect(f"handoff.{client}_{key}")
    async def check(home: Path) -> None:
        value = "http://10.0.0.1:1" if key == "url" else "a word"
        made = account(settings(**{f"handoff__{client}_{key}": value}).handoff, client)
        assert getattr(made, key) == value


for each_client in ("qbittorrent", "transmission"):
    for each_key in ("url", "user", "password"):
        handoff_effect(each_client, each_key)


@effect("engine.threads")
async def engine_threads(home: Path) -> None:
    assert engine_options(settings(engine__threads="3")).threads == 3


@effect("engine.n_ctx")
async def engine_n_ctx(home: Path) -> None:
    assert engine_options(settings(engine__n_ctx="777")).n_ctx == 777


@effect("engine.slots")
async def engine_slots(home: Path) -> None:
    assert engine_options(settings(engine__slots="3")).n_seq_max == 3


@effect("engine.gpu_layers")
async def engine_gpu_layers(home: Path) -> None:
    assert engine_options(settings()).gpu_layers is None, "the worker chooses"
    for text, layers in (("auto", None), ("5", 5), ("0", 0), ("-1", -1)):
        assert engine_options(settings(engine__gpu_layers=text)).gpu_layers == layers
    for wrong in ("-2", "all", "1.5"):
        with pytest.raises(UsageError, match="gpu_layers"):
            settings(engine__gpu_layers=wrong)


@effect("engine.lora")
async def engine_lora(home: Path) -> None:
    node = make_node(home, engine__lora="tiny:1b=/pirate.gguf@0.5,other=/other.gguf")
    entry = await adopted(node, home)
    assert node.catalog.equip(entry.record.path, EngineOptions()).lora == (("/pirate.gguf", 0.5),)


@effect("engine.draft")
async def engine_draft(home: Path) -> None:
    node = make_node(home, engine__draft="other=/other.gguf,tiny:1b=~/draft.gguf,tiny=/later.gguf")
    entry = await adopted(node, home)
    assert node.catalog.equip(entry.record.path, EngineOptions()).draft == os.path.expanduser("~/draft.gguf")


@effect("engine.prefix_cache")
async def engine_prefix_cache(home: Path) -> None:
    assert engine_options(settings()).prefix_cache
    assert not engine_options(settings(engine__prefix_cache="off")).prefix_cache


@effect("engine.speculation")
async def engine_speculation(home: Path) -> None:
    assert engine_options(settings()).speculation == "auto"
    assert engine_options(settings(engine__speculation="always")).speculation == "always"


@effect("engine.memory_gb")
async def engine_memory_gb(home: Path) -> None:
    assert make_node(home / "a", engine__memory_gb="1.5").engines._limits.memory_bytes == 1_500_000_000
    total = total_ram()
    assert total is not None and total // 2 <= (make_node(home / "b").engines._limits.memory_bytes or 0) < total


@effect("engine.keep_alive")
async def engine_keep_alive(home: Path) -> None:
    for number, (text, seconds) in enumerate((("0", 0), ("90", 90), ("-1", None))):
        assert make_node(home / str(number), engine__keep_alive=text).engines._limits.keep_alive_s == seconds


@effect("engine.max_loaded")
async def engine_max_loaded(home: Path) -> None:
    assert make_node(home, engine__max_loaded="5").engines._limits.max_engines == 5


def test_config_show_json_lists_every_key_with_value_source_and_unit(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hali.cli.main import main

    with pytest.raises(SystemExit) as caught:
        main(["config", "show", "--json"])
    assert caught.value.code == 0
    rows = json.loads(capsys.readouterr().out)["keys"]
    assert [row["key"] for row in rows] == list(KEYS)
    assert all({"value", "source", "unit"} <= row.keys() for row in rows)

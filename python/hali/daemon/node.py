"""The composition root: the only file that knows all concrete classes. Builds the node's parts and joins their channels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from hali.api.base import ApiDeps, ApiKey
from hali.api.binding import Bind
from hali.api.keys import KeyRing
from hali.api.metrics import Metrics
from hali.api.response_store import ResponseStore
from hali.api.server import ApiServer
from hali.api.tracing import open_spans
from hali.config.adapters import parse_adapters, parse_drafts
from hali.config.credentials import HF_TOKEN, credential
from hali.config.identity import Identity
from hali.config.load import Loaded, Source, load
from hali.config.paths import Paths
from hali.config.schedule import Schedule
from hali.config.schema import KEYS, Settings, value_of
from hali.daemon.busy import what_is_busy
from hali.daemon.catalog import LibraryCatalog
from hali.daemon.dashboard import DashboardFeed
from hali.daemon.keys import fill
from hali.daemon.measures import measures
from hali.daemon.neighbours import LanNeighbours, lan_fetch, lan_model, lan_part
from hali.daemon.node_telling import NodeTeller
from hali.daemon.offering import OfferedModels
from hali.daemon.options import (
    caps_of,
    default_limits,
    engine_options,
    lan_options,
    pool_limits,
    router_limits,
    torrent_options,
)
from hali.daemon.published import PresentRouter, Published
from hali.daemon.searching import HubSearch
from hali.engine.pool import EnginePool
from hali.model.errors import Refused
from hali.model.urls import redacted
from hali.pipeline.router import InferenceRouter
from hali.registry.local import LocalRegistry
from hali.runtime.activity import Activity
from hali.runtime.channels import Channel, Receiver, Sender, Watch, mailbox
from hali.runtime.log import get_logger
from hali.runtime.service_events import tell_services
from hali.runtime.supervisor import Service, Spec, Supervisor
from hali.share.acquire import AcquisitionManager
from hali.share.board import JobBoard
from hali.share.incoming_model import Wanted
from hali.share.job import Job
from hali.share.library import Library
from hali.share.partials import Partials
from hali.share.pulling import Puller
from hali.share.queue import WaitingRoom
from hali.share.range_lane import Counted
from hali.share.resolve import Plan, Resolver
from hali.share.search import Search
from hali.share.space import Busy, Space
from hali.share.tally import Tally
from hali.share.underway import Underway
from hali.share.using import UsageRecorder
from hali.store.api_keys import KeyStore
from hali.store.database import Database
from hali.store.models import ModelStore, Record
from hali.store.partials import PartialStore
from hali.store.usage import Usage
from hali.transfer.http import RangeSource
from hali.transfer.http_document import fetch_document
from hali.transfer.http_retry import HttpPolicy
from hali.transfer.hub import Hub
from hali.transfer.hub_choice import parse_hub_name
from hali.transfer.lan import LanAnnouncer, LanModel
from hali.transfer.metainfo import MAX_BYTES
from hali.transfer.regulator import Allowance, Regulator
from hali.transfer.session import TorrentSession
from hali.transfer.throttle import Throttle

log = get_logger(__name__)

QUEUED_JOBS = 256  # a person pulls a handful, a script a few dozen; more than this is a runaway loop
PORT_STATE = "torrent_port"  # the port chosen at the first start, kept so that routers and friends may rely on it
ORDER_STATE = "transfers"  # a person's pause


class Reloaded(msgspec.Struct, frozen=True):
    """What reading the configuration again did: keys in force now, keys that wait for a restart, and where values come from."""

    applied: list[str]
    restart: list[str]
    sources: dict[str, Source]


class Node:
    """One running daemon's parts. `supervisor` runs the services; `engines` must be entered around it."""

    def __init__(
        self, paths: Paths, loaded: Loaded, identity: Identity, database: Database, keys: Sequence[ApiKey]
    ) -> None:
        self.paths, self.loaded, self.database = paths, loaded, database
        self.identity = identity
        self.activity, self.tally = Activity(), Tally()
        self.torrents: Watch[TorrentSession | None] = Watch(None)
        self.lan: Watch[LanAnnouncer | None] = Watch(None)
        self.api: Watch[ApiServer | None] = Watch(None)
        self._shared: tuple[Record, ...] = ()
        self._reloading = anyio.Lock()
        store = ModelStore(paths.models(self.settings.models_dir))
        store.recover()
        self.library = Library(
            store, paths.torrents, self._announce, v1_twins=self.settings.torrent.v1_twins, activity=self.activity
        )
        self.library.scan()
        self.partials = Partials(PartialStore(store), self._tell_neighbours)
        self.partials.scan()
        self.underway = Underway(self._tell_neighbours)
        self.registry = LocalRegistry(paths, self.settings, identity, database, self._records)
        ends: tuple[Sender[Job], Receiver[Job]] = mailbox("acquisition", QUEUED_JOBS)
        self._jobs, self._queue = ends
        self.room = WaitingRoom(self.settings.pull_concurrency)
        self.board = JobBoard(database, self._jobs, self.room, self.registry.job_ended)
        self.told = NodeTeller(self.activity)
        self.regulator = Regulator(
            caps_of(self.settings),
            Schedule.parse(self.settings.schedule),
            kept=database.get_state(ORDER_STATE),
            keep=self._keep_order,
            apply=self._allow,
        )
        self.throttle = Throttle(self.torrents, self.regulator.now.value.caps)
        self.told.allowed(self.regulator.now.value)
        self.board.pause(self.regulator.now.value.paused)
        self.usage = Usage(database)
        self._recorder = self._usage_recorder()
        self.space = Space(
            self.library, self.usage, paths.torrents, quota_gb=self.settings.storage.quota_gb, busy=self._busy
        )
        engine = self.settings.engine
        self.catalog = LibraryCatalog(self.library, parse_adapters(engine.lora), parse_drafts(engine.draft))
        self.engines = EnginePool(
            engine_options(self.settings),
            pool_limits(self.settings),
            equip=self.catalog.equip,
            activity=self.activity,
        )
        self.offered = OfferedModels(self.library, self.board, self.engines, self.usage)
        self.routers: Watch[InferenceRouter | None] = Watch(None)
        self.router = PresentRouter(self.routers, self.usage.used)
        # All who are searched, the preferred one first. A person waits: two attempts each.
        hub = HubSearch(Hub(self.settings.hf.endpoint, token=credential(HF_TOKEN), policy=HttpPolicy(attempts=2)))
        self.search = Search([hub, *([self.registry.finder] if self.settings.registry.url else [])])
        self._keys = tuple(keys)
        self.api_keys, self.key_ring = KeyStore(database), KeyRing(default_limits(self.settings))
        fill(self.key_ring, self.api_keys.all())
        self.dashboard = DashboardFeed(self)
        self._metrics, self._responses = Metrics(), ResponseStore()  # these outlive a server that is restarted, as …
        self._spans = open_spans(self.settings.tracing.otlp_endpoint, identity.node_id)  # … these do
        # Both come back where they were: links, neighbours and clients know these ports.
        self._last_torrent_port = int(database.get_state(PORT_STATE) or 0)
        self._last_api_port: int | None = None
        self.supervisor = Supervisor(self._specs(), partial(tell_services, self.activity))

    @property
    def settings(self) -> Settings:
        """Those in force."""
        return self.loaded.settings

    def _specs(self) -> list[Spec]:
        """The services, with what each needs before it."""
        torrents = Spec("TorrentSeeder", self._torrent_seeder, essential=True)
        acquisition = Spec("AcquisitionManager", self._acquisition, requires=("TorrentSeeder",))
        router = Spec("InferenceRouter", self._inference_router)
        # The API drains open replies for 10 s; its stop limit is above that.
        api = Spec("ApiServer", self._api_server, requires=("InferenceRouter",), essential=True, stop_timeout_s=15.0)
        # These two hold what others were given (the gate, the limiter), so a restart runs the same objects on.
        regulator = Spec("Regulator", lambda: self.regulator)
        throttle = Spec("Throttle", lambda: self.throttle)
        lan = Spec("LanAnnouncer", self._lan_announcer, requires=("TorrentSeeder",))
        usage = Spec("UsageRecorder", self._usage_recorder, requires=("TorrentSeeder",))
        outbox = Spec("RegistryOutbox", self.registry.service)
        lans = [lan] if self.settings.lan.enabled else []
        outboxes = [outbox] if self.registry.servers else []
        dashboard = Spec("Dashboard", lambda: self.dashboard)
        return [regulator, torrents, throttle, *lans, acquisition, usage, router, dashboard, api, *outboxes]

    # ---- services

    def _torrent_seeder(self) -> Service:
        return Published(self._torrent_session, self.torrents, self._note_torrent_port)

    def _torrent_session(self) -> TorrentSession:
        options = torrent_options(self.settings, self._last_torrent_port, self.throttle.caps)
        return TorrentSession(options, self.regulator.gate)

    def _note_torrent_port(self, session: TorrentSession) -> None:
        self._last_torrent_port = session.port

    async def remember_port(self) -> None:
        """Keep the torrent port for the next life, unless somebody chose it for this one."""
        if self.settings.torrent_port:
            return
        await anyio.to_thread.run_sync(self.database.set_state, PORT_STATE, str(self._last_torrent_port))

    def _lan_announcer(self) -> Service:
        # Once more when it is ready: what changed while it started it has not heard.
        return Published(self._lan_service, self.lan, lambda _: self._tell_neighbours())

    def _lan_service(self) -> LanAnnouncer:
        announcer = LanAnnouncer(self.identity, lan_options(self.settings), lambda: self._last_torrent_port)
        announcer.set_models(self._on_offer())
        return announcer

    def _acquisition(self) -> Service:
        resolver = self.resolver()
        puller = Puller(
            self.library,
            resolver,
            self.torrents,
            self.underway,
            open_source=self._open_source,
            open_web_seed=self._open_web_seed,
            streaming=self.settings.streaming_hash,
            connections=self.settings.hf.connections,
            tally=self.tally,
        )
        return AcquisitionManager(
            board=self.board,
            queue=self._queue,
            library=self.library,
            resolver=resolver,
            torrents=self.torrents,
            puller=puller,
            room=self.room,
            gate=self.regulator.gate,
            partials=self.partials,
            space=self.space,
            activity=self.activity,
        )

    def _usage_recorder(self) -> UsageRecorder:
        self._recorder = UsageRecorder(self.usage, self.library, lambda: self.torrents.value)
        return self._recorder

    def _inference_router(self) -> Service:
        limits = router_limits(self.settings)
        return Published(lambda: InferenceRouter(self.catalog, self.engines, limits), self.routers)

    def _api_server(self) -> Service:
        return Published(self._api_service, self.api, self._note_api_port)

    def _note_api_port(self, server: ApiServer) -> None:
        self._last_api_port = server.port

    def _api_service(self) -> ApiServer:
        settings = self.settings
        deps = ApiDeps(
            catalog=self.catalog,
            router=self.router,
            keys=self._keys,
            ring=self.key_ring,
            require_key=settings.api.require_key,
            metrics=self._metrics,
            measures=lambda: measures(self),
            responses=self._responses,
            models=self.offered,
            dashboard=self.dashboard,
            spans=self._spans,
        )
        # The default port gives way to the next free one; a port somebody chose does not.
        default = Settings().daemon_port
        port = None if settings.daemon_port == default else settings.daemon_port
        return ApiServer(deps, Bind(settings.daemon_listen_addr, port, self._last_api_port))

    # ---- what they share

    def channels(self) -> dict[str, Channel]:
        """Those between services, by name, for whoever measures them."""
        found: dict[str, Channel] = {
            "acquisition": self._jobs,
            "activity": self.activity.events,
            "dashboard": self.activity.changes,
        }
        if self.torrents.value is not None:
            found["torrents"] = self.torrents.value.events
        return found

    def _records(self) -> list[Record]:
        return [entry.record for entry in self.library.entries()]

    def _busy(self) -> Busy:
        engines = [status.model_id for status in self.engines.list()]
        return what_is_busy(self.library.entries(), engines, self._recorder.sending, self.board.active())

    def _announce(self, records: Sequence[Record]) -> None:
        self._shared = tuple(records)
        self._tell_neighbours()

    def _tell_neighbours(self) -> None:
        if self.lan.value is not None:
            self.lan.value.set_models(self._on_offer())

    def _on_offer(self) -> list[LanModel]:
        """What the LAN may fetch from us: nothing during a pause."""
        if self.regulator.now.value.paused:
            return []
        whole = {record.meta.infohash_v2 for record in self._shared}
        entries = [entry for entry in self.partials.entries() if entry.record.meta.infohash_v2 not in whole]
        parts = [part for entry in entries if (part := lan_part(entry)) is not None]
        fetches = [fetch for offer in self.underway.offers(whole) if (fetch := lan_fetch(offer)) is not None]
        return [*(lan_model(record) for record in self._shared), *parts, *fetches]

    def _allow(self, allowance: Allowance) -> None:
        """Other caps, a pause or its end; sessions and HTTP sources follow the gate by themselves."""
        self.told.allowed(allowance)
        self.throttle.set_caps(allowance.caps)
        self.board.pause(allowance.paused)
        self._tell_neighbours()

    async def _keep_order(self, text: str) -> None:
        await anyio.to_thread.run_sync(self.database.set_state, ORDER_STATE, text)

    async def reload(self) -> Reloaded:
        """Read the configuration again and apply the live keys, whatever runs goes on; ConfigError when it cannot be read."""
        async with self._reloading:  # what was read first must not be applied last
            return await self._reload()

    async def _reload(self) -> Reloaded:
        fresh = await anyio.to_thread.run_sync(partial(load, self.paths.config, flags=self.loaded.flags))
        changed = [n for n in KEYS if value_of(fresh.settings, n) != value_of(self.settings, n)]
        live = {name: value_of(fresh.settings, name) for name in changed if KEYS[name].live}
        sources = self.loaded.sources | {name: fresh.sources.get(name, "default") for name in live}
        self.loaded = Loaded(msgspec.structs.replace(self.settings, **live), sources, self.loaded.flags)
        self.regulator.configure(caps_of(self.settings), Schedule.parse(self.settings.schedule))
        self.room.resize(self.settings.pull_concurrency)
        log.info("config.reloaded", applied=list(live))
        restart = [name for name in changed if name not in live]
        self.told.reloaded(list(live), restart)
        return Reloaded(list(live), restart, fresh.sources)

    def hub(self) -> Hub:
        """Hugging Face, or the mirror of the settings."""
        return Hub(self.settings.hf.endpoint, token=credential(HF_TOKEN))

    def resolver(self) -> Resolver:
        """From what is asked for to what can be fetched."""
        return Resolver(
            self.library,
            LanNeighbours(self.lan),
            self.hub(),
            fetch_metainfo=self._fetch_metainfo,
            loopback_peers=self.settings.torrent.loopback_peers,
            directory=self.registry.finder,
        )

    async def _open_source(self, plan: Plan, file: Wanted, counted: Counted) -> RangeSource:
        ref = plan.ref
        assert ref is not None and ref.repo is not None and ref.revision is not None
        where = await self.hub().file_source(ref.repo, ref.revision, file.path or file.name)
        return RangeSource(
            where.url,
            trusted=True,  # the configuration names the hub
            size=file.length,
            sha256=file.sha256,
            headers=where.headers,
            limiter=self.throttle.download,
            gate=self.regulator.gate,
            progress=counted,
            policy=HttpPolicy(connections=self.settings.hf.connections),
        )

    async def _open_web_seed(self, url: str, size: int, counted: Counted) -> RangeSource:
        """An address that a torrent names. One on Hugging Face is asked for at the hub of the configuration, with its token."""
        headers = None
        trusted = self.settings.torrent.private_web_seeds
        named = parse_hub_name(url)
        if named is not None and named.revision and named.file:
            where = await self.hub().file_source(named.repo, named.revision, named.file)
            url, headers, trusted = where.url, where.headers, True
        elif not trusted and not url.lower().startswith("https://"):
            raise Refused(
                f"{redacted(url)}: web seeds are asked by https only", hint="torrent.private_web_seeds = true"
            )
        return RangeSource(
            url,
            trusted=trusted,
            size=size,
            headers=headers,
            limiter=self.throttle.download,
            gate=self.regulator.gate,
            progress=counted,
            policy=HttpPolicy(connections=self.settings.hf.connections),
        )

    @staticmethod
    async def _fetch_metainfo(url: str) -> bytes:
        """A .torrent by URL that the user typed."""
        return await fetch_document(url, trusted=True, limit=MAX_BYTES)

    async def preload(self, model: str) -> None:
        """Load a model before the first request asks for it; NotFound, ModelLoadFailed."""
        served = self.catalog.find(model)
        self.usage.used(served.sha256)
        await self.engines.load(served.engine_name, served.path)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All services up while the block runs; raises what an essential service failed with."""
        async with self.engines, anyio.create_task_group() as group:
            await group.start(self._supervise)
            await self.remember_port()
            try:
                yield
            finally:
                group.cancel_scope.cancel()

    def close(self) -> None:
        """Release what was opened; the services must have ended."""
        if self._spans is not None:
            self._spans.close()
        self._jobs.close()
        self._queue.close()
        self.database.close()

    async def _supervise(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        await self.supervisor.run(task_status=task_status)

"""The methods of the IPC: thin adapters between a request and the node."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import anyio
import anyio.to_thread
import msgspec
from msgspec import Meta

from hali._version import __version__
from hali.daemon.choices import Choices
from hali.daemon.engines import EngineMethods
from hali.daemon.ipc import Emit, Handler, Params, field
from hali.daemon.keys import KeyMethods
from hali.daemon.node import Node
from hali.daemon.options import kv_tokens
from hali.daemon.parts import part_called, removed_part, seeding_part
from hali.daemon.pruning import prune
from hali.daemon.registry import RegistryMethods, listed_in
from hali.daemon.removing import remove
from hali.daemon.statistics import statistics
from hali.daemon.telling import telling_hashing, watch
from hali.daemon.views import (
    describe_allowance,
    describe_header,
    describe_job,
    describe_model,
    describe_traffic,
    freed_by,
    verified,
)
from hali.daemon.watching import ActivityMethods
from hali.model.errors import UsageError
from hali.model.layers import parse_layers
from hali.model.printing import printable
from hali.model.units import LONGEST, format_duration
from hali.share.base import SearchSort
from hali.share.job import JobKind, JobSpec
from hali.share.library import Entry
from hali.share.queue import Priority
from hali.share.search import MAX_FOUND
from hali.share.targets import RepoTarget, parse_target

Seconds = Annotated[float, Meta(gt=0, le=LONGEST)]  # beyond, no clock could tell when they are over
MAX_TEXT = 200  # of a search; longer than any name on the hub


class Methods:
    """All methods by name; `stop_daemon` is called when a client asks for the end."""

    def __init__(self, node: Node, stop_daemon: Callable[[], None], *, service: bool = False) -> None:
        """`service`: a service manager runs this daemon and brings it back."""
        self._node, self._stop_daemon, self._service = node, stop_daemon, service
        self._started = time.monotonic()

    def table(self) -> dict[str, Handler]:
        """Method name → handler."""
        return {
            "ping": self.ping,
            "status": self.status,
            "stats": self.stats,
            "models": self.models,
            "info": self.info,
            "add": self.add,
            "search": self.search,
            "choices": self.choices,
            "pull": self.pull,
            "cancel": self.cancel,
            "outcome": self.outcome,
            "queue": self.queue,
            "move": self.move,
            "drop": self.drop,
            "pause": self.pause,
            "resume": self.resume,
            "reload": self.reload,
            "verify": self.verify,
            "rm": self.rm,
            "prune": self.prune,
            "pin": self.pin,
            "stop": self.stop,
        } | self._others()

    def _others(self) -> dict[str, Handler]:
        """Those of modules of their own."""
        keys = KeyMethods(self._node.api_keys, self._node.key_ring)
        activity = ActivityMethods(self._node.activity)
        return RegistryMethods(self._node).table() | keys.table() | EngineMethods(self._node).table() | activity.table()

    async def ping(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Who answers."""
        return {"pid": os.getpid(), "home": str(self._node.paths.home), "service": self._service}

    async def stop(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Begin the orderly shutdown; the reply comes first."""
        self._stop_daemon()
        return {"stopping": True}

    # ---- state

    async def status(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """What runs, what is seeded, what the LAN offers."""
        node, uptime = self._node, time.monotonic() - self._started
        session, api = node.torrents.value, node.api.value
        peers = await self._peers()
        return {
            "pid": os.getpid(),
            "version": __version__,
            "uptime": format_duration(uptime),
            "uptime_s": round(uptime, 3),
            "home": str(node.paths.home),
            "service": self._service,
            "node_id": node.identity.node_id,
            "torrent_port": session.port if session is not None else None,
            "http": api.address if api is not None else None,
            **describe_allowance(node.regulator.now.value),
            "seeding": [self._seeding(entry, peers) for entry in node.library.entries()]
            + [seeding_part(node.partials, entry, peers) for entry in node.partials.entries()],
            "lan": self._lan_rows(),
            "lan_traffic": describe_traffic(node.lan.value),
            "jobs": [describe_job(job) for job in node.board.active()],
            "services": [msgspec.to_builtins(status) for status in node.supervisor.statuses()],
        }

    async def _peers(self) -> dict[str, int]:
        """Connected peers by infohash."""
        session = self._node.torrents.value
        found: dict[str, int] = {}
        for status in await session.status() if session is not None else []:
            for name in (status.infohashes.v1, status.infohashes.v2):
                if name is not None:
                    found[name] = status.peers
        return found

    def _seeding(self, entry: Entry, peers: Mapping[str, int]) -> dict[str, Any]:
        meta, twin = entry.record.meta, self._node.library.twins.infohash(entry.record.meta.sha256)
        return {
            "model_id": meta.model_id,
            "status": entry.state,
            "peers": peers.get(meta.infohash_v1, peers.get(meta.infohash_v2, 0)) + (peers.get(twin, 0) if twin else 0),
            "magnet": self._node.library.magnet(entry.record),
            "sha256": meta.sha256,
            "infohash_v1": meta.infohash_v1,
            "infohash_v2": meta.infohash_v2,
            "progress": entry.progress,
            "error": entry.error,
        }

    def _lan_rows(self) -> list[dict[str, Any]]:
        lan = self._node.lan.value
        if lan is None:
            return []
        return [
            {
                "model_id": e.model_id,
                "peers": e.nodes,
                "infohash": e.infohashes.best,
                "sha256_prefix": e.sha256_prefix,
            }
            for e in lan.entries()
        ]

    async def stats(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Rates and totals of this session."""
        return await statistics(self._node, time.monotonic() - self._started)

    # ---- models

    async def models(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """All models of this node, and the records that cannot be read."""
        library = self._node.library
        await library.look_for_files()
        damaged = await anyio.to_thread.run_sync(library.store.unreadable)
        models = [self._described(entry) for entry in library.entries()]
        parts = [self._node.partials.describe(entry) for entry in self._node.partials.entries()]
        return {"models": models, "partial": parts, "unreadable": [printable(str(path)) for path in damaged]}

    async def info(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """One model, with what its header says and who else has it; or the part of one that is here."""
        name = field(params, "model", str)
        if (part := part_called(self._node.library, self._node.partials, name)) is not None:
            return self._node.partials.describe(part)
        entry = self._node.library.find(name)
        header = await anyio.to_thread.run_sync(describe_header, entry)
        return self._described(entry) | {"gguf": header} | await self._where_seeded(entry)

    def _described(self, entry: Entry) -> dict[str, Any]:
        return describe_model(self._node.library, entry, self._node.usage.of(entry.record.meta.sha256))

    async def _where_seeded(self, entry: Entry) -> dict[str, Any]:
        """Nodes of the LAN that offer it, and connected peers; null is unknown."""
        lan, meta = self._node.lan.value, entry.record.meta
        offers = lan.entries() if lan is not None else []
        nodes = sum(e.nodes for e in offers if e.sha256_prefix and meta.sha256.startswith(e.sha256_prefix))
        peers = await self._peers()
        return {
            "lan_nodes": nodes if lan is not None else None,
            "peers": peers.get(meta.infohash_v1, peers.get(meta.infohash_v2)),
        }

    async def verify(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Read one model again, telling progress."""
        entry = self._node.library.find(field(params, "model", str))
        return verified(entry, await telling_hashing(entry, emit, self._node.library.verify(entry)))

    async def rm(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Delete one model, or the part of one."""
        name = field(params, "model", str)
        if (part := part_called(self._node.library, self._node.partials, name)) is not None:
            return await removed_part(self._node.partials, part)
        entry = self._node.library.find(name)
        meta, freed = entry.record.meta, freed_by(entry)
        await remove(self._node.library, self._node.engines, self._node.usage, entry)
        return {"model_id": meta.model_id, "sha256": meta.sha256, "freed": freed}

    async def prune(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Make room, or with `dry_run` say how. With `only`, of the models just these (SHA-256) may go."""
        return await prune(self._node.space, self._node.library, params)

    async def pin(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Keep a model from being pruned, or no longer."""
        entry, pinned = self._node.library.find(field(params, "model", str)), field(params, "pinned", bool)
        await anyio.to_thread.run_sync(self._node.usage.pin, entry.record.meta.sha256, pinned)
        return {"model_id": entry.record.meta.model_id, "sha256": entry.record.meta.sha256, "pinned": pinned}

    # ---- what could be fetched

    async def search(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Models of all providers that fit words."""
        text, limit = field(params, "text", str), field(params, "limit", int, 20)
        sort = field(params, "sort", SearchSort, "downloads")
        if not text.strip() or len(text) > MAX_TEXT or not 1 <= limit <= MAX_FOUND:
            raise UsageError(f"`text` has 1 to {MAX_TEXT} characters, `limit` is 1 to {MAX_FOUND}")
        found: dict[str, Any] = msgspec.to_builtins(await self._node.search.run(text, limit=limit, sort=sort))
        return found

    async def choices(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """The models of a repository."""
        target = parse_target(field(params, "what", str))
        if not isinstance(target, RepoTarget):
            raise UsageError("`what` must be owner/repo")
        node = self._node
        found = Choices(node.library, node.resolver(), node.hub(), kv_tokens=kv_tokens(node.settings))
        return await found.of(target, always=field(params, "always", bool, True))

    # ---- jobs

    async def add(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Import a model, telling progress: a file, or all parts of the split it is a part of; `beside` is its projector."""
        return await watch(await self._node.board.submit(_spec_of_add(params)), emit)

    async def pull(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Fetch a model, telling progress. The job goes on when the client goes away; with `wait` false it is not waited for."""
        spec = _spec_of_pull(params)
        priority = field(params, "priority", Priority | None, None)
        job = await self._node.board.submit(spec, priority)
        if not field(params, "wait", bool, True):
            return {"job": job.spec.id}
        result = await watch(job, emit)
        return {**result, **listed_in(self._node, spec.what)}

    async def outcome(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """How a job ended that was not waited for: its result, or its error; null while it is under way."""
        job = self._node.board.get(field(params, "job", str))
        return {"result": job.outcome() if job.is_over else None}

    async def queue(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Jobs under way, then those that wait, in the order in which they will be called."""
        rows = self._node.board.in_order()
        return {"places": self._node.room.places, "jobs": [describe_job(job, position) for job, position in rows]}

    async def move(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Another priority for a job."""
        job = self._node.board.find(field(params, "job", str))
        await self._node.board.prioritise(job, field(params, "priority", Priority))
        return {"job": describe_job(job, self._node.board.position(job))}  # inside: an answer has an `id` of its own

    async def drop(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Cancel one job; what arrived is kept. Answers when it has stopped."""
        job = self._node.board.find(field(params, "job", str))
        job.scope.cancel()
        await job.ended()
        return {"job": describe_job(job)}

    async def cancel(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Stop the job that was asked for with these parameters, or with `what` alone all that were; what arrived is kept.

        Answers when it has stopped.
        """
        what, kind = field(params, "what", str), field(params, "kind", JobKind, "pull")
        found = [job for job in self._node.board.active() if (job.spec.what, job.spec.kind) == (what, kind)]
        if params.keys() - {"what", "kind"}:
            spec = _spec_of_add(params) if kind == "add" else _spec_of_pull(params)
            found = [job for job in found if job.spec == spec]
        for job in found:
            job.scope.cancel()
        for job in found:  # whoever is told that it stopped must not find it running
            await job.ended()
        return {"cancelled": len(found)}

    # ---- what transfers may do

    async def pause(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Stop all transfers, for `seconds` when given."""
        seconds = field(params, "seconds", Seconds | None, None)
        return describe_allowance(await self._node.regulator.pause(seconds))

    async def resume(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Go on."""
        return describe_allowance(await self._node.regulator.resume())

    async def reload(self, params: Params, emit: Emit) -> Mapping[str, Any]:
        """Read the configuration again; live keys are in force on return."""
        done = await self._node.reload()
        return {"applied": done.applied, "restart": done.restart, "sources": done.sources}


def _spec_of_add(params: Params) -> JobSpec:
    what, beside = field(params, "what", str), field(params, "beside", str | None, None)
    if not all(os.path.isabs(path) for path in (what, beside) if path is not None):
        raise UsageError("`what` and `beside` must be absolute paths")
    return JobSpec("add", what, link=field(params, "link", bool, True), beside=beside)


def _spec_of_pull(params: Params) -> JobSpec:
    what, quant = field(params, "what", str), field(params, "quant", str | None, None)
    layers, mmproj = field(params, "layers", str | None, None), field(params, "mmproj", bool | None, None)
    if layers is not None:
        parse_layers(layers)  # before a job is made of nonsense
    allow = field(params, "allow_untrusted", bool, False)
    return JobSpec("pull", what, quant=quant, mmproj=mmproj, allow_untrusted=allow, layers=layers)

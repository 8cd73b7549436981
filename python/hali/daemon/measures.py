"""What GET /metrics tells beyond the API's own counters. Read when it is asked for: snapshots and one SQL count, nothing walks a disk.

Each group is a pure function of a snapshot; `catalogue` calls them with empty ones, so docs/metrics.md knows all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, get_args

import anyio.to_thread

from hali.api.metrics import Label, Measure
from hali.engine.entry import EngineStatus
from hali.hashing import HASHED
from hali.pipeline.router import RouterStats
from hali.runtime.channels import Channel
from hali.runtime.supervisor import Status
from hali.share.job import JobKind
from hali.share.tally import Tally
from hali.transfer.events import Totals
from hali.transfer.lan import Traffic

if TYPE_CHECKING:
    from hali.daemon.node import Node
    from hali.share.library import Entry

Values = Mapping[Label, float]
Ended = Mapping[tuple[str, str], int]


async def measures(node: Node) -> list[Measure]:
    """All of them; of a part that does not run now there are none."""
    session, router, lan = node.torrents.value, node.routers.value, node.lan.value
    jobs = [(job.spec.kind, job.progress.state) for job in node.board.active()]
    found = [*_engines(node.engines.list()), *_models(node.library.entries()), *_jobs(jobs, node.board.ended)]
    if router is not None:
        found += _router(router.stats())
    if session is not None:
        found += _torrents(await session.totals())
    if lan is not None:
        found += _lan(lan.traffic)
    found += [*_services(node.supervisor.statuses()), *_channels(node.channels())]
    if node.registry.servers:
        found += _outbox(await anyio.to_thread.run_sync(node.registry.outbox.counts))
    return [*found, *_transfers(node.tally), *_node(node.activity.seq, node.activity.events.readers)]


def catalogue() -> list[Measure]:
    """All that `measures` can tell, without values that mean anything."""
    return [
        *_engines(()),
        *_models(()),
        *_jobs((), {}),
        *_router(RouterStats(False, 0, 0, 0, 0, 0, 0)),
        *_torrents(Totals(0, 0, 0.0, 0.0, 0)),
        *_lan(Traffic(0, 0, 0, {}, {}, {}, 0, 0, 0, 0, None)),
        *_outbox({}),
        *_transfers(Tally()),
        *_services(()),
        *_channels({}),
        *_node(0, 0),
    ]


def _services(statuses: Sequence[Status]) -> Iterator[Measure]:
    yield Measure(
        "hali_service_up",
        "1 while the service is ready.",
        {s.name: float(s.state == "ready") for s in statuses},
        label="service",
    )
    restarts: Values = {s.name: s.restarts for s in statuses}
    yield Measure("hali_service_restarts", "Starts after a failure.", restarts, label="service", kind="counter")


def _channels(channels: Mapping[str, Channel]) -> Iterator[Measure]:
    depth: Values = {name: channel.depth for name, channel in channels.items()}
    yield Measure("hali_channel_depth", "Items that wait, for the slowest reader.", depth, label="channel")
    dropped: Values = {name: channel.dropped for name, channel in channels.items()}
    yield Measure("hali_channel_dropped", "Items that found no room.", dropped, label="channel", kind="counter")


def _router(stats: RouterStats) -> Iterator[Measure]:
    yield Measure("hali_queue_length", "Requests waiting for a turn.", {None: stats.queued})
    yield Measure("hali_running", "Requests being computed.", {None: stats.running})
    yield Measure("hali_retries", "Requests computed again after a crash.", {None: stats.retried}, kind="counter")


def _engines(engines: Sequence[EngineStatus]) -> Iterator[Measure]:
    """Labelled by the engines that are loaded, so by a handful of our own names."""
    yield Measure("hali_engines", "Engines in memory.", {None: len(engines)})

    def each(name: str, about: str, attribute: str) -> Measure:
        values = {e.model_id: getattr(e.stats, attribute) for e in engines}
        return Measure(name, about, {k: v for k, v in values.items() if v is not None}, label="engine")

    def sums(name: str, about: str, attribute: str) -> Measure:
        values: Values = {e.model_id: getattr(e.stats, attribute) for e in engines}
        return Measure(name, about, values, label="engine", kind="counter")

    yield each("hali_engine_sessions", "Sequences in use.", "sessions")
    yield each("hali_engine_sequences_free", "Sequences free.", "sequences_free")
    yield each("hali_engine_kv_used_tokens", "Tokens in the KV cache.", "kv_used")
    yield each("hali_engine_kv_total_tokens", "Room of the KV cache.", "kv_total")
    yield each("hali_engine_memory_bytes", "Memory of the engine's process.", "rss_bytes")
    yield each("hali_engine_prefix_cache_bytes", "Memory of texts kept for requests to come.", "cached_bytes")
    yield each("hali_engine_tokens_per_second", "Sampled now, all sequences together; none while idle.", "tokens_per_s")
    yield sums("hali_engine_prompt_tokens", "Prompt tokens computed.", "prompt_tokens")
    yield sums("hali_engine_completion_tokens", "Tokens sampled.", "completion_tokens")
    yield sums("hali_engine_prefix_hits", "Sequences that began with kept tokens.", "cache_hits")
    yield sums(
        "hali_engine_prefix_hit_tokens", "Prompt tokens that were kept and not computed again.", "cache_hit_tokens"
    )
    yield sums("hali_engine_preemptions", "Sequences put back because the KV cache was full.", "preempted")
    yield sums("hali_engine_drafted_tokens", "Tokens guessed ahead.", "drafted")
    yield sums("hali_engine_accepted_tokens", "Guessed tokens that were right.", "accepted")


def _models(entries: Iterable[Entry]) -> Iterator[Measure]:
    """By state: words of ours."""
    count, size = Counter[str](), 0
    for entry in entries:
        count[entry.state] += 1
        size += entry.record.meta.size
    states: Values = {state: number for state, number in count.items()}  # noqa: C416  # keys of another type
    yield Measure("hali_models", "Models of this node.", states, label="state")
    yield Measure("hali_model_bytes", "Size of this node's models.", {None: size})


def _jobs(active: Iterable[tuple[JobKind, str]], ended: Ended) -> Iterator[Measure]:
    now = dict[Label, float](Counter(active))
    # Zeros too: of a series that is born with its first failure Prometheus sees no increase.
    pairs = [(kind, how) for kind in get_args(JobKind) for how in ("finished", "cancelled", "failed")]
    past: dict[Label, float] = {pair: ended.get(pair, 0) for pair in pairs}
    yield Measure("hali_jobs", "Pulls and imports under way or waiting.", now, label=("kind", "state"))
    yield Measure("hali_jobs_ended", "Pulls and imports that ended.", past, label=("kind", "outcome"), kind="counter")


def _transfers(tally: Tally) -> Iterator[Measure]:
    came: Values = {source: tally.bytes[source] for source in ("http", "webseed", "lan", "torrent")}
    yield Measure(
        "hali_received_bytes", "Checked bytes of models, by who brought them.", came, label="source", kind="counter"
    )
    pieces: Values = {"verified": tally.verified, "failed": tally.failed}
    yield Measure("hali_pieces", "Pieces that came, by what their hash said.", pieces, label="verdict", kind="counter")
    yield Measure("hali_hashed_bytes", "Bytes hashed, each once.", {None: HASHED.bytes}, kind="counter")


def _torrents(totals: Totals) -> Iterator[Measure]:
    yield Measure("hali_torrent_peers", "Connected BitTorrent peers.", {None: totals.peers})
    moved: Values = {"received": totals.downloaded, "sent": totals.uploaded}
    yield Measure("hali_torrent_bytes", "Payload by BitTorrent.", moved, label="direction", kind="counter")
    rates: Values = {"received": totals.down_rate, "sent": totals.up_rate}
    yield Measure("hali_torrent_bytes_per_second", "Rates by BitTorrent.", rates, label="direction")


def _lan(lan: Traffic) -> Iterator[Measure]:
    packets: Values = {"received": lan.packets_in, "sent": lan.packets_out}
    yield Measure("hali_lan_packets", "Packets of the LAN discovery.", packets, label="direction", kind="counter")
    dropped: Values = {reason: number for reason, number in lan.dropped.items()}  # noqa: C416
    yield Measure(
        "hali_lan_packets_dropped", "Received packets that were not believed.", dropped, label="reason", kind="counter"
    )
    yield Measure("hali_lan_send_failures", "Packets that could not be sent.", {None: lan.send_failed}, kind="counter")
    yield Measure("hali_lan_nodes", "Other nodes on the LAN.", {None: lan.nodes})
    yield Measure("hali_lan_models", "Models that other nodes on the LAN offer.", {None: lan.models})


def _outbox(rows: Mapping[str, int]) -> Iterator[Measure]:
    values: Values = {state: rows.get(state, 0) for state in ("waiting", "refused")}
    yield Measure("hali_registry_outbox_messages", "Messages for registries.", values, label="state")


def _node(told: int, viewers: int) -> Iterator[Measure]:
    yield Measure("hali_activity_events", "Events told on the activity bus.", {None: told}, kind="counter")
    yield Measure("hali_activity_viewers", "Readers of the activity bus.", {None: viewers})

"""What GET /metrics tells beyond the API's own counters: queue, engines, torrents, LAN. Read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from hali.api.metrics import Measure
from hali.engine.entry import EngineStatus
from hali.pipeline.router import RouterStats
from hali.runtime.channels import Channel
from hali.runtime.supervisor import Status
from hali.transfer.events import Totals
from hali.transfer.lan import Traffic

if TYPE_CHECKING:
    from hali.daemon.node import Node

Values = Mapping[str | None, float]


async def measures(node: Node) -> list[Measure]:
    """All of them; of a part that does not run now there are none."""
    session, router, lan = node.torrents.value, node.routers.value, node.lan.value
    found = [*_engines(node.engines.list())]
    if router is not None:
        found += _router(router.stats())
    if session is not None:
        found += _torrents(await session.totals())
    if lan is not None:
        found += _lan(lan.traffic)
    found += [*_services(node.supervisor.statuses()), *_channels(node.channels())]
    return [*found, Measure("hali_models", "Models of this node.", {None: len(node.library.entries())})]


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

    yield each("hali_engine_sessions", "Sequences in use.", "sessions")
    yield each("hali_engine_sequences_free", "Sequences free.", "sequences_free")
    yield each("hali_engine_kv_used_tokens", "Tokens in the KV cache.", "kv_used")
    yield each("hali_engine_kv_total_tokens", "Room of the KV cache.", "kv_total")
    yield each("hali_engine_memory_bytes", "Memory of the process.", "rss_bytes")


def _torrents(totals: Totals) -> Iterator[Measure]:
    yield Measure("hali_torrent_peers", "Connected BitTorrent peers.", {None: totals.peers})
    moved: Values = {"received": totals.downloaded, "sent": totals.uploaded}
    yield Measure("hali_torrent_bytes", "Payload by BitTorrent.", moved, label="direction", kind="counter")
    rates: Values = {"received": totals.down_rate, "sent": totals.up_rate}
    yield Measure("hali_torrent_bytes_per_second", "Rates by BitTorrent.", rates, label="direction")


def _lan(lan: Traffic) -> Iterator[Measure]:
    packets: Values = {"received": lan.packets_in, "sent": lan.packets_out, "dropped": sum(lan.dropped.values())}
    yield Measure("hali_lan_packets", "Packets of the LAN discovery.", packets, label="fate", kind="counter")
    yield Measure("hali_lan_nodes", "Other nodes on the LAN.", {None: lan.nodes})
    yield Measure("hali_lan_models", "Models that they offer.", {None: lan.models})

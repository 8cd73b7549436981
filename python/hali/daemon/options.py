"""What each part of the node gets of the settings. Pure, but for the size of this machine's memory."""

from __future__ import annotations

from hali.api.budget import Limits
from hali.config.schema import Settings
from hali.engine.options import DEFAULT_CONTEXT, EngineOptions
from hali.engine.pool import PoolLimits
from hali.model.errors import ConfigError
from hali.model.units import GB
from hali.pipeline.router import RouterLimits
from hali.runtime.memory import total_ram
from hali.transfer.lan import LanOptions
from hali.transfer.options import SessionOptions
from hali.transfer.throttle import Caps, whole


def engine_options(settings: Settings) -> EngineOptions:
    """The engine's own options from the keys `engine.*`."""
    engine = settings.engine
    return EngineOptions(
        n_ctx=engine.n_ctx,
        n_seq_max=engine.slots,
        threads=engine.threads,
        gpu_layers=None if engine.gpu_layers == "auto" else engine.gpu_layers,
        prefix_cache=engine.prefix_cache,
        speculation=engine.speculation,
    )


def router_limits(settings: Settings) -> RouterLimits:
    """The router's own bounds from the keys `engine.slots` and `api.queue*`."""
    api = settings.api
    return RouterLimits(
        running=settings.engine.slots, queued=api.queue, queued_per_key=api.queue_per_key, queue_wait_s=api.queue_wait_s
    )


def default_limits(settings: Settings) -> Limits:
    """Of keys that have none of their own, and of all who need no key together."""
    return Limits(
        requests_per_minute=settings.api.requests_per_minute, tokens_per_minute=settings.api.tokens_per_minute
    )


def pool_limits(settings: Settings) -> PoolLimits:
    """The pool's own limits from the keys `engine.*`."""
    engine, total = settings.engine, total_ram()
    # A tenth, and at least 1 GB, is left to the system, the page cache and this daemon.
    rest = None if total is None else max(total // 2, total - max(total // 10, GB))
    return PoolLimits(
        max_engines=engine.max_loaded,
        memory_bytes=round(engine.memory_gb * GB) or rest,
        keep_alive_s=None if engine.keep_alive < 0 else engine.keep_alive,
    )


def kv_tokens(settings: Settings) -> int:
    """Tokens of the KV cache that a model is loaded with, as the engine chooses it, before its own context is known."""
    return (settings.engine.n_ctx or DEFAULT_CONTEXT) * min(2, settings.engine.slots)


def caps_of(settings: Settings) -> Caps:
    """The caps of the keys `max_*_mbps`."""
    return Caps(upload_mbps=settings.max_upload_mbps, download_mbps=settings.max_download_mbps)


def torrent_options(settings: Settings, remembered_port: int, caps: Caps) -> SessionOptions:
    """The session's own options from the keys `torrent_*`, `torrent.*` and the caps in force."""
    return SessionOptions(
        port=settings.torrent_port,
        preferred_port=remembered_port,
        lsd=settings.torrent.lsd,
        dht=settings.torrent.dht,
        dht_bootstrap=settings.torrent.dht_bootstrap,
        upnp=settings.torrent.upnp,
        upload_rate=whole(caps.upload),
        download_rate=whole(caps.download),
    )


def lan_options(settings: Settings) -> LanOptions:
    """The announcer's own options from the keys `lan.*`; ConfigError when HMAC is on without a secret."""
    lan = settings.lan
    if lan.hmac_enabled and not lan.hmac_shared_secret:
        raise ConfigError(
            "lan.hmac_enabled needs lan.hmac_shared_secret",
            hint="`openssl rand -hex 32` makes one; set the same on every node",
        )
    return LanOptions(
        port=lan.port, peers=lan.peers, secret=bytes.fromhex(lan.hmac_shared_secret) if lan.hmac_enabled else None
    )

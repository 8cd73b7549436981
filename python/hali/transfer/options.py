"""How the BitTorrent session is set up, and why each libtorrent setting differs from its default."""

from __future__ import annotations

import os
import secrets
import string
from typing import TYPE_CHECKING

import libtorrent as lt
import msgspec

from hali._version import __version__

if TYPE_CHECKING:
    from libtorrent import settings_pack

# Block alerts come 1,000 times a piece; they are switched on only while somebody has to be blamed for a bad piece.
_CATEGORY = lt.alert_category
ALERTS: int = (
    _CATEGORY.error
    | _CATEGORY.status
    | _CATEGORY.storage
    | _CATEGORY.peer
    | _CATEGORY.connect
    | _CATEGORY.piece_progress
)
# New peers are connected to on a tick; the default of 500 ms would be most of the time a small model takes.
TICK_MS = 100
# Under a cap a peer gets its bytes when it may have all it asked for, or after 20 ticks: at 100 ms bursts of two seconds (measured).
CAPPED_TICK_MS = 25

CLIENT = b"-HA0100-"  # how peer ids of ours begin (BEP 20)
ALERTS_WITH_BLOCKS: int = ALERTS | _CATEGORY.block_progress


class SessionOptions(msgspec.Struct, frozen=True):
    """The session's options. Rates are bytes per second over all torrents together, LAN included; 0 = unlimited."""

    port: int = 0  # TCP; 0 = any free one …
    preferred_port: int = 0  # … but this one if it is still free: the one of last time
    addresses: tuple[str, ...] = ("0.0.0.0", "::")
    lsd: bool = True
    pex: bool = True
    dht: bool = False
    dht_bootstrap: tuple[str, ...] = ()  # host:port
    upnp: bool = False  # also NAT-PMP
    utp: bool = False  # libtorrent prefers it, and it moved 8 MB/s where TCP moved 140 (loopback, 2 cores)
    upload_rate: int = 0
    download_rate: int = 0
    connections: int = 200  # sockets, each up to 2 MB of buffers
    user_agent: str = f"hali/{__version__}"


def new_peer_id() -> bytes:
    """Another one for each session: nodes that fetch the same share out the pieces by it (stripes.py)."""
    return CLIENT + "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(12)).encode()


def settings(options: SessionOptions, port: int, peer_id: bytes) -> settings_pack:
    """libtorrent's settings for `options`, listening on `port` of every address."""
    return {
        "listen_interfaces": ",".join(_interface(address, port) for address in options.addresses),
        # The port is announced on the LAN and written in magnets of others: another one than asked for is an error, not a fallback.
        "listen_system_port_fallback": False,
        "max_retry_port_bind": 0,
        "user_agent": options.user_agent,
        "peer_fingerprint": peer_id.decode(),  # libtorrent adds something random only to what is shorter
        "enable_lsd": options.lsd,
        "enable_dht": options.dht,
        "dht_bootstrap_nodes": ",".join(options.dht_bootstrap),
        "enable_upnp": options.upnp,
        "enable_natpmp": options.upnp,
        "enable_incoming_utp": options.utp,
        "enable_outgoing_utp": options.utp,
        "connections_limit": options.connections,
        **rates(options.upload_rate, options.download_rate),
        **_ALWAYS,
    }


def rates(upload: int, download: int) -> settings_pack:
    """The part of the settings that may change while the session runs."""
    capped = upload > 0 or download > 0
    return {
        "upload_rate_limit": max(0, upload),
        "download_rate_limit": max(0, download),
        "tick_interval": CAPPED_TICK_MS if capped else TICK_MS,
    }


def _interface(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


_ALWAYS: settings_pack = {
    "alert_mask": ALERTS,
    # The queue holds what comes between two wake-ups of one thread; a burst of small pieces must not lose an alert.
    "alert_queue_size": 100_000,
    # Several daemons live on one address: on a developer's machine, in containers, behind one NAT.
    "allow_multiple_connections_per_ip": True,
    # A client that dropped us to restart with the metadata it just got (aria2 does) is back within seconds, not in 60.
    "min_reconnect_time": 1,
    # Rate caps are promised for all transfers, and the LAN is where most of ours are.
    "ignore_limits_on_local_network": False,
    # More nodes of one LAN than the default of 8 may pull at once.
    "unchoke_slots_limit": 32,
    # Blocks of one piece come from everybody who has it, so that it is whole, and can be passed on, sooner: ten nodes that
    # fetch at once need a quarter less time than with pieces that belong to one peer (measured).
    "whole_pieces_threshold": 0,
    "initial_picker_threshold": 0,  # the first pieces are no others than stripes.py says
    # Blocks that one peer may be asked for ahead, 4 MiB; what it says it takes counts, in libtorrent. With the usual 2,000, nine
    # nodes that fetch from one seed over 1 Gbit/s had asked it for 32 MiB each of what others had by the time that it came.
    "max_allowed_in_request_queue": 256,
    "max_out_request_queue": 256,
    # What a peer sends in so many seconds is asked of it ahead (3 are usual). Where both links are full a block takes three seconds
    # to come, and who then has three seconds' worth on the way never gets faster: among nine nodes half of the connections did not.
    "request_queue_time": 10,
    "hashing_threads": min(4, os.cpu_count() or 1),
    # We decide ourselves when order matters (fetching.py).
    "auto_sequential": False,
    # An info dictionary with 200,000 piece hashes of 20 bytes.
    "max_metadata_size": 4 * 1024 * 1024 + 64 * 1024,
    "max_piece_count": 200_000,
    "ssrf_mitigation": True,
    "validate_https_trackers": True,
    "allow_idna": False,
    # A magnet may name any address as a peer: not the ports where servers of the system live.
    "no_connect_privileged_ports": True,
    "dht_enforce_node_id": True,
}

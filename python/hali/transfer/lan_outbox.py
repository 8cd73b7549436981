"""What leaves this node: paced, in sequence, over every interface and to the peers in other subnets."""

from __future__ import annotations

import socket

import anyio
import msgspec

from hali.runtime.log import get_logger
from hali.transfer.lan_net import GROUP4, GROUP6, Interface, LanSockets, addresses_of, interfaces
from hali.transfer.lan_packets import Speaker
from hali.wire.lan import Packet

log = get_logger(__name__)

PACE, PACE_BURST = 8.0, 16.0  # packets per second and at once; receivers drop above 10 and 20
RESOLVE_TIMEOUT = 5.0  # for all names of `lan.peers` together
MAX_ADDRESSES_PER_PEER = 4


class LanOptions(msgspec.Struct, frozen=True):
    """Settings of LAN presence; `secret` is the shared HMAC key when `lan.hmac_enabled`."""

    port: int = 4269
    peers: tuple[str, ...] = ()  # host or host:port in other subnets; reaches one daemon of each host
    secret: bytes | None = None
    interval: float = 30.0
    jitter: float = 0.2
    group4: str = GROUP4
    group6: str = GROUP6
    interfaces: tuple[str, ...] | None = None  # names for multicast; None: all that can, and loopback
    v1: bool = True  # understand announcements of the existing hali


class Outbox:
    """The sockets, interfaces and peers of a running node. Opens what can be opened; see `degraded` for the rest."""

    def __init__(self, speaker: Speaker, options: LanOptions) -> None:
        self._speaker, self._options = speaker, options
        self._sockets = LanSockets(options.port, options.group4, options.group6)
        self._listening: set[socket.socket] = set()
        self._interfaces: tuple[Interface, ...] = ()
        self._peers: tuple[tuple[str, int], ...] = ()
        self._level, self._level_at = PACE_BURST, 0.0
        self._sending = anyio.Lock()
        self.counters = {"sent": 0, "send_failed": 0}

    @property
    def degraded(self) -> str | None:
        """Why we hear or reach less than we should; None if all is well."""
        if self._sockets.missing:
            return "cannot open " + ", ".join(self._sockets.missing)
        return None if self._sockets.hears_multicast else "no interface takes part in multicast"

    @property
    def interface_names(self) -> list[str]:
        """Where multicast goes."""
        return [interface.name for interface in self._interfaces]

    @property
    def has_peers(self) -> bool:
        """True if there are nodes to reach by unicast."""
        return bool(self._peers)

    def refresh(self) -> tuple[bool, list[socket.socket]]:
        """Looks at interfaces and sockets again: has something changed, and sockets to listen on from now on."""
        every, only = interfaces(), self._options.interfaces
        found = tuple(i for i in every if only is None or i.name in only)
        fresh = [s for s in self._sockets.own + self._sockets.open_shared() if s not in self._listening]
        self._listening.update(fresh)
        self._sockets.join(found)
        self._speaker.set_addresses(addresses_of(every))
        changed, self._interfaces = found != self._interfaces, found
        return changed, fresh

    async def resolve_peers(self) -> None:
        """Looks up `lan.peers` again; names that cannot be resolved are logged and left out."""
        resolved: list[tuple[str, int]] = []
        with anyio.move_on_after(RESOLVE_TIMEOUT):
            for peer in self._options.peers:
                resolved += await self._resolve(peer)
        if self._options.peers:
            self._peers = tuple(dict.fromkeys(resolved))

    async def send(self, packet: Packet, *, multicast: bool = True, to_peers: bool = True) -> None:
        """Sends when the pace allows; sequence numbers leave in order. Failed sends are counted, not raised."""
        async with self._sending:
            await self._keep_pace()
            self.send_now(packet, multicast=multicast, to_peers=to_peers)

    def send_now(self, packet: Packet, *, multicast: bool = True, to_peers: bool = True) -> None:
        """Sends at once: for the goodbye, which cannot wait."""
        datagram = self._speaker.datagram(packet)
        sent = self._sockets.multicast(datagram, self._interfaces) if multicast else 0
        if to_peers:
            sent += sum(self._sockets.unicast(datagram, host, port) for host, port in self._peers)
        self.counters["sent" if sent else "send_failed"] += 1

    async def reply(self, packet: Packet, to: tuple[str, int], limit: int) -> None:
        """Sends to one address, unless that would be more than `limit` bytes."""
        async with self._sending:
            await self._keep_pace()
            datagram = self._speaker.datagram(packet)
            if len(datagram) <= limit:
                self.counters["sent" if self._sockets.unicast(datagram, *to) else "send_failed"] += 1

    def close(self) -> None:
        """Closes the sockets."""
        self._sockets.close()

    async def _resolve(self, peer: str) -> list[tuple[str, int]]:
        try:
            host, port = split_peer(peer, self._options.port)
            answers = await anyio.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, ValueError) as error:  # a bad port or name is a ValueError
            log.warning("lan.peer_unresolved", peer=peer, error=str(error))
            return []
        return [(str(sockaddr[0]), port) for *_, sockaddr in answers[:MAX_ADDRESSES_PER_PEER]]

    async def _keep_pace(self) -> None:
        now = anyio.current_time()
        self._level = min(PACE_BURST, self._level + (now - self._level_at) * PACE)
        self._level_at = now
        if self._level < 1.0:
            await anyio.sleep((1.0 - self._level) / PACE)
            self._level, self._level_at = 1.0, anyio.current_time()
        self._level -= 1.0


def split_peer(text: str, default_port: int) -> tuple[str, int]:
    """`host`, `host:port`, `[v6]:port` or a bare IPv6 address; ValueError for a bad port."""
    host, port = text.strip(), str(default_port)
    if host.startswith("["):
        host, _, rest = host[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else port
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    number = int(port)
    if not 0 < number < 65_536:
        raise ValueError(f"no port: {number}")
    return host, number

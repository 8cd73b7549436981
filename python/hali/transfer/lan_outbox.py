"""What leaves this node: paced, in sequence, over every interface and to the peers in other subnets."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import anyio
import msgspec

from hali.config.peers import split_peer
from hali.runtime.log import get_logger
from hali.transfer.lan_interfaces import Interface, Reach, addresses_of, groups_of, interfaces
from hali.transfer.lan_net import GROUP4, GROUP6, LanSockets
from hali.transfer.lan_packets import Speaker
from hali.wire.lan import MAX_ADDRESSES, MAX_PACKET, Packet

log = get_logger(__name__)

PACE, PACE_BURST = 8.0, 16.0  # packets per second and at once; receivers drop above 10 and 20
RESERVE = 8.0  # packets that a long announcement leaves for answers and news, which cannot wait for its end
RESOLVE_TIMEOUT = 5.0  # for all names of `lan.peers` together
MAX_ADDRESSES_PER_PEER = 4

Group = tuple[Sequence[Interface], list[str]]


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
        self._every: tuple[Interface, ...] = ()
        self._interfaces: tuple[Interface, ...] = ()
        self._groups: list[Group] = []
        self._resolved: dict[str, list[tuple[str, int]]] = {}
        self._peers: tuple[tuple[str, int], ...] = ()
        self._level, self._level_at = PACE_BURST, 0.0
        self.sent = 0
        self.failed = 0

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

    def is_peer(self, host: str) -> bool:
        """True for an address of `lan.peers`."""
        return any(host == address for address, _ in self._peers)

    @property
    def reach(self) -> Reach:
        """Which addresses are near, now."""
        return Reach(self._every, [host for host, _ in self._peers])

    def refresh(self) -> tuple[bool, list[socket.socket]]:
        """Looks at interfaces and sockets again: has something changed, and sockets to listen on from now on."""
        every, only = interfaces(), self._options.interfaces
        found = tuple(i for i in every if only is None or i.name in only)
        fresh = [s for s in self._sockets.own + self._sockets.open_shared() if s not in self._listening]
        self._listening.update(fresh)
        self._sockets.join(found)
        changed = (every, found) != (self._every, self._interfaces)
        if changed:
            self._every, self._interfaces = every, found
            self._groups = groups_of(found, addresses_of(every), MAX_ADDRESSES)
            self._speaker.set_addresses(addresses_of(every), *(listed for _, listed in self._groups))
        return changed, fresh

    async def resolve_peers(self) -> bool:
        """Looks up `lan.peers` again: has something changed? A name that cannot be resolved now means what it meant."""
        with anyio.move_on_after(RESOLVE_TIMEOUT):
            for peer in self._options.peers:
                if resolved := await self._resolve(peer):
                    self._resolved[peer] = resolved
        before = self._peers
        self._peers = tuple(dict.fromkeys(address for found in self._resolved.values() for address in found))
        return self._peers != before

    async def send(self, packet: Packet, *, multicast: bool = True, to_peers: bool = True, bulk: bool = False) -> None:
        """Sends when the pace allows, `bulk` only when some more could follow. Failed sends are counted, not raised."""
        await self._keep_pace(max(1, len(self._groups)), RESERVE if bulk else 0.0)
        self.send_now(packet, multicast=multicast, to_peers=to_peers)

    def send_now(self, packet: Packet, *, multicast: bool = True, to_peers: bool = True) -> None:
        """Sends at once: for the goodbye, which cannot wait."""
        sent = 0
        for members, addresses in self._groups if multicast else ():
            sent += self._sockets.multicast(self._speaker.datagram(packet, addresses), members)
        for host, port in self._peers if to_peers else ():
            sent += self._unicast(packet, host, port, MAX_PACKET)
        self._count(sent)

    async def send_lean(self, packet: Packet, limit: int, *, bulk: bool = False) -> None:
        """Multicasts `packet` with no more addresses than each link needs, where that makes at most `limit` bytes."""
        await self._keep_pace(1, RESERVE if bulk else 0.0)
        sent = 0
        for interface in self._interfaces:
            datagram = self._speaker.datagram(packet, interface.sources)
            if len(datagram) <= limit:
                sent += self._sockets.multicast(datagram, [interface])
        self._count(sent)

    async def answer(self, packet: Packet, to: tuple[str, int] | None, limit: int, *, bulk: bool = False) -> None:
        """Sends to one address (None: to the groups), unless that would be more than `limit` bytes."""
        await self._keep_pace(1, RESERVE if bulk else 0.0)
        if to is not None:
            self._count(self._unicast(packet, *to, limit))
            return
        sent = 0
        for members, addresses in self._groups:
            datagram = self._speaker.datagram(packet, addresses)
            if len(datagram) <= limit:
                sent += self._sockets.multicast(datagram, members)
        self._count(sent)

    def close(self) -> None:
        """Closes the sockets."""
        self._sockets.close()

    def _unicast(self, packet: Packet, host: str, port: int, limit: int) -> bool:
        source = self._sockets.source_for(host)
        first = [] if source is None else [source]
        datagram = self._speaker.datagram(packet, dict.fromkeys(first + addresses_of(self._every)))
        if len(datagram) > limit:
            datagram = self._speaker.datagram(packet, first)
        return len(datagram) <= limit and self._sockets.unicast(datagram, host, port)

    def _count(self, sent: int) -> None:
        if sent:
            self.sent += 1
        else:
            self.failed += 1

    async def _resolve(self, peer: str) -> list[tuple[str, int]]:
        try:
            host, port = split_peer(peer, self._options.port)
            answers = await anyio.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except (OSError, ValueError) as error:  # a name that IDNA does not take is a ValueError
            log.warning("lan.peer_unresolved", peer=peer, error=str(error))
            return []
        return [(str(sockaddr[0]), port) for *_, sockaddr in answers[:MAX_ADDRESSES_PER_PEER]]

    async def _keep_pace(self, packets: int, reserve: float = 0.0) -> None:
        while True:
            now = anyio.current_time()
            self._level = min(PACE_BURST, self._level + (now - self._level_at) * PACE)
            self._level_at = now
            # A machine with very many links may owe more than the burst at once; it pays afterwards.
            missing = min(packets + reserve, PACE_BURST) - self._level
            if missing <= 0:
                self._level -= packets
                return
            await anyio.sleep(missing / PACE)

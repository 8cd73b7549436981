"""The network interfaces of this machine, their addresses, and which other addresses are near. Nothing here blocks."""

from __future__ import annotations

import array
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

_SIOCGIFCONF, _SIOCGIFFLAGS, _SIOCGIFNETMASK = 0x8912, 0x8913, 0x891B
_IFF_UP, _IFF_BROADCAST, _IFF_LOOPBACK, _IFF_RUNNING, _IFF_MULTICAST = 0x1, 0x2, 0x8, 0x40, 0x1000
_IFA_F_TENTATIVE = 0x40
_IFREQ = 40  # bytes of struct ifreq on 64-bit Linux
_MAX_INTERFACES = 128

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Interface(msgspec.Struct, frozen=True):
    """A network interface that is up, with its addresses; IPv6 link-local ones without scope."""

    index: int
    name: str
    v4: tuple[str, ...]
    v6: tuple[str, ...]
    networks: tuple[Network, ...] = ()  # what is reached over it without a router

    @property
    def sources(self) -> tuple[str, ...]:
        """The addresses that its multicasts come from: the first IPv4 one, and those of the link (RFC 6724, rule 2)."""
        links = tuple(a for a in self.v6 if a.startswith("fe80"))
        return self.v4[:1] + (links or self.v6[:1])


class Reach:
    """Tells near addresses from far ones. Far and public ones are believed only if `peers` names them."""

    def __init__(self, found: Iterable[Interface] = (), peers: Iterable[str] = ()) -> None:
        interfaces = tuple(found)
        self._mine = frozenset(a for i in interfaces for a in i.v4 + i.v6)
        self._networks = tuple(n for i in interfaces for n in i.networks)
        self._peers = frozenset(peers)

    def is_mine(self, address: str) -> bool:
        """True for an address of this machine; not for groups and broadcasts."""
        return address.partition("%")[0] in self._mine

    def is_on_link(self, host: str) -> bool:
        """True if no router is between `host` and us, as far as addresses can tell."""
        address = ipaddress.ip_address(host.partition("%")[0])
        return address.is_link_local or any(address in network for network in self._networks)

    def is_near(self, host: str) -> bool:
        """True for our own networks, private addresses (another subnet of the site) and `lan.peers`."""
        plain = host.partition("%")[0]
        return plain in self._peers or not ipaddress.ip_address(plain).is_global or self.is_on_link(plain)


def interfaces() -> tuple[Interface, ...]:
    """Interfaces that are up, have an address and can multicast, and loopback."""
    v4, v6 = _ipv4_addresses(), _ipv6_addresses()
    found = []
    for index, name in socket.if_nameindex():
        flags = _flags(name)
        usable = flags & _IFF_UP and flags & (_IFF_MULTICAST | _IFF_LOOPBACK)
        if usable and (name in v4 or name in v6):
            found.append(_interface(index, name, v4.get(name, []), v6.get(name, [])))
    return tuple(found[:_MAX_INTERFACES])


def is_connected(interface: Interface) -> bool:
    """False without a cable, a radio or, of a bridge, a member: libtorrent listens there as soon as there is one."""
    return bool(_flags(interface.name) & _IFF_RUNNING)


def links_without_multicast() -> list[str]:
    """Names of Ethernets and the like that are up and have an address, with multicast switched off; tunnels never have it."""
    addressed = _ipv4_addresses().keys() | _ipv6_addresses().keys()
    flags = {name: _flags(name) for _, name in socket.if_nameindex() if name in addressed}
    wanted = _IFF_UP | _IFF_BROADCAST
    return sorted(name for name, each in flags.items() if each & wanted == wanted and not each & _IFF_MULTICAST)


def _interface(index: int, name: str, v4: list[_Address], v6: list[_Address]) -> Interface:
    networks = tuple(ipaddress.ip_network(f"{a}/{length}", strict=False) for a, length in v4 + v6)
    return Interface(index, name, tuple(a for a, _ in v4), tuple(a for a, _ in v6), networks)


def addresses_of(found: Iterable[Interface]) -> list[str]:
    """All addresses, those that multicasts come from first, then IPv4 before IPv6: a cut list keeps the useful ones."""
    every = list(found)
    rest = [a for i in every for a in i.v4] + [a for i in every for a in i.v6]
    return list(dict.fromkeys([a for i in every for a in i.sources] + rest))


def groups_of(
    found: Sequence[Interface], every: Sequence[str], most: int
) -> list[tuple[Sequence[Interface], list[str]]]:
    """Interfaces that can share a packet which lists `most` addresses, with that list: the sources of its multicasts first.

    One group nearly always; a machine with many bridges has more, and each link hears the packets that list its source.
    """
    groups: list[tuple[Sequence[Interface], list[str]]] = []
    for interface in found:
        members, listed = groups[-1] if groups else ((), [])
        together = list(dict.fromkeys([*listed, *interface.sources]))
        if groups and len(together) <= most:
            groups[-1] = ([*members, interface], together)
        else:
            groups.append(([interface], list(interface.sources[:most])))
    return [(members, list(dict.fromkeys([*listed, *every]))[:most]) for members, listed in groups]


_Address = tuple[str, int | str]  # with the length of its network's prefix, or its mask


def _flags(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16s24x", name.encode()[:15]))
        except OSError:
            return 0
    return int(struct.unpack_from("H", answer, 16)[0])


def _ipv4_addresses() -> dict[str, list[_Address]]:
    room = array.array("B", bytes(_IFREQ * _MAX_INTERFACES))
    found: dict[str, list[_Address]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFCONF, struct.pack("iL", len(room), room.buffer_info()[0]))
        except OSError:
            return {}
        for offset in range(0, struct.unpack_from("i", answer)[0], _IFREQ):
            request = bytes(room[offset : offset + _IFREQ])
            name = request[:16].partition(b"\0")[0].decode(errors="replace").partition(":")[0]
            found.setdefault(name, []).append((socket.inet_ntoa(request[20:24]), _netmask(sock, request)))
    return found


def _netmask(sock: socket.socket, request: bytes) -> str:
    """Of the address in `request`: the kernel looks for name and address both, so secondary addresses have theirs."""
    try:
        return socket.inet_ntoa(fcntl.ioctl(sock, _SIOCGIFNETMASK, request)[20:24])
    except OSError:  # gone in between
        return "255.255.255.255"


def _ipv6_addresses() -> dict[str, list[_Address]]:
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:  # no IPv6
        return {}
    found: dict[str, list[_Address]] = {}
    for line in lines:
        digits, _, length, _, flags, name = line.split()
        if int(flags, 16) & _IFA_F_TENTATIVE:
            continue  # nothing leaves from it yet (RFC 4862, 5.4); it is an interface's news when something does
        address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
        found.setdefault(name, []).append((address, int(length, 16)))
    return found

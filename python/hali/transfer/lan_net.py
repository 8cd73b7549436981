"""Network interfaces and the UDP sockets of LAN announcements. Nothing here blocks; nothing here knows packets.

Two kinds of sockets. The *shared* ones are bound to the announcement port and join the groups; any number of daemons on
a machine may have them, and each hears every multicast. A unicast datagram to that port reaches only one of them, so
whatever wants an answer is sent from the daemon's *own* sockets on a free port, and unicast answers go there.
"""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from hali.runtime.log import get_logger

log = get_logger(__name__)

GROUP4 = "239.192.42.1"  # organisation-local scope (RFC 2365); fixed by the existing hali
GROUP6 = "ff12::6861:6c69"  # link-local, not assigned by IANA (RFC 4291, T flag); the last 32 bits spell "hali"

_SIOCGIFCONF, _SIOCGIFFLAGS = 0x8912, 0x8913
_IFF_UP, _IFF_LOOPBACK, _IFF_MULTICAST = 0x1, 0x8, 0x1000
_IFREQ = 40  # bytes of struct ifreq on 64-bit Linux
_MAX_INTERFACES = 128
_IP_MULTICAST_ALL = 49  # linux/in.h; not in the socket module
_RECEIVE_BUFFER = 256 * 1024  # a burst of 200 packets while the loop is busy


class Interface(msgspec.Struct, frozen=True):
    """A network interface that is up, with its addresses; IPv6 link-local ones without scope."""

    index: int
    name: str
    v4: tuple[str, ...]
    v6: tuple[str, ...]


def interfaces() -> tuple[Interface, ...]:
    """Interfaces that are up, have an address and can multicast, and loopback."""
    v4, v6 = _ipv4_addresses(), _ipv6_addresses()
    found = []
    for index, name in socket.if_nameindex():
        flags = _flags(name)
        usable = flags & _IFF_UP and flags & (_IFF_MULTICAST | _IFF_LOOPBACK)
        if usable and (name in v4 or name in v6):
            found.append(Interface(index, name, tuple(v4.get(name, ())), tuple(v6.get(name, ()))))
    return tuple(found[:_MAX_INTERFACES])


def addresses_of(found: Iterable[Interface]) -> list[str]:
    """All addresses: IPv4, IPv6, then IPv6 link-local ones, so that a cut list keeps the useful ones."""
    all4 = [a for i in found for a in i.v4]
    all6 = [a for i in found for a in i.v6]
    return all4 + sorted(all6, key=lambda a: a.startswith("fe80"))


class LanSockets:
    """All sockets of one daemon. What cannot be opened is left out and named in `missing`."""

    def __init__(self, port: int, group4: str = GROUP4, group6: str = GROUP6) -> None:
        self._port, self._group4, self._group6 = port, group4, group6
        self.missing: list[str] = []
        self._shared4: socket.socket | None = None
        self._shared6: socket.socket | None = None
        self._own4 = self._open(socket.AF_INET, 0)
        self._own6 = self._open(socket.AF_INET6, 0)
        self._joined: set[tuple[int, str]] = set()

    @property
    def hears_multicast(self) -> bool:
        """True if at least one group was joined."""
        return bool(self._joined)

    def open_shared(self) -> list[socket.socket]:
        """Binds the announcement port where that has not worked yet; the sockets that are new."""
        fresh = []
        if self._shared4 is None and (sock := self._open(socket.AF_INET, self._port)) is not None:
            self._shared4 = sock
            fresh.append(sock)
        if self._shared6 is None and (sock := self._open(socket.AF_INET6, self._port)) is not None:
            self._shared6 = sock
            fresh.append(sock)
        return fresh

    @property
    def own(self) -> list[socket.socket]:
        """The sockets nobody else has."""
        return [s for s in (self._own4, self._own6) if s is not None]

    def join(self, found: Sequence[Interface]) -> None:
        """Joins the groups on interfaces where that has not been done; forgets interfaces that are gone."""
        self._joined &= {(i.index, v) for i in found for v in ("4", "6")}
        for interface in found:
            if interface.v4:
                self._join(self._shared4, interface, "4")
            if interface.v6:
                self._join(self._shared6, interface, "6")

    def multicast(self, datagram: bytes, found: Sequence[Interface]) -> int:
        """Sends to the groups over every interface; how many sends the kernel took."""
        sent = 0
        for interface in found:
            if self._own4 is not None and interface.v4:
                where = struct.pack("4s4si", bytes(4), socket.inet_aton(interface.v4[0]), interface.index)
                option = (socket.IPPROTO_IP, socket.IP_MULTICAST_IF, where)
                sent += self._send_over(self._own4, option, datagram, self._group4)
            if self._own6 is not None and interface.v6:
                option = (socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, struct.pack("i", interface.index))
                sent += self._send_over(self._own6, option, datagram, self._group6)
        return sent

    def unicast(self, datagram: bytes, host: str, port: int) -> bool:
        """Sends to one address (IPv6 link-local ones with scope); False if the kernel did not take it."""
        sock = self._own6 if ":" in host else self._own4
        try:
            return sock is not None and sock.sendto(datagram, (host, port)) > 0
        except OSError:
            return False

    def close(self) -> None:
        """Closes everything; leaving the groups is the kernel's part."""
        for sock in (self._shared4, self._shared6, self._own4, self._own6):
            if sock is not None:
                sock.close()
        self._shared4 = self._shared6 = self._own4 = self._own6 = None

    def _open(self, family: socket.AddressFamily, port: int) -> socket.socket | None:
        name = f"IPv{4 if family == socket.AF_INET else 6} port {port or 'of our own'}"
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            self._note_missing(name, error)
            return None
        try:
            self._configure(sock, family, port)
            sock.bind(("" if family == socket.AF_INET else "::", port))
        except OSError as error:
            sock.close()
            self._note_missing(name, error)
            return None
        if name in self.missing:
            self.missing.remove(name)
        return sock

    def _configure(self, sock: socket.socket, family: socket.AddressFamily, port: int) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if port:
            # REUSEADDR alone lets daemons of different users share the port on Linux; the BSDs want REUSEPORT as well.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)  # only the group we joined

    def _note_missing(self, name: str, error: OSError) -> None:
        if name not in self.missing:
            self.missing.append(name)
            level = log.debug if error.errno == errno.EAFNOSUPPORT else log.warning
            level("lan.no_socket", socket=name, error=str(error))

    def _join(self, sock: socket.socket | None, interface: Interface, version: str) -> None:
        if sock is None or (interface.index, version) in self._joined:
            return
        try:
            if version == "4":
                any_address = socket.inet_aton(self._group4) + bytes(4)
                request = any_address + struct.pack("i", interface.index)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
            else:
                request = socket.inet_pton(socket.AF_INET6, self._group6) + struct.pack("i", interface.index)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:  # that: already a member
                log.debug("lan.no_multicast", interface=interface.name, ip=version, error=str(error))
                return
        self._joined.add((interface.index, version))

    def _send_over(self, sock: socket.socket, interface: tuple[int, int, bytes], datagram: bytes, group: str) -> int:
        try:
            sock.setsockopt(*interface)
            sock.sendto(datagram, (group, self._port))
        except OSError:  # gone, full or without a route: the caller counts what was sent
            return 0
        return 1


def _flags(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack("16s24x", name.encode()[:15]))
        except OSError:
            return 0
    return int(struct.unpack_from("H", answer, 16)[0])


def _ipv4_addresses() -> dict[str, list[str]]:
    room = array.array("B", bytes(_IFREQ * _MAX_INTERFACES))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            answer = fcntl.ioctl(sock, _SIOCGIFCONF, struct.pack("iL", len(room), room.buffer_info()[0]))
        except OSError:
            return {}
    found: dict[str, list[str]] = {}
    for offset in range(0, struct.unpack_from("i", answer)[0], _IFREQ):
        name = bytes(room[offset : offset + 16]).partition(b"\0")[0].decode(errors="replace").partition(":")[0]
        found.setdefault(name, []).append(socket.inet_ntoa(bytes(room[offset + 20 : offset + 24])))
    return found


def _ipv6_addresses() -> dict[str, list[str]]:
    try:
        lines = Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:  # no IPv6
        return {}
    found: dict[str, list[str]] = {}
    for line in lines:
        digits, *_, name = line.split()
        found.setdefault(name, []).append(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)))
    return found

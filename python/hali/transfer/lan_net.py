"""The UDP sockets of LAN announcements. Nothing here blocks; nothing here knows packets.

Two kinds of sockets. The *shared* ones are bound to the announcement port and join the groups; any number of daemons on
a machine may have them, and each hears every multicast. A unicast datagram to that port reaches only one of them, so
whatever wants an answer is sent from the daemon's *own* sockets on a free port, and unicast answers go there.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence

import msgspec

from hali.runtime.log import get_logger
from hali.transfer.lan_interfaces import Interface

log = get_logger(__name__)

GROUP4 = "239.192.42.1"  # organisation-local scope (RFC 2365); fixed by the existing hali
GROUP6 = "ff12::6861:6c69"  # link-local, not assigned by IANA (RFC 4291, T flag); the last 32 bits spell "hali"

_IP_MULTICAST_ALL = 49  # linux/in.h; not in the socket module
_IP_PKTINFO = 8  # linux/in.h; in the socket module from Python 3.14 on
_RECEIVE_BUFFER = 256 * 1024  # a burst of 200 packets while the loop is busy
_LARGEST = 65_535  # bytes of a UDP datagram


class Incoming(msgspec.Struct, frozen=True):
    """One datagram, where it came from (IPv6 link-local hosts with scope), and the address it was sent to, if told."""

    datagram: bytes
    host: str
    port: int
    sent_to: str


def receive(sock: socket.socket) -> Incoming:
    """The next datagram; BlockingIOError when there is none, OSError for an ICMP answer to an earlier send."""
    datagram, ancillary, _, address = sock.recvmsg(_LARGEST, 128)
    host, port = str(address[0]), int(address[1])
    if len(address) == 4 and address[3] and "%" not in host:
        host = f"{host}%{address[3]}"
    return Incoming(datagram, host, port, _sent_to(ancillary))


def _sent_to(ancillary: list[tuple[int, int, bytes]]) -> str:
    for level, kind, value in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            return socket.inet_ntoa(value[8:12])  # struct in_pktinfo: index, local address, address of the header
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return socket.inet_ntop(socket.AF_INET6, value[:16])
    return ""


class LanSockets:
    """All sockets of one daemon. What cannot be opened is left out, and named in `missing` unless the kernel lacks the family."""

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

    def source_for(self, host: str) -> str | None:
        """The address that a datagram to `host` leaves from; None without a route."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.setblocking(False)
                probe.connect((host, self._port))  # asks the kernel for the route; sends nothing
                return str(probe.getsockname()[0]).partition("%")[0]
        except OSError:
            return None

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
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        if port:
            # REUSEADDR alone lets daemons of different users share the port on Linux; the BSDs want REUSEPORT as well.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)  # only the group we joined

    def _note_missing(self, name: str, error: OSError) -> None:
        if error.errno != errno.EAFNOSUPPORT and name not in self.missing:
            self.missing.append(name)
            log.warning("lan.no_socket", socket=name, error=str(error))

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

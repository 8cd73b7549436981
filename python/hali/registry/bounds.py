"""How much one client may cost the registry, and the gate that holds it to that."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from hali.model.errors import Overloaded
from hali.model.units import DAY_S, MIB
from hali.registry.limits import Limiter, Rate
from hali.transfer.metainfo import MAX_BYTES

BUSY_S = 5.0  # an ingest takes well under a second


class Bounds(msgspec.Struct, frozen=True):
    """Limits; times in seconds, sizes in bytes."""

    body: int = 256 * 1024  # a manifest of 64 files takes 20 KB
    torrent_body: int = MAX_BYTES * 4 // 3 + 64 * 1024  # the largest .torrent in base64, its head, and its signature
    torrents: int = 16  # bodies of that size at once: with what is made of them, 1 GB at most
    head: int = 16 * 1024  # request line and headers
    # From the first byte, or connecting, to the end of the body; a torrent of 1 MB needs 0.6 Mbit/s.
    request_s: float = 15.0
    write_s: float = 30.0  # for a reader that lags to take what is buffered
    connections: int = 1024  # in all …
    per_address: int = 32  # … and from one address
    reads: Rate = Rate(120, 20)  # by address
    writes: Rate = Rate(240, 4)  # by address; a node with a hundred models publishes them at once
    by_key: Rate = Rate(240, 4)  # writes of one publisher, from wherever they come
    volume: Rate = Rate(
        64 * MIB, 256 * MIB / DAY_S
    )  # bytes by network: keys are free, disks are not; a model takes 50 kB
    reports: Rate = Rate(50, 50 / DAY_S)  # by network: made-up reporters are cheap, networks are not


class Gate:
    """Raises Overloaded (429, with Retry-After) when somebody asks too often."""

    def __init__(self, bounds: Bounds) -> None:
        self._reads, self._writes = Limiter(bounds.reads), Limiter(bounds.writes)
        self._keys, self._reports = Limiter(bounds.by_key), Limiter(bounds.reports)
        self._volume = Limiter(bounds.volume)
        self._torrents = bounds.torrents

    def address(self, address: str, *, write: bool) -> None:
        """Any request, before it is read."""
        self._take(self._writes if write else self._reads, network(address, 32, 64))

    def key(self, key: str) -> None:
        """A document, after its signature was checked: nobody can use up somebody else's turn."""
        self._take(self._keys, key)

    def report(self, address: str) -> None:
        """A report, by the network that it came from."""
        self._take(self._reports, network(address, 24, 48))

    def volume(self, address: str, size: int) -> None:
        """Bytes to be kept, by the network that they came from."""
        self._take(self._volume, network(address, 24, 48), size)

    @contextmanager
    def torrent(self) -> Iterator[None]:
        """A large body is in memory while the block runs; Overloaded when there are too many."""
        if not self._torrents:
            raise Overloaded("too many torrents at once", details={"retry_after_s": BUSY_S})
        self._torrents -= 1
        try:
            yield
        finally:
            self._torrents += 1

    @staticmethod
    def _take(limiter: Limiter, name: str, cost: float = 1.0) -> None:
        if wait := limiter.take(name, time.monotonic(), cost):
            raise Overloaded("too many requests", code="rate_limit", details={"retry_after_s": wait})


def network(address: str, v4: int, v6: int) -> str:
    """The network of an address: whoever has a /64 of IPv6 has as many addresses as he wants."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    return str(ipaddress.ip_network((ip, v4 if ip.version == 4 else v6), strict=False))

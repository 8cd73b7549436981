"""A file fetched from one seeder on another host, by hali and by other people's clients, each on a host of its own."""

from __future__ import annotations

import resource
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from hali.hashing.files import hash_file
from hali.transfer import magnet, metainfo
from hali.transfer.v1_twin import v1_twin
from tests.net.clients import BareLibtorrent, Transmission, client, reads_hybrid
from tests.net.lab import Host, Lab, lab
from tests.nodes import until

RIVALS = ("aria2", "qbittorrent", "transmission")
STOCK_PORT = 6881
FIRST_BYTES = 256 * 1024  # more than discovery and metadata take, a fraction of a second of the data
POLL_S = 0.02


class Took(NamedTuple):
    """Seconds from the first bytes of the data until the client says that all is there and right, and of processor."""

    wall: float
    cpu: float


class Pulls:
    """A lab with one seeder of a file: plain libtorrent, which serves everybody alike."""

    def __init__(self, lan: Lab, stack: ExitStack, file: Path, folder: Path) -> None:
        self._lan, self._folder, self._file = lan, folder, file
        hybrid = metainfo.build(hash_file(file), file.name)
        self._links: dict[bool, str] = {}
        # Transmission 3 cannot read hybrid torrents: it gets the v1 torrent of the same pieces, from a host like the other.
        for whole, raw in ((True, hybrid), (False, v1_twin(hybrid))):
            torrent = folder / f"{whole}.torrent"
            torrent.write_bytes(raw)
            host = lan.host(f"seeder-{whole}")
            seeder = BareLibtorrent(host, folder / f"seeder-{whole}")
            stack.callback(seeder.stop)
            seeder.add(torrent, file.parent, complete=True)
            until(seeder.is_complete, "the seeder has looked at its file")
            infohashes = metainfo.parse(raw).infohashes
            self._links[whole] = magnet.build(infohashes, file.name)
            if whole:
                self._dialled = magnet.build(infohashes, file.name, peers=[(host.address, STOCK_PORT)])
        self._fetches = 0

    def by_rival(self, kind: str) -> Took:
        """A fetch by a client that has just been started."""
        self._fetches += 1
        # A new one each time: a seeder does not connect again to an address for a minute after it was closed.
        host = self._lan.host(f"{kind[:8]}{self._fetches}")
        home, out = self._folder / "home", self._folder / "out"
        try:
            with client(kind, host, home) as theirs:
                if isinstance(theirs, Transmission):  # its default of 4 MB is less than a piece
                    theirs.rpc("session-set", **{"cache-size-mb": 256})
                began = _Clock(host, _cpu_of(theirs.processes()))
                theirs.add(self._links[reads_hybrid(kind)], out)
                began.wait()
                while not theirs.is_complete():
                    time.sleep(POLL_S)
                wall = began.wall()
                alive = theirs.processes()
                cpu = _cpu_of(alive) - began.cpu if alive else began.of_children()
            assert (out / self._file.name).stat().st_size == self._file.stat().st_size
            return Took(wall, cpu)
        finally:
            for folder in (home, out):
                shutil.rmtree(folder, ignore_errors=True)

    def by_hali(self) -> Took:
        """A fetch by a daemon that has just been started."""
        self._fetches += 1
        node = self._lan.node(f"hali{self._fetches}")
        node.start()
        began = _Clock(node.host, _cpu_of(node.processes()))
        waiting = threading.Thread(target=began.wait)
        waiting.start()
        pulled = node.pull(self._dialled)
        waiting.join()
        took = Took(began.wall(), _cpu_of(node.processes()) - began.cpu)
        node.call("rm", model=pulled["sha256"])
        node.stop()
        return took


class _Clock:
    """Starts with the first bytes that come to a host."""

    def __init__(self, host: Host, cpu: float) -> None:
        self._host, self._before, self.cpu = host, host.traffic().received, cpu
        self._children = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._began = 0.0

    def wait(self) -> None:
        while self._host.traffic().received - self._before < FIRST_BYTES:
            time.sleep(POLL_S)
        self._began = time.perf_counter()

    def wall(self) -> float:
        return time.perf_counter() - self._began

    def of_children(self) -> float:
        """Of a program that has ended, from its start; the `ip` commands of the clock, some ms each, are in it."""
        now = resource.getrusage(resource.RUSAGE_CHILDREN)
        return now.ru_utime + now.ru_stime - self._children.ru_utime - self._children.ru_stime


def _cpu_of(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


@contextmanager
def pulls(file: Path, folder: Path, rate_mbit: float | None) -> Iterator[Pulls]:
    """A lab for the length of a block; its links have `rate_mbit`, both ways."""
    with lab(folder, rate_mbit) as lan, ExitStack() as stack:
        yield Pulls(lan, stack, file, folder)

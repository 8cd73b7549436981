"""A LAN in one machine: a switch and hosts, each a network namespace with an address, and no way out.

The switch is a namespace too, so nothing touches the machine's own network and nothing of it is reachable.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hali.daemon.client import DaemonClient
from tests.net import netns
from tests.nodes import TestNode, until

LINK = "lan0"  # what every host calls its one link
NETWORK = "10.77.0"
MOST_HOSTS = 200


class Traffic(NamedTuple):
    """Bytes through a host's link since it was made, headers included."""

    received: int
    sent: int


class Host:
    """A namespace with a loopback and one link to the switch."""

    def __init__(self, name: str, number: int, switch: str, rate_mbit: float | None) -> None:
        self.name, self.address = name, f"{NETWORK}.{number}"
        self.namespace = netns.own_name(name)
        self.within = ("ip", "netns", "exec", self.namespace)
        self._switch, self._port = switch, f"p-{name}"[:15]
        netns.ip("netns", "add", self.namespace)
        self._connect(rate_mbit)

    def _connect(self, rate_mbit: float | None) -> None:
        port, inside = self._port, self.namespace
        netns.ip("-n", self._switch, "link", "add", port, "type", "veth", "peer", "name", LINK, "netns", inside)
        # A link-local address may be used at once, not after two seconds of looking for its double.
        self._write(f"net/ipv6/conf/{LINK}/accept_dad", "0")
        netns.ip("-n", self._switch, "link", "set", port, "master", "br0", "up")
        netns.ip("-n", inside, "address", "add", f"{self.address}/24", "dev", LINK)
        self._send_alike()
        for link in ("lo", LINK):
            netns.ip("-n", inside, "link", "set", link, "up")
        # Stands for the default route of a real host, by which clients that name no interface send their multicasts.
        netns.ip("-n", inside, "route", "add", "224.0.0.0/4", "dev", LINK)
        until(self._connected, f"the switch forwards to {self.name}")
        if rate_mbit is not None:
            for where, link in ((inside, LINK), (self._switch, port)):  # what leaves the host, what comes to it
                _tc(where, link, rate_mbit)

    def _send_alike(self) -> None:
        """Let all connections send in bursts of one size.

        By default Linux (5.18 on) gives bursts of 64 KiB, and two of them in the queue of the link, to a connection that once saw
        a round trip below half a millisecond, and two packets to others: who met an empty queue at first gets ten times
        as much of a full link, and more, as who came a moment later. The queue of a real card is fair to connections
        (fq_codel); ours is not.
        """
        if Path("/proc/sys/net/ipv4/tcp_tso_rtt_log").exists():
            self._write("net/ipv4/tcp_tso_rtt_log", "0")

    def _connected(self) -> bool:
        """Whether both ends carry frames. The kernel sees to that a while after a link is up, and drops them until then."""
        (port,) = json.loads(netns.ip("-n", self._switch, "-json", "-details", "link", "show", self._port))
        (link,) = json.loads(netns.ip("-n", self.namespace, "-json", "link", "show", LINK))
        states = port["operstate"], port["linkinfo"]["info_slave_data"]["state"], link["operstate"]
        return states == ("UP", "forwarding", "UP")

    def _write(self, key: str, value: str) -> None:
        with netns.inside(self.namespace):
            Path("/proc/sys", key).write_text(value)

    def popen(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program on this host."""
        return subprocess.Popen([*self.within, *command], **options)

    def traffic(self) -> Traffic:
        """What went through its link."""
        (link,) = json.loads(netns.ip("-n", self.namespace, "-json", "-statistics", "link", "show", LINK))
        return Traffic(link["stats64"]["rx"]["bytes"], link["stats64"]["tx"]["bytes"])

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """Its cable pulled, for the length of a block."""
        port = ("-n", self._switch, "link", "set", self._port)
        netns.ip(*port, "down")
        try:
            yield
        finally:
            netns.ip(*port, "up")


class LabNode(TestNode):
    """A hali node on a host of its own."""

    def __init__(self, host: Host, home: Path, **settings: str) -> None:
        super().__init__(home, within=host.within, **({"torrent_lsd": "on"} | settings))
        self.host = host

    def client(self) -> DaemonClient:
        """A connection to the IPC, which listens on the host's own loopback."""
        with netns.inside(self.host.namespace):
            return super().client()


class Lab:
    """The switch, and the hosts made so far. `rate_mbit` limits each host's link, both ways."""

    def __init__(self, folder: Path, stack: ExitStack, rate_mbit: float | None) -> None:
        self._folder, self._stack, self._rate = folder, stack, rate_mbit
        self._hosts = 0
        self._switch = netns.own_name("switch")
        netns.ip("netns", "add", self._switch)
        stack.callback(netns.remove, self._switch)
        # Like a simple switch: multicasts go to every port, whoever joined what.
        netns.ip(
            "-n", self._switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0", "forward_delay", "0"
        )
        netns.ip("-n", self._switch, "link", "set", "br0", "up")

    def host(self, name: str, rate_mbit: float | None = None) -> Host:
        """A new host."""
        self._hosts += 1
        assert self._hosts <= MOST_HOSTS
        made = Host(name, self._hosts, self._switch, rate_mbit or self._rate)
        self._stack.callback(netns.remove, made.namespace)
        return made

    def node(self, name: str, **settings: str) -> LabNode:
        """A new host with a hali node, whose daemon is not started yet and is stopped at the end."""
        node = LabNode(self.host(name), self._folder / name, **settings)
        self._stack.callback(_stopped, node)
        return node


def _tc(namespace: str, link: str, rate_mbit: float) -> None:
    command = ["tc", "-n", namespace, "qdisc", "replace", "dev", link, "root", *netns.tbf(rate_mbit)]
    subprocess.run(command, check=True, capture_output=True)


def _stopped(node: LabNode) -> None:
    node.stop()
    until(lambda: not node.processes(), f"no process of {node.paths.home} is left")


@contextmanager
def lab(folder: Path, rate_mbit: float | None = None) -> Iterator[Lab]:
    """A LAN for the length of a block; nothing of it is left afterwards."""
    netns.remove_leftovers()
    with ExitStack() as stack:
        yield Lab(folder, stack, rate_mbit)


@contextmanager
def running(host: Host, command: Sequence[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A program on `host` for the length of a block, its output in `log`."""
    with log.open("wb") as output:
        process = host.popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()

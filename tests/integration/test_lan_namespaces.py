"""Nodes on networks of their own: links that come up late, links with IPv6 link-local addresses only, and a router.

Network namespaces need root and `ip`; without them these tests are skipped, and say so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.nodes import until

ROOT = Path(__file__).resolve().parents[2]
PREFIX = f"hali{os.getpid() % 10_000}"  # other runs on this machine have namespaces too
PORT = "4269"


def _possible() -> bool:
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    made = subprocess.run(["ip", "netns", "add", f"{PREFIX}-try"], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", f"{PREFIX}-try"], check=True)
    return made


pytestmark = pytest.mark.skipif(not _possible(), reason="NOT TESTED: network namespaces need root and the ip command")

CHILD = """
    import json, sys, anyio
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from hali.config.identity import Identity
    from hali.model.ids import InfoHashes
    from hali.transfer.lan import LanAnnouncer, LanModel, LanOptions

    def tell(node):
        print(json.dumps({e.model_id: e.peers for e in node.entries()}), flush=True)

    async def watch(node):
        while True:
            tell(node)
            await node.changes.changed()

    async def main(name, port, count, peers):
        # No regular turn helps during a test: what is heard was told at once, or asked for.
        options = LanOptions(port=port, peers=tuple(filter(None, peers.split(","))), interval=600.0)
        node = LanAnnouncer(Identity(Ed25519PrivateKey.generate()), options, lambda: 7000)
        marks = [f"{ord(name):02x}{number:06x}" for number in range(count)]
        node.set_models([LanModel(f"{name}{n}:1b:x:q4", m * 8, InfoHashes(v2=m * 8), 1) for n, m in enumerate(marks)])
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: node.run(task_status=task_status))
            group.start_soon(watch, node)
            await anyio.to_thread.run_sync(sys.stdin.read)
            group.cancel_scope.cancel()

    anyio.run(main, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
"""


class Child:
    """A node in a process and a namespace of its own; `entries` is what it last said of its neighbours."""

    def __init__(self, space: str, name: str, models: int = 1, peers: str = "") -> None:
        command = ["ip", "netns", "exec", space, sys.executable, "-c", textwrap.dedent(CHILD)]
        paths = os.pathsep.join(filter(None, [str(ROOT / "python"), os.environ.get("PYTHONPATH")]))
        self.entries: dict[str, Any] | None = None
        self._process = subprocess.Popen(
            [*command, name, PORT, str(models), peers],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Child:
        until(lambda: self.entries is not None or self._process.poll() is not None, "the node runs")
        assert self.entries is not None, "the node ended at once"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._reader.join()
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.entries = json.loads(line)

    def hears(self, name: str, models: int = 1) -> None:
        """Wait until it knows of so many models of that node."""
        until(lambda: len(self.of(name)) == models, f"{models} models of {name} are heard of")

    def of(self, name: str) -> dict[str, Any]:
        """The models of that node, as last heard."""
        return {model: peers for model, peers in (self.entries or {}).items() if model.startswith(name)}


def ip(*arguments: str, space: str | None = None) -> None:
    """Run `ip`, in a namespace if one is named."""
    subprocess.run(["ip", *(["-n", space] if space else []), *arguments], check=True)


@contextmanager
def namespaces(*names: str) -> Iterator[list[str]]:
    """Namespaces of these names (each with a prefix of this run), gone at the end with all links in them."""
    spaces = [f"{PREFIX}-{name}" for name in names]
    with ExitStack() as stack:
        for space in spaces:
            ip("netns", "add", space)
            stack.callback(ip, "netns", "del", space)
            # Without the wait for duplicates of an address, which is one second of every test.
            command = ["ip", "netns", "exec", space, "sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"]
            subprocess.run(command, check=True)
            ip("link", "set", "lo", "up", space=space)
        yield spaces


def link(one: str, other: str, device: str, *, up: bool = True) -> None:
    """A cable between two namespaces, called `device` at both ends."""
    ip("link", "add", device, "netns", one, "type", "veth", "peer", "name", device, "netns", other)
    for space in (one, other) if up else ():
        ip("link", "set", device, "up", space=space)


def address(space: str, device: str, text: str) -> None:
    """Give a device an IPv4 address."""
    ip("address", "add", text, "dev", device, space=space)


def test_nodes_meet_over_a_link_that_comes_up_while_they_run_and_has_only_ipv6_link_local_addresses() -> None:
    with namespaces("a", "b") as (a, b):
        link(a, b, "late0", up=False)
        with Child(a, "a") as one, Child(b, "b") as two:
            assert one.entries == two.entries == {}
            for space in (a, b):
                ip("link", "set", "late0", "up", space=space)
            one.hears("b")
            two.hears("a")
            ((host, port),) = one.of("b")["b0:1b:x:q4"]
    assert host.startswith("fe80::")
    assert "%" in host
    assert port == 7000


def test_a_node_that_leaves_over_ipv6_link_local_says_goodbye() -> None:
    with namespaces("a", "b") as (a, b):
        link(a, b, "eth0")
        with Child(a, "a") as one:
            with Child(b, "b"):
                one.hears("b")
            one.hears("b", models=0)


def test_beyond_a_router_only_configured_peers_are_heard_and_with_all_their_models() -> None:
    with namespaces("a", "r", "b") as (a, r, b):
        for space, device, net in ((a, "left0", 1), (b, "right0", 2)):
            link(space, r, device)
            address(space, device, f"10.77.{net}.2/24")
            address(r, device, f"10.77.{net}.1/24")
            ip("route", "add", "default", "via", f"10.77.{net}.1", space=space)
        subprocess.run(["ip", "netns", "exec", r, "sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)
        with Child(b, "b", models=40) as far, Child(a, "c") as plain, Child(a, "a", peers="10.77.2.2") as near:
            near.hears("b", models=40)  # asked for page by page: `far` knows nothing of `near`'s configuration
            far.hears("a")
            near.hears("c")
            assert not plain.of("b")
            assert not far.of("c")
            assert near.of("b")["b39:1b:x:q4"] == [["10.77.2.2", 7000]]

"""`hali doctor` on a network of its own, where multicast is switched off or a firewall drops it.

Network namespaces need root and `ip`; without them these tests are skipped, and say so.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctors import examine, follow, healthy_again, only, statuses, with_command
from tests.net.netns import ip, own_name, remove
from tests.nodes import TestNode, node, random_file, until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None,
    reason="NOT TESTED: network namespaces need root and the ip command",
)


@pytest.fixture
def space() -> Iterator[str]:
    """A namespace with one Ethernet, whose other end is there too."""
    name = own_name("doctor")
    ip("netns", "add", name)
    try:
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
        ip("-n", name, "address", "add", "10.77.0.1/24", "dev", "lan0")
        for link in ("lan0", "lan1"):
            ip("-n", name, "link", "set", link, "up")
        yield name
    finally:
        remove(name)


@pytest.fixture
def a(space: str, tmp_path: Path) -> Iterator[TestNode]:
    with node(tmp_path / "home", within=("ip", "netns", "exec", space)) as made:
        made.ok("daemon", "start", "--detach")  # its IPC is on the loopback of its namespace, like all that asks it
        with_command(made, tmp_path / "bin")
        # An IPv6 address is tentative for a second (RFC 4862), and each report tells of those that are not.
        until(lambda: examine(made)["lan.multicast"]["detail"] == "heard over lan0, lan1", "both ends are up")
        yield made
        made.ok("daemon", "stop")


def test_multicast_that_is_switched_off(a: TestNode) -> None:
    healthy = examine(a)
    assert a.shell("ip link set dev lan0 multicast off").returncode == 0
    fix = only(a, healthy, "lan.multicast")
    assert "lan0" in fix
    follow(a, fix)
    healthy_again(a)


@pytest.mark.skipif(shutil.which("iptables") is None, reason="NOT TESTED: a firewall needs iptables")
@pytest.mark.parametrize("chain", ["INPUT", "OUTPUT"])
def test_multicast_that_a_firewall_drops(a: TestNode, chain: str) -> None:
    healthy = examine(a)
    rules = [f"{tool} -A {chain} -p udp --dport {a.env['HALI_LAN_PORT']} -j DROP" for tool in ("iptables", "ip6tables")]
    done = a.shell(" && ".join(rules))
    if done.returncode:
        pytest.skip(f"NOT TESTED: this kernel has no packet filter: {done.stderr}")
    follow(a, only(a, healthy, "lan.multicast"))
    healthy_again(a)


@pytest.mark.skipif(shutil.which("iptables") is None, reason="NOT TESTED: a firewall needs iptables")
def test_a_bittorrent_port_that_a_firewall_drops(a: TestNode) -> None:
    healthy = examine(a)
    port = a.ok("daemon", "status")["torrent_port"]
    done = a.shell(f"iptables -A INPUT -p tcp -d 10.77.0.1 --dport {port} -j DROP")
    if done.returncode:
        pytest.skip(f"NOT TESTED: this kernel has no packet filter: {done.stderr}")
    follow(a, only(a, healthy, "torrent.reachable"))
    healthy_again(a)


def test_an_address_of_a_link_that_is_not_connected_needs_no_port(a: TestNode) -> None:
    # As Docker's bridge while no container runs.
    assert a.shell("ip link set dev lan1 down").returncode == 0
    a.ok("daemon", "restart", "--detach")
    healthy_again(a)


def test_a_machine_without_a_network_is_not_told_to_open_its_firewall(a: TestNode) -> None:
    assert a.shell("ip link delete lan0").returncode == 0
    found = examine(a)
    assert (found["lan.multicast"]["status"], found["torrent.reachable"]["status"]) == ("skip", "ok")


def test_a_loopback_interface_that_is_down(a: TestNode, tmp_path: Path) -> None:
    healthy = examine(a)
    assert a.shell("ip link set lo down").returncode == 0
    told = "the loopback interface is down, so no program can reach the daemon"
    assert told in a.fails("add", str(random_file(tmp_path / "a.gguf", 1)), code=1)
    found = examine(a)
    assert found["ports.free"]["detail"] == told
    follow(a, found["ports.free"]["fix"])
    assert statuses(examine(a)) == statuses(healthy)


def test_a_daemon_where_loopback_is_down_ends_at_once(a: TestNode) -> None:
    a.ok("daemon", "stop")
    assert a.shell("ip link set lo down").returncode == 0
    done = a.shell(f"{sys.executable} -m hali.daemon.main")
    assert done.returncode == 1
    assert "halid: the loopback interface is down" in done.stderr

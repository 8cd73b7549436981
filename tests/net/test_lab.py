"""The lab itself: hosts see each other and nobody else, count what they send, keep to their rate, and leave nothing behind."""

from __future__ import annotations

import select
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from tests.net import netns
from tests.net.lab import LINK, Host, lab
from tests.nodes import until

pytestmark = pytest.mark.net

GROUP4, GROUP6, PORT = "239.192.42.1", "ff12::6861:6c69", 4269


def listener(host: Host, family: socket.AddressFamily) -> socket.socket:
    with netns.inside(host.namespace):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind(("", PORT))
        index = socket.if_nametoindex(LINK)
        if family == socket.AF_INET:
            member = struct.pack("4s4s", socket.inet_aton(GROUP4), socket.inet_aton(host.address))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        else:
            member = struct.pack("16si", socket.inet_pton(socket.AF_INET6, GROUP6), index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
    return sock


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_multicast_reaches_every_host(family: socket.AddressFamily, tmp_path: Path) -> None:
    with lab(tmp_path) as lan:
        a, b, c = lan.host("a"), lan.host("b"), lan.host("c")
        with listener(b, family) as at_b, listener(c, family) as at_c, netns.inside(a.namespace):
            group = (GROUP4, PORT) if family == socket.AF_INET else (GROUP6, PORT, 0, socket.if_nametoindex(LINK))
            with socket.socket(family, socket.SOCK_DGRAM) as sender:

                def reached() -> bool:  # one may get lost: nothing promises a datagram
                    sender.sendto(b"hello", group)
                    return len(select.select([at_b, at_c], [], [], 0)[0]) == 2

                until(reached, "both were reached")
            assert at_b.recv(10) == at_c.recv(10) == b"hello"


def test_there_is_no_way_out_of_the_lab(tmp_path: Path) -> None:
    with (
        lab(tmp_path) as lan,
        netns.inside(lan.host("a").namespace),
        socket.socket() as sock,
        pytest.raises(OSError, match="unreachable"),
    ):
        sock.connect(("192.0.2.1", 80))


def sent_from(a: Host, b: Host, size: int) -> None:
    """Send so many bytes by TCP and wait until they are there."""
    with netns.inside(b.namespace):
        server = socket.create_server((b.address, 5000))
    with netns.inside(a.namespace):
        client = socket.create_connection((b.address, 5000))
    peer, _ = server.accept()
    with server, client, peer:
        pump = threading.Thread(target=client.sendall, args=(bytes(size),))
        pump.start()
        left = size
        while left:
            left -= len(peer.recv(1 << 20))
        pump.join()


def test_every_link_counts_its_bytes_and_has_its_rate(tmp_path: Path) -> None:
    size = 2_000_000
    with lab(tmp_path, rate_mbit=100) as lan:
        a, b = lan.host("a"), lan.host("b")
        sent_from(a, b, size)
        assert size < a.traffic().sent < 1.1 * size
        assert size < b.traffic().received < 1.1 * size
        for where in (a.namespace, lan._switch):
            shown = subprocess.run(["tc", "-n", where, "qdisc", "show"], capture_output=True, text=True, check=True)
            assert "tbf" in shown.stdout and "rate 100Mbit" in shown.stdout


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from tests.net.lab import lab\n"
        "with lab(Path(sys.argv[1])) as lan:\n"
        "    host = lan.host('a'); print(host.namespace, host.popen(['sleep', '60'], stdout=-3, stderr=-3).pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    namespace, pid = killed.stdout.split()
    assert (netns.RUN / namespace).exists()
    with lab(tmp_path) as lan:
        mine = lan.host("a").namespace
        assert not (netns.RUN / namespace).exists()
        until(lambda: not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == "zombie", "sleep is gone")
        netns.remove_leftovers()
        assert (netns.RUN / mine).exists(), "a living run keeps its own"
    assert not (netns.RUN / mine).exists()

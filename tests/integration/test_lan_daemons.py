"""LAN discovery between real daemons: its counters, and the switch of the secret."""

from __future__ import annotations

import socket
from pathlib import Path

from hali.transfer.lan_net import GROUP4
from tests.nodes import LAN_PORT, TestNode, pair, random_file, until

FILE = "Good-1B-Q8_0.gguf"
ID = "good:1b:base:q8_0"


def test_status_and_stats_count_the_packets_and_name_drops_only_when_there_are_some(tmp_path: Path) -> None:
    with pair(tmp_path) as (a, b):
        a.add(random_file(tmp_path / FILE, 1))
        b.hears(ID)
        for shown in (b.ok("daemon", "status"), b.ok("stats")):
            traffic = shown["lan_traffic"]
            assert (traffic["nodes"], traffic["models"], traffic["dropped"]) == (1, 1, {})
            assert traffic["packets_in"] >= traffic["accepted"]["announce"] >= 1
            assert traffic["packets_out"] >= 1
        assert "LAN:" not in b.hali("daemon", "status").stdout + b.hali("stats").stdout
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as old:
            old.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            old.sendto(b"nonsense", (GROUP4, LAN_PORT))
        until(lambda: b.status()["lan_traffic"]["dropped"], "it is counted")
        for command in (("daemon", "status"), ("stats",)):
            assert "LAN: 1 packet dropped (1 malformed)" in b.hali(*command).stdout.splitlines()


def drops(each: TestNode, reason: str) -> int:
    """Packets dropped for that reason since the daemon began."""
    return int(each.status()["lan_traffic"]["dropped"].get(reason, 0))


def test_switching_the_secret_on_parts_two_nodes_until_both_have_it_and_off_parts_them_again(tmp_path: Path) -> None:
    with pair(tmp_path) as (a, b):
        a.add(random_file(tmp_path / FILE, 1))
        b.hears(ID)
        for each, switch in ((b, "on"), (a, "on"), (b, "off")):
            before = drops(a, "mac")
            each.set(lan_hmac_enabled=switch, lan_hmac_shared_secret="ab" * 32)
            each.restart()
            if each is a:
                b.hears(ID)
            else:  # the question that `b` began with has come to `a`, and means nothing there
                until(lambda before=before: drops(a, "mac") > before, "the other kind is dropped")
                assert b.status()["lan"] == []

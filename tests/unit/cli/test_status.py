"""The tables of `hali daemon status`, as the documentation of the daemon shows them."""

from __future__ import annotations

from typing import Any

import pytest

from hali.cli.daemon import _print
from hali.cli.neighbours import describe_drops
from hali.cli.output import Output
from hali.cli.stats_screen import report


def model(name: str, status: str, peers: int = 0, **more: Any) -> dict[str, Any]:
    base = {
        "model_id": name,
        "status": status,
        "peers": peers,
        "magnet": f"magnet:?xt=urn:btih:{name}",
        "progress": None,
    }
    return base | {"error": None} | more


STATUS: dict[str, Any] = {
    "pid": 12345,
    "uptime": "2h15m0s",
    "torrent_port": 51234,
    "http": "http://127.0.0.1:47433",
    "paused": False,
    "paused_until": None,
    "paused_by": None,
    "download_cap_mbps": 0.0,
    "upload_cap_mbps": 0.0,
    "seeding": [
        model("mistral:7b:instruct:q4_k_m", "seeding", 3),
        model("llama:8b:instruct:q5_k_m", "hashing", progress=0.34),
        model("llama:13b:instruct:q4_k_m", "seeding", 1),
        model("phi:3b:base:q8_0", "damaged", error="phi is damaged, wrong piece 2 of 9"),
    ],
    "lan": [{"model_id": "mistral:7b:instruct:q4_k_m", "peers": 1, "infohash": "a3f9c21b4d67ffff"}],
    "lan_traffic": {"dropped": {}},
    "jobs": [],
    "services": [{"name": "ApiServer", "state": "ready", "error": None}],
}
SHOWN = """\
Daemon running  PID 12345  uptime 2h15m0s  port 51234  http://127.0.0.1:47433

SEEDING                                     STATUS        PEERS
------------------------------------------  ------------  -------
mistral:7b:instruct:q4_k_m                  seeding       3 peers
  magnet: magnet:?xt=urn:btih:mistral:7b:instruct:q4_k_m
llama:8b:instruct:q5_k_m                    hashing 34 %  —
llama:13b:instruct:q4_k_m                   seeding       1 peer
  magnet: magnet:?xt=urn:btih:llama:13b:instruct:q4_k_m
phi:3b:base:q8_0                            damaged       —
  phi is damaged, wrong piece 2 of 9

LAN AVAILABLE                               PEERS  INFOHASH
------------------------------------------  -----  -------------
mistral:7b:instruct:q4_k_m                  1      a3f9c21b4d67…
"""


def test_both_tables_are_as_documented(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    _print(Output(), STATUS)
    assert capsys.readouterr().out == SHOWN


def test_a_pause_and_caps_are_told_below_the_first_line(capsys: pytest.CaptureFixture[str]) -> None:
    _print(Output(), STATUS | {"paused": True, "paused_by": "schedule", "paused_until": "2031-05-05T18:00:00+02:00"})
    assert "\nTransfers are paused until Mon 2031-05-05 18:00 by the schedule.\n" in capsys.readouterr().out
    _print(Output(), STATUS | {"download_cap_mbps": 20.0, "upload_cap_mbps": 2.5})
    assert "\nTransfers run, at most 20 Mbit/s down and 2.5 Mbit/s up.\n" in capsys.readouterr().out


def test_nothing_to_share_leaves_the_headers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    _print(Output(), STATUS | {"seeding": [], "lan": []})
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "SEEDING                                     STATUS  PEERS"
    assert lines[3] == "------------------------------------------  ------  -----"
    assert lines[5].startswith("LAN AVAILABLE")


def test_pulls_under_way_and_services_in_trouble_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    job = {"kind": "pull", "what": "smollm2", "state": "downloading", "name": "f.gguf", "done": 50, "total": 100}
    job |= {"rate": 10.0, "peers": 2, "sources": {"lan": 50}}
    broken = {"name": "LanAnnouncer", "state": "failed", "error": "no interface"}
    _print(Output(), STATUS | {"jobs": [job], "services": [broken]})
    text = capsys.readouterr().out
    assert "\npull smollm2: downloading f.gguf 50 B of 100 B (50 %) 10 B/s, 2 peers, lan\n" in text
    assert "\nservice LanAnnouncer is failed: no interface\n" in text


def test_dropped_packets_are_told_only_when_there_are_some_with_their_reasons() -> None:
    assert describe_drops(None) is None
    assert describe_drops({"dropped": {}}) is None
    assert describe_drops({"dropped": {"signature": 1}}) == "LAN: 1 packet dropped (1 signature)"
    told = describe_drops({"dropped": {"replayed": 2, "mac": 10}})
    assert told is not None
    assert told.startswith("LAN: 12 packets dropped (10 mac, 2 replayed); ")
    assert "lan.hmac_shared_secret" in told


def test_stats_and_status_tell_of_dropped_packets(capsys: pytest.CaptureFixture[str]) -> None:
    traffic = {"lan_traffic": {"dropped": {"address": 3}, "nodes": 1, "models": 1}}
    _print(Output(), STATUS | traffic)
    assert "\nLAN: 3 packets dropped (3 address)\n" in capsys.readouterr().out
    rates = dict.fromkeys(("down_rate", "up_rate", "down_total", "up_total"), 0)
    stats = STATUS | {"models": [], "jobs": [], "peers": 0, "services": [], **rates}
    assert "LAN: 3 packets dropped (3 address)" in report(stats | traffic, 100)
    assert not [line for line in report(stats | {"lan_traffic": None}, 100) if "LAN" in line]

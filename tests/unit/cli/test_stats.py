"""The screen of `hali stats`."""

from __future__ import annotations

from typing import Any

from hali.cli.stats import _lines

FOUND: dict[str, Any] = {
    "uptime": "1m0s",
    "paused": False,
    "download_cap_mbps": 0.0,
    "upload_cap_mbps": 0.0,
    "down_rate": 2e6,
    "up_rate": 1e6,
    "down_total": 10**9,
    "up_total": 5 * 10**9,
    "peers": 1,
    "models": [
        {
            "model_id": "a:7b:base:q4_0",
            "sha256": "ab" * 32,
            "status": "seeding",
            "down_rate": 0,
            "up_rate": 1e6,
            "peers": 1,
            "uploaded": 5 * 10**9,
            "ratio": 1.25,
        }
    ],
    "jobs": [],
    "lan_traffic": {"nodes": 1, "models": 2, "dropped": {}},
    "inference": {},
}
JOB = {
    "kind": "pull",
    "what": "o/r:q4_0",
    "state": "downloading",
    "name": "r.gguf",
    "done": 50,
    "total": 100,
    "rate": 2e6,
    "peers": 2,
    "sources": {"http": 50},
}


def test_rates_totals_models_and_the_lan_are_there() -> None:
    lines = _lines(FOUND, 100)
    assert lines[:4] == [
        "Daemon: running (uptime 1m0s)",
        "Speeds: ↓ 2.0 MB/s  ↑ 1.0 MB/s",
        "Session: ↓ 1.0 GB  ↑ 5.0 GB  1 peer",
        "Neighbours: 1 node offers 2 models",
    ]
    assert lines[4].split("  ")[0] == "MODEL"
    assert lines[5].split() == ["a:7b:base:q4_0", "seeding", "0", "B/s", "1.0", "MB/s", "5.0", "GB", "1.25", "1"]


def test_downloads_under_way_and_dropped_packets_are_told() -> None:
    traffic = {"nodes": 3, "models": 1, "dropped": {"source_rate": 9, "replayed": 3}}
    lines = _lines(FOUND | {"jobs": [JOB], "lan_traffic": traffic}, 100)
    assert "Neighbours: 3 nodes offer 1 model" in lines
    assert "LAN: 12 packets dropped (9 source_rate, 3 replayed)" in lines
    assert "pull o/r:q4_0: downloading r.gguf 50 B of 100 B (50 %) 2.0 MB/s, 2 peers, http" in lines
    assert "Neighbours: not looked for" in _lines(FOUND | {"lan_traffic": None}, 100)

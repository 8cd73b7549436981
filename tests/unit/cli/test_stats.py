"""The screen of `hali stats`."""

from __future__ import annotations

from typing import Any

import pytest

from hali.cli.live import BOLD, ENTER, frame
from hali.cli.stats_screen import MODELS_LEAST, SPARK, report, screen, spark

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
    lines = report(FOUND, 100)
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
    lines = report(FOUND | {"jobs": [JOB], "lan_traffic": traffic}, 100)
    assert "Neighbours: 3 nodes offer 1 model" in lines
    assert "LAN: 12 packets dropped (9 source_rate, 3 replayed)" in lines
    assert "pull o/r:q4_0: downloading r.gguf 50 B of 100 B (50 %) 2.0 MB/s, 2 peers, http" in lines
    assert "Neighbours: not looked for" in report(FOUND | {"lan_traffic": None}, 100)


ENGINE = {
    "model_id": "a:7b:base:q4_0",
    "state": "ready",
    "memory_bytes": 4 * 10**9,
    "kv_used": 512,
    "kv_total": 2048,
    "active": 1,
    "tokens_per_s": 12.34,
}
EVENT = {"seq": 1, "ts": 0.0, "kind": "pull.finished", "text": "o/r is shared", "toast_level": "success", "fields": {}}
DOWN = {"name": "LanAnnouncer", "state": "backoff", "essential": False, "restarts": 3, "error": "no network"}
ALL = FOUND | {
    "engines": [ENGINE],
    "activity": 9 * [EVENT],
    "services": [DOWN],
    "jobs": [JOB],
    "inference": {"running": 2, "queued": 1, "finished": 10, "failed": 0, "cancelled": 0},
}


def test_requests_engines_services_that_are_not_ready_and_what_happened_last_are_told() -> None:
    lines = report(ALL, 100)
    assert "Requests: 2 running, 1 queued, 10 finished" in lines
    assert "Service LanAnnouncer: backoff (3 restarts): no network" in lines
    heading = next(i for i, line in enumerate(lines) if line.startswith("ENGINE"))
    assert lines[heading + 1].split() == ["a:7b:base:q4_0", "ready", "4.0", "GB", "25", "%", "1", "12.3"]
    assert sum(line.endswith(" o/r is shared") for line in lines) == 5
    unmeasured = report(
        FOUND | {"engines": [ENGINE | {"memory_bytes": None, "tokens_per_s": None, "kv_total": 0}]}, 100
    )
    assert unmeasured[-1].split() == ["a:7b:base:q4_0", "ready", "—", "—", "1", "—"]


def test_a_job_has_a_bar_on_the_live_screen_and_rates_have_a_sparkline() -> None:
    lines = screen(ALL, [(0.0, 0.0), (1e6, 0.0), (2e6, 0.0)], 100, 40)
    assert "Speeds: ↓ 2.0 MB/s ▁▅█ ↑ 1.0 MB/s ▁▁▁" in lines
    assert any("━" in line and "r.gguf" in line for line in lines)


def test_a_sparkline_shows_the_last_samples_against_their_highest() -> None:
    assert spark([]) == spark([5.0]) == ""
    assert spark([0.0, 0.0]) == "▁▁"
    assert spark([100.0, *range(8)]) == "█▁▁▁▁▁▁▁▁"
    assert len(spark([1.0] * 99)) == SPARK


@pytest.mark.parametrize("rows", [5, 12, 24, 50])
def test_models_give_way_first_when_there_is_little_room(rows: int) -> None:
    many = ALL | {"models": 40 * FOUND["models"]}
    lines = screen(many, [(1.0, 1.0)] * 3, 100, rows)
    models = [line for line in lines if line.startswith("a:7b:base:q4_0  seeding")]
    assert len(lines) <= max(rows, 30) and len(models) >= MODELS_LEAST - 1
    assert f"… and {40 - len(models)} more: `hali list`" in lines
    assert any(line.endswith("o/r is shared") for line in lines)


@pytest.mark.parametrize(("columns", "rows"), [(20, 5), (40, 10), (80, 24), (300, 100), (1, 1)])
def test_no_line_of_a_frame_wraps_and_no_frame_scrolls(columns: int, rows: int) -> None:
    drawn = frame(screen(ALL, [(1.0, 2.0)] * 9, columns, rows), columns, rows, color=False)
    assert drawn.startswith("\x1b[H") and "\x1b[2J" not in drawn  # clearing first is what flickers
    lines = drawn.removeprefix("\x1b[H").removesuffix("\x1b[J").split("\x1b[K\r\n")
    assert lines.pop() == "" and len(lines) <= max(rows - 1, 1)
    assert all(len(line) <= columns for line in lines)


def test_what_a_name_smuggles_in_does_not_reach_the_terminal_and_colour_is_only_where_it_is_wanted() -> None:
    found = FOUND | {"activity": [EVENT | {"text": "evil\x1b[2J\x07name"}]}
    plain = frame(screen(found, [], 80, 24), 80, 24, color=False)
    assert "evil[2Jname" in plain and "\x07" not in plain and BOLD not in plain
    assert BOLD in frame(screen(found, [], 80, 24), 80, 24, color=True)
    assert ENTER not in plain

"""What `hali stats` shows, as lines. Pure: the answer of the daemon, the rates seen so far, and the room there is."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from hali.cli.bar import describe, draw
from hali.cli.neighbours import describe_drops
from hali.cli.output import table
from hali.cli.pause import worth_telling
from hali.model.units import format_bytes, format_rate

BLOCKS = "▁▂▃▄▅▆▇█"
SPARK = 30  # columns of a sparkline; at one sample a second half a minute
MODELS_LEAST = 3  # rows that models keep however little room there is
LAST_EVENTS = 5

Found = Mapping[str, Any]
Rates = Sequence[tuple[float, float]]  # down and up, oldest first


def screen(found: Found, rates: Rates, columns: int, rows: int) -> list[str]:
    """Live: everything with bars and sparklines, at most `rows`; models give way first."""
    head = _head(found, rates) + [draw(job, columns) for job in found["jobs"]]
    tail = _section(_engines(found, columns)) + _section(_activity(found))
    models = _models(found, columns)
    room = max(rows - len(head) - len(tail) - 2, MODELS_LEAST + 1)
    if len(models) > room:
        models = [*models[: room - 1], f"… and {len(models) - room + 1} more: `hali list`"]
    return [*head, *_section(models), *tail]


def report(found: Found, columns: int) -> list[str]:
    """Once: everything, in lines that `grep` finds."""
    jobs = [f"{job['kind']} {job['what']}: {describe(job)}" for job in found["jobs"]]
    return [*_head(found, ()), *jobs, *_models(found, columns), *_engines(found, columns), *_activity(found)]


def spark(values: Sequence[float]) -> str:
    """The last values as blocks, the highest full; nothing until there are two."""
    shown, most = values[-SPARK:], max(values[-SPARK:], default=0.0)
    if len(shown) < 2:
        return ""
    return "".join(BLOCKS[round((len(BLOCKS) - 1) * value / most) if most else 0] for value in shown)


def _head(found: Found, rates: Rates) -> list[str]:
    down, up = (spark([pair[side] for pair in rates]) for side in (0, 1))
    drops = describe_drops(found["lan_traffic"])
    return [
        f"Daemon: running (uptime {found['uptime']})",
        *worth_telling(dict(found)),
        " ".join(f"Speeds: ↓ {format_rate(found['down_rate'])} {down} ↑ {format_rate(found['up_rate'])} {up}".split())
        if rates
        else f"Speeds: ↓ {format_rate(found['down_rate'])}  ↑ {format_rate(found['up_rate'])}",
        f"Session: ↓ {format_bytes(found['down_total'])}  ↑ {format_bytes(found['up_total'])}  {count(found['peers'], 'peer')}",
        f"Neighbours: {_neighbours(found['lan_traffic'])}",
        *([drops] if drops else []),
        *_requests(found.get("inference") or {}),
        *(_service(status) for status in found.get("services", ())),
    ]


def _requests(stats: Mapping[str, Any]) -> list[str]:
    """None before the first request."""
    words = ("running", "queued", "finished", "failed", "cancelled")
    told = [f"{stats[word]} {word}" for word in words if stats.get(word)]
    return [f"Requests: {', '.join(told)}"] if told else []


def _service(status: Mapping[str, Any]) -> str:
    """One that is not ready."""
    error = f": {status['error']}" if status["error"] else ""
    return f"Service {status['name']}: {status['state']} ({count(status['restarts'], 'restart')}){error}"


def _section(lines: list[str]) -> list[str]:
    return ["", *lines] if lines else []


def _models(found: Found, columns: int) -> list[str]:
    rows = [
        (
            m["model_id"],
            m["status"],
            format_rate(m["down_rate"]),
            format_rate(m["up_rate"]),
            format_bytes(m["uploaded"]),
            f"{m['ratio']:.2f}",
            str(m["peers"]),
        )
        for m in found["models"]
    ]
    return table(("MODEL", "STATUS", "↓ SPEED", "↑ SPEED", "SENT", "RATIO", "PEERS"), rows, room=columns)


def _engines(found: Found, columns: int) -> list[str]:
    rows = [
        (
            e["model_id"],
            e["state"],
            "—" if e["memory_bytes"] is None else format_bytes(e["memory_bytes"]),
            f"{100 * e['kv_used'] // e['kv_total']} %" if e["kv_total"] else "—",
            str(e["active"]),
            "—" if e["tokens_per_s"] is None else f"{e['tokens_per_s']:.1f}",
        )
        for e in found.get("engines", ())
    ]
    return table(("ENGINE", "STATE", "MEMORY", "KV", "ACTIVE", "TOKENS/S"), rows, room=columns) if rows else []


def _activity(found: Found) -> list[str]:
    events = found.get("activity", ())[-LAST_EVENTS:]
    lines = [f"{time.strftime('%H:%M:%S', time.localtime(event['ts']))} {event['text']}" for event in events]
    return ["ACTIVITY", *lines] if lines else []


def _neighbours(traffic: Mapping[str, Any] | None) -> str:
    """`2 nodes offer 5 models`."""
    if traffic is None:
        return "not looked for"
    verb = "offers" if traffic["nodes"] == 1 else "offer"
    return f"{count(traffic['nodes'], 'node')} {verb} {count(traffic['models'], 'model')}"


def count(number: int, noun: str) -> str:
    """`1 peer`, `2 peers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

"""The one line of a progress bar, drawn to fit its terminal: what does not fit is left out, least important first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hali.model.units import format_bytes, format_duration, format_rate

NAME_LEAST = 12  # columns; a shorter piece of a file name tells nobody anything
BAR_LEAST, BAR_MOST = 8, 30
FULL, EMPTY = "━", "─"


def draw(event: Mapping[str, Any], width: int) -> str:
    """`name ━━━━──── 34 %  33.6/98.4 MB  41.0 MB/s  0:02  2 peers  lan`, at most `width` columns."""
    percent = f"{_percent(event):>3} %" if event["total"] else ""
    facts_told = (percent, _wait(event), _amount(event), _rate(event), _left(event), _peers(event), _sources(event))
    parts = [part for part in facts_told if part]
    label = _label(event)
    # Never below the percentage; the name keeps some columns and the bar too.
    while len(parts) > 1 and len("  ".join(parts)) + NAME_LEAST + BAR_LEAST + 4 > width:
        parts.pop()
    facts = "  ".join(parts)
    room = width - len(facts) - (2 if facts else 0)
    name = _shortened(label, max(room - BAR_LEAST - 2, 0) if percent else room)
    bar = _bar(event, min(room - len(name) - 2, BAR_MOST)) if percent else ""
    return "  ".join(part for part in (name, bar, facts) if part)[:width]


def describe(event: Mapping[str, Any]) -> str:
    """One event as a line of a log: `downloading name 34.0 MB of 98.4 MB (34 %) 41.0 MB/s, 2 peers, lan`."""
    parts = [f"{event['state']} {event['name']}"]
    if event["total"]:
        parts.append(f"{format_bytes(event['done'])} of {format_bytes(event['total'])} ({_percent(event)} %)")
    if event["rate"]:
        parts.append(format_rate(event["rate"]))
    return ", ".join([" ".join(parts), *filter(None, (_wait(event), _peers(event), _sources(event)))])


def _label(event: Mapping[str, Any]) -> str:
    name = str(event["name"])
    return name if event["state"] == "downloading" else f"{event['state']} {name}"


def _percent(event: Mapping[str, Any]) -> int:
    return int(100 * event["done"] // event["total"])


def _amount(event: Mapping[str, Any]) -> str:
    """`33.6/98.4 MB`, always of one width, so that nothing jumps."""
    if not event["total"]:
        return ""
    total, unit = format_bytes(event["total"]).split(" ")
    done = event["done"] / event["total"] * float(total)
    return f"{done:{len(total)}.{len(total.partition('.')[2])}f}/{total} {unit}"


def _rate(event: Mapping[str, Any]) -> str:
    return f"{format_rate(event['rate']):>10}" if event["rate"] else ""


def _left(event: Mapping[str, Any]) -> str:
    """Time left, when it can be known: not before something has come."""
    if not (event["rate"] and event["total"] and event["done"]):
        return ""
    return f"{format_duration((event['total'] - event['done']) / event['rate']):>6} left"


def _wait(event: Mapping[str, Any]) -> str:
    """What nothing comes for: a server wants to be left alone."""
    waits = event.get("waits_s")
    return f"the server asks to wait {format_duration(waits)}" if waits else ""


def _peers(event: Mapping[str, Any]) -> str:
    if event["peers"] is None:
        return ""
    return "1 peer" if event["peers"] == 1 else f"{event['peers']} peers"


def _sources(event: Mapping[str, Any]) -> str:
    """Where the bytes come from; with shares when there are several."""
    came = sum(event["sources"].values())
    if len(event["sources"]) < 2 or not came:
        return ", ".join(event["sources"])
    return ", ".join(f"{kind} {100 * n // came} %" for kind, n in event["sources"].items())


def _shortened(text: str, width: int) -> str:
    """The end of a file name tells the quant, so the middle goes."""
    if len(text) <= width:
        return text
    if width < NAME_LEAST:
        return ""
    head = (width - 1) // 2
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def _bar(event: Mapping[str, Any], width: int) -> str:
    if width < BAR_LEAST:
        return ""
    full = int(width * event["done"] // event["total"])
    return FULL * full + EMPTY * (width - full)

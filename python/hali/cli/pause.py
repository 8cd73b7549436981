"""`hali pause`, `hali resume`, and how the state of all transfers is told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from hali.cli import control
from hali.cli.apps import new_app
from hali.cli.output import current
from hali.model.errors import UsageError
from hali.model.units import parse_duration

app = new_app()


@app.command()
def pause(
    ctx: typer.Context,
    when: Annotated[
        list[str] | None,
        typer.Argument(metavar="DURATION", help="45m, 2h, 1h30m, 1d; or `until 18:00`, by local time."),
    ] = None,
) -> None:
    """Stop all transfers: pulls, HTTP downloads and seeding. Nothing trickles on; what arrived is kept.

    Without a time it lasts until `hali resume`, or until the next change of the `schedule`. A restart of the daemon does not end
    it. Pulls that are asked for meanwhile wait. Exit code 4 when no daemon runs.

    With --json: `paused`, `paused_until` (local time, null when it does not end by itself), `paused_by` (user or schedule),
    `download_cap_mbps`, `upload_cap_mbps`.
    """
    seconds = seconds_of(when or [])
    with control.connect() as client:
        found = client.call("pause", seconds=seconds)
    current(ctx).result(found, told(found))


@app.command()
def resume(ctx: typer.Context) -> None:
    """Let transfers go on, at once, also against the `schedule` until its next change.

    With --json the fields of `hali pause`.
    """
    with control.connect() as client:
        found = client.call("resume")
    current(ctx).result(found, told(found))


def seconds_of(words: list[str]) -> float | None:
    """`[]`, `["2h"]`, `["until", "18:00"]` → seconds from now, None for no end; UsageError."""
    try:
        if not words:
            return None
        if words[0] == "until" and len(words) == 2:
            return _seconds_until(words[1])
        return parse_duration("".join(words))
    except ValueError as exc:
        raise UsageError(str(exc), hint="`hali pause`, `hali pause 2h` or `hali pause until 18:00`") from None


def _seconds_until(text: str) -> float:
    from hali.config.schedule import clock_minutes
    from hali.runtime.clock import local_zone, next_time_of_day

    now = datetime.now(UTC)
    return (next_time_of_day(now, clock_minutes(text), local_zone()) - now).total_seconds()


def told(found: Mapping[str, Any]) -> str:
    """One sentence: `Transfers are paused until 18:00 by the schedule.`, `Transfers run, at most 20 Mbit/s down.`"""
    if found["paused"]:
        until = f" until {_moment(found['paused_until'])}" if found["paused_until"] else ""
        return f"Transfers are paused{until}{' by the schedule' if found['paused_by'] == 'schedule' else ''}."
    caps = {"down": found["download_cap_mbps"], "up": found["upload_cap_mbps"]}
    limits = [f"{cap:g} Mbit/s {name}" for name, cap in caps.items() if cap]
    return f"Transfers run{', at most ' + ' and '.join(limits) if limits else ''}."


def worth_telling(found: Mapping[str, Any]) -> list[str]:
    """The sentence, if transfers are not simply free."""
    return [told(found)] if found["paused"] or found["download_cap_mbps"] or found["upload_cap_mbps"] else []


def _moment(text: str) -> str:
    """`18:00`, with the day when it is not today."""
    moment = datetime.fromisoformat(text)
    same_day = moment.date() == datetime.now(moment.tzinfo).date()
    return f"{moment:%H:%M}" if same_day else f"{moment:%a %Y-%m-%d %H:%M}"

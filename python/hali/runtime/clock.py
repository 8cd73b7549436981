"""The wall clock of this machine."""

from __future__ import annotations

import os
from datetime import UTC, datetime, time, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

LOCALTIME = Path("/etc/localtime")  # POSIX systems keep the rules of the machine's zone here


def local_zone() -> tzinfo:
    """The zone of this machine with its changes of clocks; asked anew each time, because laptops travel."""
    if (name := os.environ.get("TZ", "").removeprefix(":")) != "":
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return _present_offset()  # the long POSIX form of TZ, which zoneinfo does not read
    try:
        with LOCALTIME.open("rb") as rules:
            return ZoneInfo.from_file(rules)
    except (FileNotFoundError, ValueError):
        return _present_offset()


def _present_offset() -> tzinfo:
    return datetime.now().astimezone().tzinfo or UTC


def next_time_of_day(now: datetime, minute: int, zone: tzinfo) -> datetime:
    """The next moment (UTC) after the aware `now` at which it is `minute` minutes past midnight in `zone`."""
    today = now.astimezone(zone).date()
    of_day = time(minute // 60 % 24, minute % 60, tzinfo=zone)
    moments = [
        datetime.combine(today + timedelta(days=n), of_day.replace(fold=fold)).astimezone(UTC)
        for n in (0, 1, 2)
        for fold in (0, 1)
    ]
    return min(moment for moment in moments if moment > now)

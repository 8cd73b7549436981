"""The weekly schedule of caps and pauses: its grammar, what holds at a moment, and when that changes.

An entry is DAYS FROM-TO ACTION. DAYS: `daily`, or names and ranges (`mon-fri`, `sat,sun`, `fri-mon`). FROM-TO: 24 h local
clock times; when TO is not after FROM the entry ends on the next day. ACTION: `pause`, or `down=N`, `up=N` or both, in megabits
per second, 0 = no cap; what an entry does not name stays as it is set elsewhere. Of entries that overlap the last one holds.
Only the wall clock decides, so an hour that a change of clocks repeats or leaves out is repeated or left out here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo

import msgspec

from hali.model.errors import UsageError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")  # in the order of datetime.weekday
GRAMMAR = "mon-fri 08:00-18:00 down=20 up=5, or: sat,sun 00:00-24:00 pause"
MINUTES = 24 * 60
HORIZON_DAYS = 8  # a weekly pattern has shown all it does after seven; one more for the hour a change of clocks moves


class Rule(msgspec.Struct, frozen=True):
    """What an entry orders. Caps are megabits per second, 0 = none; None = not its business."""

    pause: bool = False
    down: float | None = None
    up: float | None = None


class Entry(msgspec.Struct, frozen=True):
    """One line of the schedule: `begin` and `end` are minutes of the day, `end` up to 48 h for the day after."""

    days: frozenset[int]
    begin: int
    end: int
    rule: Rule

    def covers(self, weekday: int, minute: int) -> bool:
        """Whether it holds at this minute of that day."""
        today = weekday in self.days and self.begin <= minute < self.end
        return today or ((weekday - 1) % 7 in self.days and self.begin <= minute + MINUTES < self.end)


class Schedule:
    """All entries. Pure: the caller brings the time."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = tuple(entries)

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Schedule:
        """UsageError names the entry."""
        return cls([_entry(text) for text in texts])

    def at(self, local: datetime) -> Rule | None:
        """What holds at the local wall-clock time `local`; None when no entry does."""
        minute = 60 * local.hour + local.minute
        fitting = [entry.rule for entry in self.entries if entry.covers(local.weekday(), minute)]
        return fitting[-1] if fitting else None

    def next_change(self, now: datetime, zone: tzinfo) -> datetime | None:
        """The first moment (UTC) after the aware `now` at which another rule holds; None when that never happens."""
        present = self.at(now.astimezone(zone))
        for moment in sorted(self._candidates(now, zone)):
            if moment > now and self.at(moment.astimezone(zone)) != present:
                return moment
        return None

    def _candidates(self, now: datetime, zone: tzinfo) -> Iterator[datetime]:
        """Every moment of the next days at which something may change: the ends of entries, and changes of the clock."""
        today = now.astimezone(zone).date()
        edges = {edge % MINUTES for entry in self.entries for edge in (entry.begin, entry.end)}
        for day in (today + timedelta(days=n) for n in range(-1, HORIZON_DAYS)):
            yield from (moment for edge in edges for moment in _moments(day, edge, zone))
        if edges:
            yield from _clock_changes(now, zone)


def _moments(day: date, minute: int, zone: tzinfo) -> Iterator[datetime]:
    """When that minute is on the wall: one moment, two where the clock is set back; where it is left out, moments around the gap."""
    for fold in (0, 1):
        local = datetime.combine(day, time(minute // 60, minute % 60), zone).replace(fold=fold)
        yield local.astimezone(UTC)


def _clock_changes(now: datetime, zone: tzinfo) -> Iterator[datetime]:
    """The minutes of the next days at which the offset of `zone` is another one than a minute before."""
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    for start in (hour + timedelta(hours=n) for n in range(24 * HORIZON_DAYS)):
        if _offset(start, zone) != _offset(start + timedelta(hours=1), zone):
            steps = (start + timedelta(minutes=n) for n in range(1, 61))
            yield from (m for m in steps if _offset(m, zone) != _offset(m - timedelta(minutes=1), zone))


def _offset(moment: datetime, zone: tzinfo) -> timedelta | None:
    return moment.astimezone(zone).utcoffset()


# ---- the grammar


def _entry(text: str) -> Entry:
    words = text.lower().split()
    try:
        if len(words) < 2:
            raise ValueError("it needs days, times and an action")
        begin, end = _span(words[1])
        return Entry(_days(words[0]), begin, end, _rule(words[2:]))
    except ValueError as exc:
        raise UsageError(f"schedule entry {text!r}: {exc}", hint=f"for example {GRAMMAR}") from None


def _days(text: str) -> frozenset[int]:
    if text == "daily":
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        begin, end = _day(first), _day(last or first)
        found |= {(begin + n) % 7 for n in range((end - begin) % 7 + 1)}
    return frozenset(found)


def _day(name: str) -> int:
    if name not in DAYS:
        raise ValueError(f"{name!r} is no day ({', '.join(DAYS)}, daily)")
    return DAYS.index(name)


def _span(text: str) -> tuple[int, int]:
    begin, dash, end = text.partition("-")
    if not dash:
        raise ValueError(f"{text!r} is no span of time (08:00-18:00)")
    first, last = clock_minutes(begin), clock_minutes(end)
    if first == MINUTES:
        raise ValueError("24:00 is an end, not a beginning")
    return first, last if last > first else last + MINUTES


def clock_minutes(text: str) -> int:
    """`18:30` → minutes since midnight, `24:00` included; ValueError."""
    match = re.fullmatch(r"(\d{1,2}):(\d{2})", text)
    minutes = 60 * int(match[1]) + int(match[2]) if match else -1
    if match is None or int(match[2]) > 59 or minutes > MINUTES:
        raise ValueError(f"{text!r} is no time of day (00:00 to 24:00)")
    return minutes


def _rule(actions: Sequence[str]) -> Rule:
    if list(actions) == ["pause"]:
        return Rule(pause=True)
    caps: dict[str, float] = {}
    for action in actions:
        match = re.fullmatch(r"(down|up)=(\d+(?:\.\d+)?)", action)
        if match is None or match[1] in caps:
            raise ValueError(
                f"{action!r} is no action: `pause`, or `down=` and `up=` with megabits per second, once each"
            )
        caps[match[1]] = float(match[2])
    if not caps:
        raise ValueError("it lacks an action: `pause`, or `down=` and `up=` with megabits per second")
    return Rule(down=caps.get("down"), up=caps.get("up"))

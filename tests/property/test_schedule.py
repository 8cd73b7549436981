"""The weekly schedule: what holds at a moment and when it changes, also where clocks are set forward and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hali.config.schedule import DAYS, Rule, Schedule
from hali.model.errors import UsageError

BERLIN = ZoneInfo("Europe/Berlin")  # forward on 2026-03-29 at 02:00, back on 2026-10-25 at 03:00
ZONES = [
    BERLIN,
    ZoneInfo("America/New_York"),
    ZoneInfo("Australia/Lord_Howe"),
    ZoneInfo("Asia/Kolkata"),
    ZoneInfo("UTC"),
]
OFFICE = Schedule.parse(["mon-fri 08:00-18:00 down=20 up=5", "sat,sun 00:00-24:00 pause"])


def local(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)


@st.composite
def entries(draw: st.DrawFn) -> str:
    days = draw(st.sampled_from([*DAYS, "daily", "mon-fri", "sat,sun", "fri-mon", "sun-tue,thu"]))
    begin, end = draw(st.integers(0, 24 * 60 - 1)), draw(st.integers(0, 24 * 60))
    action = draw(st.sampled_from(["pause", "down=1", "up=2.5", "down=0 up=3"]))
    return f"{days} {begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02} {action}"


@given(
    st.lists(entries(), min_size=1, max_size=4),
    st.sampled_from(ZONES),
    # The weeks in which these zones change their clocks, both ways, and any other.
    st.sampled_from(["2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03", "2026-10-24", "2026-10-31", "2026-06-10"]),
    st.integers(0, 2 * 24 * 60),
)
def test_the_next_change_is_the_first_minute_with_another_rule(
    texts: list[str], zone: ZoneInfo, week: str, minutes: int
) -> None:
    schedule = Schedule.parse(texts)
    now = datetime.fromisoformat(week).replace(tzinfo=UTC) + timedelta(minutes=minutes)
    present = schedule.at(now.astimezone(zone))
    found = schedule.next_change(now, zone)
    # By trying each minute, but not for the whole week in every example: two days hold the changes of clocks.
    tried = (now + timedelta(minutes=n) for n in range(1, 2 * 24 * 60))
    first = next((moment for moment in tried if schedule.at(moment.astimezone(zone)) != present), None)
    if first is not None:
        assert found == first
    else:
        assert found is None or found - now >= timedelta(days=2) - timedelta(minutes=1)


@given(entries(), st.integers(0, 7 * 24 * 60 - 1))
def test_an_entry_holds_for_as_long_each_day_as_its_times_say(text: str, offset: int) -> None:
    schedule = Schedule.parse([text])
    (entry,) = schedule.entries
    held = sum(schedule.at(datetime(2026, 6, 1) + timedelta(minutes=n)) is not None for n in range(7 * 24 * 60))
    overlap = entry.end - entry.begin > 24 * 60  # never: an entry lasts a day at most
    assert not overlap
    assert held == len(entry.days) * (entry.end - entry.begin)


def test_office_hours_are_capped_and_the_weekend_is_a_pause() -> None:
    assert OFFICE.at(local("2026-06-01T07:59")) is None
    assert OFFICE.at(local("2026-06-01T08:00")) == Rule(down=20, up=5)
    assert OFFICE.at(local("2026-06-05T17:59")) == Rule(down=20, up=5)
    assert OFFICE.at(local("2026-06-05T18:00")) is None
    assert OFFICE.at(local("2026-06-06T00:00")) == Rule(pause=True)
    assert OFFICE.at(local("2026-06-07T23:59")) == Rule(pause=True)
    assert OFFICE.at(local("2026-06-08T00:00")) is None


def test_an_entry_over_midnight_ends_on_the_next_day() -> None:
    night = Schedule.parse(["fri 22:00-06:00 down=0"])
    assert night.at(local("2026-06-05T21:59")) is None
    assert night.at(local("2026-06-06T05:59")) == Rule(down=0)
    assert night.at(local("2026-06-06T06:00")) is None
    assert night.at(local("2026-06-06T22:30")) is None
    assert Schedule.parse(["sun 23:00-01:00 pause"]).at(local("2026-06-08T00:30")) == Rule(pause=True)


def test_the_last_of_overlapping_entries_holds() -> None:
    schedule = Schedule.parse(["daily 00:00-24:00 down=10", "daily 12:00-13:00 pause"])
    assert schedule.at(local("2026-06-01T11:59")) == Rule(down=10)
    assert schedule.at(local("2026-06-01T12:00")) == Rule(pause=True)


def test_an_hour_that_the_clock_leaves_out_is_not_waited_for() -> None:
    schedule = Schedule.parse(["sun 02:30-04:00 pause"])
    before = local("2026-03-29T01:00")
    assert schedule.next_change(before, BERLIN) == local("2026-03-29T03:00").astimezone(UTC)  # 02:00 is 03:00 at once
    assert schedule.next_change(local("2026-03-29T03:10"), BERLIN) == local("2026-03-29T04:00").astimezone(UTC)


def test_an_hour_that_the_clock_repeats_is_repeated() -> None:
    schedule = Schedule.parse(["sun 02:15-02:45 pause"])
    moments, now = [], local("2026-10-25T01:00").astimezone(UTC)
    for _ in range(4):
        found = schedule.next_change(now, BERLIN)
        assert found is not None
        moments.append(now := found)
    first, second = local("2026-10-25T02:15"), local("2026-10-25T02:15", fold=1)
    half = timedelta(minutes=30)
    assert moments == [
        first.astimezone(UTC),
        first.astimezone(UTC) + half,
        second.astimezone(UTC),
        second.astimezone(UTC) + half,
    ]
    assert moments[2] - moments[0] == timedelta(hours=1)


def test_a_schedule_that_never_changes_has_no_next_change() -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    assert Schedule.parse([]).next_change(now, BERLIN) is None
    assert Schedule.parse(["daily 00:00-24:00 down=5"]).next_change(now, BERLIN) is None


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("mon", "it needs days, times and an action"),
        ("mon 08:00-18:00", "lacks an action"),
        ("monday 08:00-18:00 pause", "'monday' is no day"),
        ("mon 08:00 pause", "no span of time"),
        ("mon 08:00-25:00 pause", "'25:00' is no time of day"),
        ("mon 08:61-09:00 pause", "'08:61' is no time of day"),
        ("mon 24:00-09:00 pause", "24:00 is an end"),
        ("mon 08:00-09:00 pause down=5", "'pause' is no action"),
        ("mon 08:00-09:00 down=fast", "'down=fast' is no action"),
        ("mon 08:00-09:00 down=1 down=2", "'down=2' is no action"),
    ],
)
def test_a_wrong_entry_is_named_with_the_reason(entry: str, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        Schedule.parse(["daily 00:00-01:00 pause", entry])
    assert repr(entry) in caught.value.message
    assert reason in caught.value.message

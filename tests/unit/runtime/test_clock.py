"""Local time."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from hali.runtime.clock import local_zone, next_time_of_day

BERLIN = ZoneInfo("Europe/Berlin")


def moment(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).astimezone(UTC)


@pytest.mark.parametrize(
    ("now", "minute", "then"),
    [
        ("2026-06-01T17:00", 18 * 60, "2026-06-01T18:00"),
        ("2026-06-01T18:00", 18 * 60, "2026-06-02T18:00"),
        ("2026-06-01T18:00", 24 * 60, "2026-06-02T00:00"),
        ("2026-03-28T18:00", 8 * 60, "2026-03-29T08:00"),  # 13 hours: the clock is set forward in between
        ("2026-10-24T18:00", 8 * 60, "2026-10-25T08:00"),  # 15 hours
    ],
)
def test_the_next_time_of_day_is_by_the_wall(now: str, minute: int, then: str) -> None:
    assert next_time_of_day(moment(now), minute, BERLIN) == moment(then)


def test_in_a_repeated_hour_the_next_is_the_second() -> None:
    first, second = moment("2026-10-25T02:30"), moment("2026-10-25T02:30", fold=1)
    assert next_time_of_day(first, 150, BERLIN) == second


def test_the_zone_of_the_machine_knows_its_changes_of_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    zone = local_zone()
    summer, winter = datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    assert summer.astimezone(zone).hour - winter.astimezone(zone).hour == 1
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    assert local_zone().utcoffset(summer) is not None
    monkeypatch.delenv("TZ")
    assert local_zone().utcoffset(summer) is not None

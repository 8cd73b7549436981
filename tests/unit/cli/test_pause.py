"""What `hali pause` understands."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hali.cli import pause
from hali.cli.pause import seconds_of, told
from hali.model.errors import UsageError
from hali.model.units import MEGABIT
from hali.transfer.throttle import Caps

RUNNING = {"paused": False, "paused_until": None, "paused_by": None, "download_cap_mbps": 0.0, "upload_cap_mbps": 0.0}


@pytest.mark.parametrize(
    ("words", "seconds"),
    [([], None), (["90s"], 90), (["45m"], 2700), (["1h30m"], 5400), (["1h", "30m"], 5400), (["1d"], 86_400)],
)
def test_durations(words: list[str], seconds: float | None) -> None:
    assert seconds_of(words) == seconds


def test_until_a_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(2026, 6, 1, 15, 0, tzinfo=UTC)

    monkeypatch.setenv("TZ", "Europe/Berlin")
    monkeypatch.setattr(pause, "datetime", Clock)
    assert seconds_of(["until", "18:00"]) == 3600  # it is 17:00 in Berlin
    assert seconds_of(["until", "16:59"]) == 24 * 3600 - 60


@pytest.mark.parametrize("words", [["soon"], ["0s"], ["until"], ["until", "25:00"], ["10"], ["-5m"], ["9999d"]])
def test_what_is_no_time_is_told(words: list[str]) -> None:
    with pytest.raises(UsageError):
        seconds_of(words)


def test_the_state_is_one_sentence() -> None:
    assert told(RUNNING) == "Transfers run."
    assert told(RUNNING | {"upload_cap_mbps": 0.5}) == "Transfers run, at most 0.5 Mbit/s up."
    assert told(RUNNING | {"paused": True, "paused_by": "user"}) == "Transfers are paused."


def test_a_megabit_is_a_million_bits() -> None:
    assert 8 * MEGABIT == 1_000_000
    assert (Caps(upload_mbps=1, download_mbps=8).upload, Caps(download_mbps=8).download) == (125_000, 1_000_000)

"""When to try again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hali.transfer.http_location import parse_content_range, plain_tag
from hali.transfer.http_retry import HttpPolicy, backoff, retry_after, wait_before_retry

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 0 ", 0.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("-3", None),
        ("", None),
        ("٣", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, now=NOW) == seconds


def test_without_the_header_the_server_asks_for_nothing() -> None:
    assert retry_after({}) is None


def test_backoff_doubles_up_to_its_cap_with_half_of_it_random() -> None:
    policy = HttpPolicy(backoff_first=1.0, backoff_cap=10.0)
    assert [backoff(policy, n, draw=lambda: 1.0) for n in (1, 2, 3, 4, 5, 999)] == [1, 2, 4, 8, 10, 10]
    assert backoff(policy, 3, draw=lambda: 0.0) == 2.0
    assert backoff(policy, 0, draw=lambda: 1.0) == 0.1  # after progress


def test_the_servers_wish_is_followed_up_to_the_cap() -> None:
    policy = HttpPolicy(backoff_first=1.0, retry_after_cap=60.0)
    assert wait_before_retry(policy, 1, 30.0, draw=lambda: 0.0) == 30.0
    assert wait_before_retry(policy, 1, 9999.0, draw=lambda: 0.5) == 60.5


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bytes 0-99/1000", (0, 99, 1000)),
        ("bytes 5-5/*", (5, 5, None)),
        ("bytes 9-5/10", None),
        ("bytes 0-10/10", None),
        ("bytes */10", None),
        ("0-9/10", None),
        ("bytes 0-9/10 ", None),
        (None, None),
    ],
)
def test_content_range_is_read_strictly(text: str | None, found: tuple[int, int, int | None] | None) -> None:
    assert parse_content_range(text) == found


def test_tags_compare_without_quotes_and_weakness() -> None:
    assert plain_tag('W/"abc"') == plain_tag('"abc"') == plain_tag("abc") == "abc"
    assert plain_tag('""') is None

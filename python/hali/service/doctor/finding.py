"""What checks find, and the report made of it. Field names are a public format; only additions are allowed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

SCHEMA = 1
Status = Literal["ok", "warn", "fail", "skip"]
EXIT_CODES: dict[Status, int] = {"ok": 0, "skip": 0, "warn": 1, "fail": 2}  # of `hali doctor`; the worst one counts


class Finding(msgspec.Struct, frozen=True):
    """What one check saw. `fix` is a shell command that mends it, to be run as written; a `fail` has one where there is any."""

    status: Status
    detail: str
    fix: str | None = None


class Result(msgspec.Struct, frozen=True):
    """A finding with its check and how long it took."""

    id: str
    title: str
    status: Status
    detail: str
    fix: str | None
    ms: int


class Report(msgspec.Struct, frozen=True):
    """What `hali doctor --json` prints."""

    schema: int
    generated_at: str  # RFC 3339, UTC
    version: str
    ok: bool  # nothing fails and nothing warns
    summary: dict[Status, int]
    checks: list[Result]

    @property
    def exit_code(self) -> int:
        """0 ok, 1 a warning, 2 a failure."""
        return max((EXIT_CODES[each.status] for each in self.checks), default=0)


def report_of(results: Sequence[Result], *, generated_at: str, version: str) -> Report:
    """The report of these results, in their order."""
    statuses: tuple[Status, ...] = ("ok", "warn", "fail", "skip")
    summary = {status: sum(each.status == status for each in results) for status in statuses}
    healthy = not summary["warn"] and not summary["fail"]
    return Report(SCHEMA, generated_at, version, healthy, summary, list(results))


def passed(detail: str) -> Finding:
    """As it should be."""
    return Finding("ok", detail)


def skipped(detail: str) -> Finding:
    """Does not apply here, or cannot be looked at now; `detail` says why."""
    return Finding("skip", detail)


def warned(detail: str, fix: str) -> Finding:
    """Works, but will not for long, or not as well as it could."""
    return Finding("warn", detail, fix)


def failed(detail: str, fix: str | None) -> Finding:
    """Does not work; `fix` is None where no command mends it."""
    return Finding("fail", detail, fix)


class Check(msgspec.Struct, frozen=True):
    """One line of the report. `look` may block up to `deadline_s`, up to `deep_s` with --deep."""

    id: str
    title: str
    look: Callable[[Any], Finding]
    deadline_s: float = 20.0  # far above what any takes on a busy machine: a disk that hangs is the finding
    deep_s: float = 60.0

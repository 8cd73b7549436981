"""Runs checks side by side. Whatever one of them does, the others have their say, and the report comes in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from hali.model.errors import HaliError
from hali.service.doctor.context import Context
from hali.service.doctor.finding import Check, Finding, Result, failed

NAME = "doctor "
LOOK_CLOSER = "hali logs"  # for what a check could not even look at


def run(checks: Iterable[Check], context: Context) -> list[Result]:
    """The results in the order of `checks`. Those that were late may still run, see `stragglers`."""
    context.settings  # noqa: B018 — read once, before threads would do it several times
    running = [_Running(check, context) for check in checks]
    return [each.result() for each in running]


def stragglers() -> list[str]:
    """Names of the threads of checks that came to no end in time."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(NAME)]


class _Running:
    """One check in a thread of its own, which is left behind when it does not return: a process that ends does not wait for it."""

    def __init__(self, check: Check, context: Context) -> None:
        self._check, self._context = check, context
        self._began = time.monotonic()
        self._found: tuple[Finding, float] | None = None
        self._thread = threading.Thread(target=self._look, name=f"{NAME}{check.id}", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        finding = judged(self._check, self._context)
        self._found = finding, time.monotonic()

    def result(self) -> Result:
        """Waits until the check is done, at the longest until its deadline."""
        limit = self._check.deep_s if self._context.deep else self._check.deadline_s
        self._thread.join(max(0.0, self._began + limit - time.monotonic()))
        late = failed(f"nothing came of it in {limit:g} s", LOOK_CLOSER), time.monotonic()
        finding, ended = self._found or late
        ms = round(1000 * (ended - self._began))
        return Result(self._check.id, self._check.title, finding.status, finding.detail, finding.fix, ms)


def judged(check: Check, context: Context) -> Finding:
    """What the check finds; that it raised is a finding too."""
    try:
        return check.look(context)
    except HaliError as exc:
        return failed(f"{exc.message}{f' — {exc.hint}' if exc.hint else ''}", LOOK_CLOSER)
    except Exception as exc:  # a part so broken that its check breaks is what this command is for
        return failed(f"cannot be looked at: {type(exc).__name__}: {exc}", LOOK_CLOSER)

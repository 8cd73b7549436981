"""What the service manager hears of a daemon that runs: that its essential services live, and in one line how it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from hali.runtime.log import get_logger
from hali.runtime.notify import Notifier
from hali.runtime.supervisor import Status

log = get_logger(__name__)


async def keep_telling(notifier: Notifier, statuses: Callable[[], Sequence[Status]]) -> None:
    """Until cancelled: four times in the manager's limit say that we live, unless an essential service is down.

    It is silent then, and after the limit the manager ends the daemon and starts another. A hanging event loop is silent too.
    """
    if notifier.watchdog_s is None:
        return
    told = ""
    while True:
        now = statuses()
        if lost := [status.name for status in now if status.essential and status.state != "ready"]:
            log.warning("service.watchdog_withheld", services=", ".join(lost))
        else:
            await notifier.alive()
        if (text := describe(now)) != told:
            told = text
            await notifier.status(text)
        await anyio.sleep(notifier.watchdog_s / 4)  # two looks that fall into a short restart must not end us


def describe(statuses: Sequence[Status]) -> str:
    """`9 services ready`, and which are not and why."""
    wrong = [status for status in statuses if status.state != "ready"]
    ready = f"{len(statuses) - len(wrong)} of {len(statuses)} services ready"
    return "; ".join([ready, *(f"{s.name} {s.state}{f': {s.error}' if s.error else ''}" for s in wrong)])

"""What is in use at this moment, so that a prune leaves it alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from hali.share.job import Job
from hali.share.library import Entry
from hali.share.space import Busy

# States of a job that may still choose any file; a pause hides which of them it is.
_UNDECIDED = ("queued", "paused", "resolving", "connecting")


def what_is_busy(
    entries: Iterable[Entry], engines: Iterable[str], sending: Collection[str], jobs: Collection[Job]
) -> Busy:
    """`engines` are the names of loaded models (`id@sha256…`), `sending` the SHA-256 of those that others fetch."""
    loaded = tuple(name.partition("@")[2] for name in engines)
    shown = [job.progress for job in jobs]
    files = frozenset(each.name for each in shown if each.state == "paused" or each.state not in _UNDECIDED)
    models = {}
    for entry in entries:
        meta = entry.record.meta
        if loaded and meta.sha256.startswith(loaded):
            models[meta.sha256] = "in memory"
        elif meta.sha256 in sending:
            models[meta.sha256] = "being sent"
        elif files & set(meta.files):
            models[meta.sha256] = "being fetched"
    return Busy(models, files, any(each.state in _UNDECIDED for each in shown))

"""Checks of what is kept: the database, the models, what waits to be told to registries. Nothing is written."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from hali.model.errors import ConfigError, HaliError
from hali.model.units import DAY_S, format_bytes, format_duration
from hali.service.doctor.context import Context, quoted
from hali.service.doctor.finding import Finding, failed, passed, skipped, warned

SHOWN = 3  # of the models or errors that one line names
LATE_S = DAY_S  # a registry that nobody reached for a day is no passing trouble


def database(context: Context) -> Finding:
    """Is every page of `hali.db` whole? `quick_check` looks at all of them; --deep compares indices with tables too."""
    path = context.paths.database
    if not path.exists():
        return skipped("not made yet")
    stop = f"{context.daemon_command('stop')} && " if context.daemon.running else ""
    start = f" && {context.daemon_command('start')}" if context.daemon.running else ""
    if path.is_dir():
        return failed(
            f"{path} is a folder", f"{stop}mv {quoted(path)} {quoted(path.with_name('hali.db.aside'))}{start}"
        )
    repair = f"{stop}hali doctor --repair database{start}"
    try:
        with closing(_open(context)) as db:
            rows = [row[0] for row in db.execute(f"PRAGMA {'integrity_check' if context.deep else 'quick_check'}(10)")]
            version = db.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.OperationalError as exc:  # locked, no permission: nothing is said about the data
        return failed(f"{path}: {exc}", f"chmod 600 {quoted(path)}")
    except sqlite3.DatabaseError as exc:
        return failed(f"{path}: {exc}", repair)
    if (trouble := _schema(version)) is not None:  # before all else: what is of a newer hali is not ours to repair
        return trouble
    if rows != ["ok"]:
        return failed(f"{path}: {len(rows)} errors, first: {' '.join(str(rows[0]).split())}", repair)
    left = [p for p in (path.with_name(f"{path.name}{end}") for end in ("-wal", "-journal")) if p.exists()]
    journals = ", ".join(f"{p.name} {format_bytes(p.stat().st_size)}" for p in left)
    return passed(f"{format_bytes(path.stat().st_size)}, schema {version}{f', {journals}' if journals else ''}")


def _schema(version: int) -> Finding | None:
    from hali.store.database import UPGRADE, check_version

    try:
        check_version(version)
    except ConfigError as exc:
        return failed(exc.message, UPGRADE)
    return None


def _open(context: Context) -> sqlite3.Connection:
    return sqlite3.connect(f"{context.paths.database.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0)


# ---- models


def models(context: Context) -> Finding:
    """Is every model as it was verified, by size and time of its files? --deep reads them and compares their SHA-256."""
    if not context.models.exists() and not context.daemon.bad:
        return skipped("the store is empty")
    from hali.store.models import ModelStore

    store = ModelStore(context.models)
    unreadable, records = store.unreadable(), store.records()
    if unreadable:
        first = unreadable[0]
        files = [each for each in first.parent.iterdir() if each.suffix == ".gguf"]
        told = f"{len(unreadable)} records of models cannot be read: {first}"
        return failed(told, f"mv {quoted(first)} {quoted(first.with_name('metadata.damaged'))}{_add_again(files)}")
    known = {row["sha256"]: _known_to_the_daemon(row) for row in context.daemon.bad}
    others = [record for record in records if record.meta.sha256 not in known]
    try:
        wrong = [*known.values(), *(bad for r in others if (bad := _wrong_with(r, deep=context.deep)) is not None)]
    except ImportError as exc:  # the hasher; native.modules tells it
        return skipped(f"cannot be read: {exc}")
    if not wrong:
        size = format_bytes(sum(record.meta.size for record in records))
        return passed(
            f"{len(records)} models, {size}, {'all bytes' if context.deep else 'sizes and times'} as recorded"
        )
    told = "; ".join(f"{each.name}: {each.reason}" for each in wrong[:SHOWN])
    return failed(told, "; ".join(f"hali {each.command}" for each in wrong))  # one that fails stops no other


def _add_again(files: list[Any]) -> str:
    return f" && hali add {quoted(files[0])}" if files else ""


class _Wrong(NamedTuple):
    name: str
    reason: str
    command: str  # of hali, that mends it


def _known_to_the_daemon(row: dict[str, Any]) -> _Wrong:
    """A row of `hali list`. What was missing may be there again, with the disk that it lies on: to remove it then would lose it."""
    back = row["state"] == "missing" and Path(row["path"]).exists()
    told = "its file was gone and is there again" if back else row["error"]
    return _Wrong(row["model_id"], told, f"{'verify' if back else 'rm --yes'} {row['sha256']}")


def _wrong_with(record: Any, *, deep: bool) -> _Wrong | None:
    name, remove = record.meta.model_id, f"rm --yes {record.meta.sha256}"
    try:
        if record.changed_on_disk():
            return _Wrong(name, "its file changed since it was verified", f"verify {record.meta.sha256}")
    except (HaliError, OSError) as exc:
        return _Wrong(name, exc.message if isinstance(exc, HaliError) else str(exc), remove)
    found = next(_damaged(record), None) if deep else None
    return None if found is None else _Wrong(name, found, remove)


def _damaged(record: Any) -> Iterator[str]:
    from hali.hashing import hash_file

    for file in record.meta.each:
        if hash_file(record.directory / file.name).sha256.hex() != file.sha256:
            yield f"{file.name} has another SHA-256 than on record"


# ---- outbox


def outbox(context: Context) -> Finding:
    """Does what was signed and counted reach the registries?"""
    if not context.paths.database.is_file():
        return passed("empty")
    try:
        with closing(_open(context)) as db:
            rows = db.execute("SELECT state, COUNT(*), MIN(created_at) FROM outbox GROUP BY state").fetchall()
    except sqlite3.DatabaseError:
        return skipped("the database cannot be read")  # told by its own check
    states = {state: (count, oldest) for state, count, oldest in rows}
    return judge_outbox(context, states, now=time.time())


def judge_outbox(context: Context, states: dict[str, tuple[int, float]], *, now: float) -> Finding:
    """Pure but for whether a daemon runs: (how many, the oldest's time) by state."""
    waiting, oldest = states.get("waiting", (0, now))
    refused, _ = states.get("refused", (0, now))
    if refused:
        return warned(f"{refused} messages were refused by registries", "hali registry status")
    if waiting and now - oldest > LATE_S:
        told = f"{waiting} messages wait for registries, the oldest for {format_duration(now - oldest)}"
        return warned(told, "hali registry status" if context.daemon.running else "hali daemon start")
    return passed(f"{waiting} messages wait for registries" if waiting else "empty")

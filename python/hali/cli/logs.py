"""`hali logs`."""

from __future__ import annotations

import calendar
import contextlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from hali.cli.apps import new_app
from hali.cli.output import Output, current
from hali.config.paths import from_environment
from hali.model.errors import ExitCode, NotFound, Refused
from hali.model.printing import printable, printable_lines
from hali.runtime.log import OLD_LOGS

app = new_app()
POLL_S = 0.25
FIELDS = ("ts", "level", "logger", "event", "traceback")  # told apart from those of the event itself


@app.command()
def logs(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", metavar="N", min=0, help="How many of the last lines.")] = 50,
) -> None:
    """The daemon's log, for people; times are local.

    With --json as it is in the file: one object a line with `ts`, `level`, `logger`, `event`, the event's own fields and `traceback`
    where there is one.
    """
    show(current(ctx), from_environment().logs / "hali.log", lines, follow=follow)


def show(out: Output, path: Path, lines: int, *, follow: bool) -> None:
    """The last `lines` of a log and, if asked, all that come; NotFound, or Refused, where it cannot be read."""
    try:
        log = path.open("rb")
    except FileNotFoundError:
        raise NotFound(f"no log at {path}", hint="it begins with the first start of the daemon") from None
    except PermissionError:
        raise Refused(f"no permission to read {path}", hint="ask with sudo for the log of a system service") from None
    try:
        for line in deque(log, maxlen=min(lines, sys.maxsize)):
            _print(out, line)
        if follow:
            _follow(out, path, log)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    finally:
        log.close()


def _follow(out: Output, path: Path, log: BinaryIO) -> None:
    """Print what is appended; when the log was rotated, finish it and go on with those that came after it."""
    with contextlib.ExitStack() as ours:  # the logs after the first, which is the caller's
        while True:
            _print_new(out, log)
            if not (later := _later(path, log)):
                time.sleep(POLL_S)
                continue
            _print_new(out, log)  # what was written between our last look and the rotation
            ours.close()
            for log in later:
                ours.enter_context(log)
                _print_new(out, log)


def _print_new(out: Output, log: BinaryIO) -> None:
    """All whole lines; one that is being written is read again."""
    while line := log.readline():
        if not line.endswith(b"\n"):
            log.seek(-len(line), os.SEEK_CUR)
            return
        _print(out, line)


def _later(path: Path, log: BinaryIO) -> list[BinaryIO]:
    """The logs that were begun after `log`, oldest first; empty while it is the one that is written."""
    ours = os.fstat(log.fileno())
    later: list[BinaryIO] = []
    for opened in _opened(path):  # the newest first
        there = os.fstat(opened.fileno())
        if os.path.samestat(there, ours):
            opened.close()
            return later[::-1]
        if later and os.path.samestat(there, os.fstat(later[-1].fileno())):  # rotated between two of our looks
            opened.close()
            continue
        later.append(opened)
    # Ours is gone: two rotations and more. What was written last before it is older.
    for opened in later:
        if os.fstat(opened.fileno()).st_mtime_ns <= ours.st_mtime_ns:
            opened.close()
    return [opened for opened in reversed(later) if not opened.closed]


def _opened(path: Path) -> Iterator[BinaryIO]:
    """The log and its predecessors, in the order in which a rotation between two of them shows one twice and misses none."""
    for name in (path, *(path.with_name(f"{path.name}.{n + 1}") for n in range(OLD_LOGS))):
        try:
            yield name.open("rb")
        except FileNotFoundError:  # none yet, or in the middle of a rotation
            continue


def _print(out: Output, raw: bytes) -> None:
    line = raw.decode("utf-8", "replace").rstrip("\n")
    print(line if out.as_json else readable(line), flush=True)


def readable(line: str) -> str:
    """`11-21 10:37:05 warning transfer.session peer.banned peer=…`; what is no JSON is shown as it is."""
    try:
        found = json.loads(line)
        moment = time.strptime(found["ts"][:19], "%Y-%m-%dT%H:%M:%S")
    except (ValueError, KeyError, TypeError):
        return printable(line)
    clock = time.strftime("%m-%d %H:%M:%S", time.localtime(calendar.timegm(moment)))
    fields = " ".join(f"{name}={value}" for name, value in found.items() if name not in FIELDS)
    name = str(found.get("logger", "")).removeprefix("hali.")
    text = printable(f"{clock} {found.get('level', ''):<7} {name} {found.get('event', '')} {fields}".rstrip())
    return f"{text}\n{printable_lines(str(found['traceback']))}" if "traceback" in found else text

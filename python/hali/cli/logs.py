"""`hali logs`."""

from __future__ import annotations

import calendar
import json
import os
import time
from collections import deque
from pathlib import Path
from typing import Annotated

import typer

from hali.cli.apps import new_app
from hali.cli.output import Output, current
from hali.config.paths import from_environment
from hali.model.errors import ExitCode, NotFound

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
    path, out = from_environment().logs / "hali.log", current(ctx)
    try:
        with path.open("rb") as log:
            for line in deque(log, maxlen=lines):
                _print(out, line)
            position = log.tell()
    except FileNotFoundError:
        raise NotFound(f"no log at {path}", hint="it begins with the first start of the daemon") from None
    if follow:
        try:
            _follow(out, path, position)
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None


def _follow(out: Output, path: Path, position: int) -> None:
    """Print what is appended; when the log is rotated, go on with the new file."""
    while True:
        with path.open("rb") as log:
            log.seek(position)
            position = 0
            while True:
                if (line := log.readline()).endswith(b"\n"):
                    _print(out, line)
                    continue
                if _rotated(path, log.fileno()):
                    break
                log.seek(-len(line), os.SEEK_CUR)  # a line that is being written is read again
                time.sleep(POLL_S)


def _rotated(path: Path, fd: int) -> bool:
    """True when another file has the name now; while it has none, the old one may still grow."""
    try:
        return path.stat().st_ino != os.fstat(fd).st_ino
    except FileNotFoundError:
        return False


def _print(out: Output, raw: bytes) -> None:
    line = raw.decode("utf-8", "replace").rstrip("\n")
    print(line if out.as_json else readable(line), flush=True)


def readable(line: str) -> str:
    """`11-21 10:37:05 warning transfer.session peer.banned peer=…`; what is no JSON is shown as it is."""
    try:
        found = json.loads(line)
        moment = time.strptime(found["ts"][:19], "%Y-%m-%dT%H:%M:%S")
    except (ValueError, KeyError, TypeError):
        return _printable(line)
    clock = time.strftime("%m-%d %H:%M:%S", time.localtime(calendar.timegm(moment)))
    fields = " ".join(f"{name}={value}" for name, value in found.items() if name not in FIELDS)
    name = str(found.get("logger", "")).removeprefix("hali.")
    text = _printable(f"{clock} {found.get('level', ''):<7} {name} {found.get('event', '')} {fields}".rstrip())
    return f"{text}\n{found['traceback']}" if "traceback" in found else text


def _printable(text: str) -> str:
    """A field may hold what a stranger sent; control characters must not reach a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

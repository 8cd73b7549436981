"""Watching a job of the daemon: a bar on a terminal, plain lines elsewhere, JSON lines on request."""

from __future__ import annotations

from typing import Any, Protocol

from hali.cli.output import Output
from hali.daemon.client import DaemonClient
from hali.model.errors import Cancelled
from hali.model.units import format_bytes, format_rate


class Display(Protocol):
    """Shows the progress of one job."""

    def show(self, event: dict[str, Any]) -> None:
        """A new state."""

    def close(self) -> None:
        """Nothing more comes."""


def run_job(out: Output, client: DaemonClient, method: str, **params: Any) -> dict[str, Any]:
    """Run `method` to its end, showing progress; prints and returns its result. Ctrl-C cancels it, resumably."""
    display = _display_for(out)
    try:
        result = _follow(client, display, method, params)
    except KeyboardInterrupt:
        display.close()
        client.close()
        _cancel(params["what"], method)
        raise Cancelled(f"{params['what']}: stopped", hint="what arrived is kept; the same command goes on from there") from None
    finally:
        display.close()
    _print(out, result)
    return result


def _follow(client: DaemonClient, display: Display, method: str, params: dict[str, Any]) -> dict[str, Any]:
    for kind, value in client.stream(method, **params):
        if kind == "result":
            return value
        display.show(value)
    raise AssertionError("the stream of a job ends with its result")


def _cancel(what: str, method: str) -> None:
    from hali.cli import control

    with control.connect() as client:
        client.call("cancel", what=what, kind=method)


def _print(out: Output, result: dict[str, Any]) -> None:
    if out.as_json:
        out.json({"event": "done", "ok": True, **result}, line=True)
        return
    if out.quiet:
        return
    if result["from_store"]:
        out.line(f"Already here: {result['model_id']} ({format_bytes(result['size'])}, {result['state']})")
    else:
        rate = format_rate(result["size"] / result["seconds"]) if result["seconds"] else "—"
        out.line(f"{result['model_id']}  {format_bytes(result['size'])} in {result['seconds']:.1f} s ({rate}), {result['state']}")
    out.line(f"  sha256  {result['sha256']}")
    out.line(f"  magnet  {result['magnet']}")
    out.line(f"  file    {result['path']}")


def _display_for(out: Output) -> Display:
    if out.as_json:
        return _JsonLines(out)
    if out.quiet:
        return _Silent()
    return _Bar() if out.interactive else _PlainLines(out)


class _Silent:
    def show(self, event: dict[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _JsonLines(_Silent):
    def __init__(self, out: Output) -> None:
        self._out = out

    def show(self, event: dict[str, Any]) -> None:
        """One event a line."""
        self._out.json({"event": "progress", **event}, line=True)


class _PlainLines(_Silent):
    """A line when the state changes and every tenth of the way: fit for a log."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._last: tuple[str, int] = ("", -1)

    def show(self, event: dict[str, Any]) -> None:
        """See the class."""
        if event["state"] in ("queued", "resolving", "failed"):  # over in a moment, or told by the error's own line
            return
        total = event["total"] or 0
        tenth = 10 * event["done"] // total if total else 0
        if (event["state"], tenth) == self._last:
            return
        self._last = (event["state"], tenth)
        self._out.note(describe(event))


class _Bar:
    """One Rich bar with rate, time left, peers and where the bytes come from."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[extra]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task("starting", total=None, extra="")

    def show(self, event: dict[str, Any]) -> None:
        """See the class."""
        peers = f"{event['peers']} peers" if event["peers"] is not None else ""
        extra = " ".join([peers, *event["sources"]])
        description = f"{event['state']} {event['name']}"
        self._progress.update(self._task, description=description, completed=event["done"], total=event["total"], extra=extra)

    def close(self) -> None:
        """Take the bar away; the result says it all."""
        self._progress.stop()


def describe(event: dict[str, Any]) -> str:
    """One event as a line: `downloading name 34.0 MB of 98.4 MB (34 %) 41.0 MB/s, 2 peers, lan`."""
    parts = [f"{event['state']} {event['name']}"]
    if event["total"]:
        share = 100 * event["done"] // event["total"]
        parts.append(f"{format_bytes(event['done'])} of {format_bytes(event['total'])} ({share} %)")
    if event["rate"]:
        parts.append(format_rate(event["rate"]))
    line = " ".join(parts)
    extra = [f"{event['peers']} peers"] if event["peers"] is not None else []
    return ", ".join([line, *extra, *event["sources"]])

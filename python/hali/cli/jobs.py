"""Watching a job of the daemon: a bar on a terminal, plain lines elsewhere, JSON lines on request."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Protocol

from hali.cli.bar import FULL, describe, draw
from hali.cli.output import Output
from hali.cli.prompting import no_echo
from hali.daemon.client import DaemonClient
from hali.model.errors import Cancelled, Failed, NotRunning
from hali.model.units import format_bytes, format_rate
from hali.runtime.signals import closing_at_the_end

CANCEL_S = 15.0  # the job stops in milliseconds; on a busy disk libtorrent may take 5 s to write out, and 5 s to leave


class Display(Protocol):
    """Shows the progress of one job."""

    def show(self, event: dict[str, Any]) -> None:
        """A new state."""

    def close(self) -> None:
        """Nothing more comes."""


def run_job(out: Output, client: DaemonClient, method: str, **params: Any) -> dict[str, Any]:
    """Run `method` to its end, showing progress; prints and returns its result. Ctrl-C cancels it, resumably."""
    display = display_for(out)
    try:
        result = _follow(client, display, method, params)
    except KeyboardInterrupt:
        display.close()
        client.close()
        _cancel(method, params)
        raise Cancelled(
            f"{params['what']}: stopped", hint="finished pieces are kept; the same command goes on"
        ) from None
    except BrokenPipeError:  # `| head`: what came of it is not known, so this is no success
        raise Failed(
            f"{params['what']}: nobody reads how it goes on", hint="the daemon goes on with it: `hali queue` shows it"
        ) from None
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


def _cancel(method: str, params: dict[str, Any]) -> None:
    """This job and no other one of the same name.

    Over a new connection: the old one may have been cut in the middle of a line. A second Ctrl-C does not cut it short.
    """
    import signal

    from hali.cli import control

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with control.connect() as client:
            client.call("cancel", timeout=CANCEL_S, kind=method, **params)
    except NotRunning:
        return  # it ended at the same moment, and the job with it
    finally:
        signal.signal(signal.SIGINT, before)


def _print(out: Output, result: dict[str, Any]) -> None:
    if out.as_json:
        out.json({"event": "done", "ok": True, **result}, line=True)
        return
    if out.quiet:
        return
    if result["from_store"]:
        out.line(f"Already here: {result['model_id']} ({format_bytes(result['size'])}, {result['state']})")
    else:
        layers = f" (layers {result['layers']})" if "layers" in result else ""
        out.line(f"{result['model_id']}  {_feat(result)}, {result['state']}{layers}")
    out.line(f"  sha256  {result['sha256'] or 'unknown'}{' (of the whole, as promised)' if 'layers' in result else ''}")
    out.line(f"  magnet  {result['magnet']}")
    out.line(f"  file    {result['path']}")
    if listed := result.get("registry"):
        trust = "pinned" if listed["trust"] is None else f"{listed['trust']:.0f} of 100"
        out.line(f"  trust   {trust}, publisher {listed['publisher'][:16]}…, {listed['url']}")


def _feat(result: dict[str, Any]) -> str:
    """`98.4 MB in 1.6 s (62.9 MB/s)`; of a resumed one, what came this time."""
    came = result.get("came") or result["size"]
    size = (
        format_bytes(result["size"])
        if came == result["size"]
        else f"{format_bytes(came)} of {format_bytes(result['size'])}"
    )
    rate = f" ({format_rate(came / result['seconds'])})" if result["seconds"] else ""
    return f"{size} in {result['seconds']:.1f} s{rate}"


def display_for(out: Output) -> Display:
    """How this invocation shows progress."""
    if out.as_json:
        return _JsonLines(out)
    if out.quiet:
        return _Silent()
    return _Bar(out) if out.animated else _PlainLines(out)


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
    """A line when the state changes, every tenth of the way, and when a server has to be waited for: fit for a log."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._last: tuple[str, int, bool] = ("", -1, False)

    def show(self, event: dict[str, Any]) -> None:
        """See the class."""
        if event["state"] in ("resolving", "seeding", "failed", "cancelled"):
            return  # over in a moment, or told by the result or the error
        total = event["total"] or 0
        tenth = 10 * event["done"] // total if total else 0
        seen = (event["state"], tenth, bool(event.get("waits_s")))
        if seen == self._last:
            return
        self._last = seen
        self._out.note(describe(event))


class _Bar:
    """One line, drawn again and again by Rich, which minds resizing, the cursor and the end."""

    def __init__(self, out: Output) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self._text = Text
        self._console = Console(stderr=True, no_color=not out.color)
        self._event: dict[str, Any] | None = None
        self._live = Live(get_renderable=self._draw, console=self._console, transient=True, refresh_per_second=10)
        self._quiet = ExitStack()
        self._quiet.enter_context(closing_at_the_end())
        self._quiet.enter_context(no_echo())  # the ^C of a terminal would make the line too long to be taken away
        self._live.start()

    def _draw(self) -> Any:
        if self._event is None:
            return self._text("")
        # One column less: a full line makes some terminals wrap.
        line = self._text(draw(self._event, self._console.width - 1), no_wrap=True, overflow="crop")
        line.highlight_regex(f"{FULL}+", "green")
        return line

    def show(self, event: dict[str, Any]) -> None:
        """See the class."""
        self._event = event

    def close(self) -> None:
        """Take the bar away; the result says it all. Harmless when it is gone already."""
        self._live.stop()
        self._quiet.close()

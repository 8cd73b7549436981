"""`hali stats --web`: the dashboard in a browser."""

from __future__ import annotations

import os
import sys
import webbrowser

from hali.cli import control
from hali.cli.output import Output
from hali.model.errors import NotRunning


def open_dashboard(out: Output) -> None:
    """Print its address, and open it where somebody can see it; with --json only print."""
    with control.needed(out) as client:
        url = client.call("status")["http"]
    if url is None:
        raise NotRunning("the daemon runs, its HTTP server does not", hint="`hali logs` tells why")
    out.result({"url": url}, url)
    # The daemon, and so the browser's way to it, may be on a machine without a screen: then the address is all there is.
    if not out.as_json and has_display() and not webbrowser.open(url):
        out.note("No browser could be opened.")


def has_display() -> bool:
    """A graphical browser can show itself: without one `webbrowser` would take the terminal for a text browser."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

"""What the node's viewers are told of the node as a whole: pauses, settings, its own beginning and end."""

from __future__ import annotations

from datetime import datetime

from hali._version import __version__
from hali.runtime.activity import Activity
from hali.transfer.regulator import Allowance


class NodeTeller:
    """Tells changes only; the first allowance is no change."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._paused: bool | None = None
        self._waiting: list[str] = []  # keys that wait for a restart, as last told

    def allowed(self, allowance: Allowance) -> None:
        """What transfers may do from now on."""
        before, self._paused = self._paused, allowance.paused
        if before in (None, allowance.paused):
            return
        if not allowance.paused:
            self._activity.tell("transfers.resumed", "Transfers go on")
            return
        until = None if allowance.until is None else datetime.fromtimestamp(allowance.until).astimezone()
        text = "Transfers are paused" if until is None else f"Transfers are paused until {until:%H:%M}"
        shown = until.isoformat(timespec="seconds") if until is not None else None
        self._activity.tell("transfers.paused", text, until=shown)

    def reloaded(self, applied: list[str], restart: list[str]) -> None:
        """Settings were read again. Whoever reads the file unchanged hears nothing."""
        self._activity.changed("settings")
        if not applied and restart == self._waiting:
            return
        self._waiting = restart
        said = [f"in force: {', '.join(applied)}"] if applied else []
        said += [f"after a restart: {', '.join(restart)}"] if restart else []
        text = f"Settings changed ({'; '.join(said)})" if said else "Settings are as they were at the start"
        self._activity.tell("settings.changed", text, applied=", ".join(applied), restart=", ".join(restart))

    def started(self) -> None:
        """The daemon is ready."""
        self._activity.tell("daemon.started", f"hali {__version__} is ready", version=__version__)

    def stopping(self) -> None:
        """Its end begins."""
        self._activity.tell("daemon.stopping", "hali is stopping")

"""How a service is, in one shape whatever manages it."""

from __future__ import annotations

from typing import Literal

import msgspec

Manager = Literal["systemd", "launchd", "task-scheduler"]
State = Literal["absent", "stopped", "starting", "running", "stopping", "waiting", "failed"]


class ServiceState(msgspec.Struct, frozen=True):
    """What the manager says. `waiting`: it ended and is started again soon. None = the manager does not tell."""

    state: State
    enabled: bool | None = None  # starts by itself with the machine or the session
    pid: int | None = None
    restarts: int | None = None
    exit_code: int | None = None  # of its last end
    text: str = ""  # what it says of itself, or the manager of its end

    @property
    def running(self) -> bool:
        """True when it answers."""
        return self.state == "running"

    @property
    def installed(self) -> bool:
        """True when the manager knows it."""
        return self.state != "absent"

"""What a service is to be, before any manager's words for it."""

from __future__ import annotations

from typing import Literal

import msgspec

from hali.model.errors import ExitCode
from hali.service.targets import Target

Scope = Literal["user", "system"]
RESTART_S = (5, 30, 60)  # before the first, the second and each later new start
# What a new start cannot mend: the settings, or the arguments, have to be changed first.
FINAL = (ExitCode.USAGE, ExitCode.CONFIG)


class Credential(msgspec.Struct, frozen=True):
    """A secret that the manager reads and hands over; never part of a unit."""

    name: str
    path: str


class Description(msgspec.Struct, frozen=True):
    """One service on one machine. Paths are absolute."""

    target: Target
    scope: Scope
    python: str
    home: str  # HALI_HOME
    arguments: tuple[str, ...] = ()
    account: str = ""  # of a system service; empty = one that the manager makes up
    credentials: tuple[Credential, ...] = ()
    devices: tuple[str, ...] = ()  # GPUs
    writable: tuple[str, ...] = ()  # outside of `home`

    @property
    def command(self) -> tuple[str, ...]:
        """The program itself. `-P`: modules that lie in the working directory are not ours."""
        return (self.python, "-P", *self.target.arguments, *self.arguments)

    @property
    def kept_command(self) -> tuple[str, ...]:
        """The program under our own keeper, for managers that know neither the steps nor the exit codes."""
        return (self.python, "-P", "-m", "hali.service.keeper", "--home", self.home, self.target.name, *self.arguments)

    @property
    def log(self) -> str:
        """Where it logs."""
        return f"{self.home}/logs/{self.target.log}"

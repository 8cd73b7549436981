"""What the checks may look at. Collected once, before them, from whatever can still be read."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from hali.config.load import Loaded
from hali.config.mending import Fault, readable
from hali.config.paths import Paths
from hali.config.schema import KEYS, Settings

PYTHON = sys.executable


class Daemon(msgspec.Struct, frozen=True):
    """The daemon as whoever asked it found it: `holder` has the lock of the home, `status` is its answer if it gave one.

    `bad` are the rows of `hali list` of models that it will not use, because they are damaged or missing.
    """

    holder: int | None = None  # PID; 0 where the lock is held and nobody knows by whom
    status: dict[str, Any] | None = None
    bad: tuple[dict[str, Any], ...] = ()
    error: str = ""

    @property
    def running(self) -> bool:
        """True while a process holds the home, whether it answers or not."""
        return self.holder is not None

    @property
    def pid(self) -> int:
        """Of the daemon, 0 when it is not known."""
        return int(self.status["pid"]) if self.status is not None else self.holder or 0


class Context:
    """Paths, settings and daemon of one home. `settings` are those that can be read; what cannot is in `faults`."""

    def __init__(self, paths: Paths, env: Mapping[str, str], daemon: Daemon, *, deep: bool = False) -> None:
        self.paths, self.env, self.daemon, self.deep = paths, env, daemon, deep

    @cached_property
    def _readable(self) -> tuple[Loaded, Sequence[Fault]]:
        return readable(self.paths.config, self.env)

    @property
    def loaded(self) -> Loaded:
        """The settings that can be read, with their sources."""
        return self._readable[0]

    @property
    def settings(self) -> Settings:
        """The settings that can be read."""
        return self.loaded.settings

    @property
    def faults(self) -> Sequence[Fault]:
        """What of the configuration cannot be read."""
        return self._readable[1]

    @property
    def models(self) -> Path:
        """The folder of the store."""
        return self.paths.models(self.settings.models_dir)

    @property
    def in_the_way(self) -> Path | None:
        """What is no folder and has the place of the data directory, or of one above it."""
        home = self.paths.home
        found = next(each for each in (home, *home.parents) if os.path.lexists(each))
        return None if found.is_dir() else found

    def setting_command(self, *changes: tuple[str, str | None]) -> str:
        """The command that gives keys these values (None: their defaults), and makes a running daemon take them."""
        steps = [step for key, value in changes for step in self._change(key, value)]
        if self.daemon.running and not all(KEYS[key].live for key, _ in changes):
            steps.append(self.daemon_command("restart"))
        return " && ".join(steps)

    def daemon_command(self, verb: str) -> str:
        """The command that starts, stops or restarts the daemon, which its service manager does where it has one."""
        managed = self.daemon.status is not None and self.daemon.status.get("service")
        return f"hali service {verb}" if managed else f"hali daemon {verb}"

    def _change(self, key: str, value: str | None) -> list[str]:
        variables = [name for name in (KEYS[key].env, KEYS[key].also_env) if name and self.env.get(name)]
        change = f"unset {key}" if value is None else f"set {key} {shlex.quote(value)}"
        return [*(f"unset {name}" for name in variables), f"hali config {change}"]  # a variable would win over the file


def quoted(*paths: Path) -> str:
    """For a shell."""
    return " ".join(shlex.quote(str(path)) for path in paths)


def as_root(command: str) -> str:
    """The command as whoever is logged in may run it."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def first_installed(*programs: str) -> str | None:
    """The first of these programs that the machine has."""
    return next((name for name in programs if shutil.which(name)), None)


def reinstall(package: str) -> str:
    """The command that puts a package into the Python that runs hali, over whatever is there."""
    return f"{shlex.quote(PYTHON)} -m pip install --upgrade --force-reinstall --no-deps {shlex.quote(package)}"

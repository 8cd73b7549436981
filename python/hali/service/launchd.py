"""launchd: property lists, the commands for each verb, and what `launchctl print` means. Pure.

launchd knows neither growing waits nor exit codes that forbid a restart, so it runs our keeper, which does, and restarts only that.
"""

from __future__ import annotations

import plistlib
import re
from pathlib import PurePosixPath

from hali.runtime.processes import FILES
from hali.service.description import RESTART_S, Description, Scope
from hali.service.plan import Remove, Run, Step, Write
from hali.service.state import ServiceState, State
from hali.service.xml_words import sayable

PREFIX = "io.hali"
PRIVATE = 0o077
_PID = re.compile(r"^\s*pid = (\d+)$", re.MULTILINE)
_STATE = re.compile(r"^\s*state = (.+)$", re.MULTILINE)
_EXIT = re.compile(r"^\s*last exit code = (\d+)", re.MULTILINE)
_RUNS = re.compile(r"^\s*runs = (\d+)$", re.MULTILINE)


def label(name: str) -> str:
    """`io.hali.halid`."""
    return f"{PREFIX}.{name}"


def plist_path(name: str, scope: Scope, home: str) -> str:
    """A LaunchAgent of the person whose home folder this is (starts at login), or a LaunchDaemon (starts at boot)."""
    folder = PurePosixPath("/Library/LaunchDaemons" if scope == "system" else f"{home}/Library/LaunchAgents")
    return str(folder / f"{label(name)}.plist")


def domain(scope: Scope, uid: int) -> str:
    """Where launchd keeps it."""
    return "system" if scope == "system" else f"gui/{uid}"


def plist(what: Description) -> str:
    """The property list."""
    log = f"{what.home}/logs/{what.target.unit}.err"
    entries: dict[str, object] = {
        "Label": label(what.target.unit),
        "ProgramArguments": [sayable(word) for word in what.kept_command],
        "EnvironmentVariables": {"HALI_HOME": sayable(what.home)},
        "RunAtLoad": True,
        "KeepAlive": {"Crashed": True},  # the keeper; it ends by itself only when nothing can be mended by a restart
        "ThrottleInterval": RESTART_S[0],
        "ExitTimeOut": what.target.stop_s,
        "ProcessType": "Interactive",  # else its input and output are throttled
        "Umask": PRIVATE,
        "SoftResourceLimits": {"NumberOfFiles": FILES},
        "StandardErrorPath": log,
    }
    if what.account:
        entries["UserName"] = what.account
    return plistlib.dumps(entries, sort_keys=False).decode()


def install(what: Description, uid: int, home: str) -> list[Step]:
    """Replace it if it is there, then load it, which starts it."""
    path, where = plist_path(what.target.unit, what.scope, home), domain(what.scope, uid)
    return [
        Run(("launchctl", "bootout", f"{where}/{label(what.target.unit)}"), must=False),
        Write(path, plist(what)),
        Run(("launchctl", "enable", f"{where}/{label(what.target.unit)}")),
        Run(("launchctl", "bootstrap", where, path)),
    ]


def uninstall(name: str, scope: Scope, uid: int, home: str) -> list[Step]:
    """Stop it and forget it; the data stays."""
    return [
        Run(("launchctl", "bootout", f"{domain(scope, uid)}/{label(name)}"), must=False),
        Remove(plist_path(name, scope, home)),
    ]


def control(verb: str, name: str, scope: Scope, uid: int, home: str) -> list[Step]:
    """A stop unloads it: a loaded one would come back at the next login."""
    where = domain(scope, uid)
    service = f"{where}/{label(name)}"
    if verb == "stop":
        return [Run(("launchctl", "bootout", service))]
    load = Run(("launchctl", "bootstrap", where, plist_path(name, scope, home)), must=False)  # loaded already
    kick = ("launchctl", "kickstart", *(("-k",) if verb == "restart" else ()), service)
    return [load, Run(kick)]


def question(name: str, scope: Scope, uid: int) -> tuple[str, ...]:
    """The command that tells the state; it fails for what is not loaded."""
    return ("launchctl", "print", f"{domain(scope, uid)}/{label(name)}")


def understood(answer: str | None, *, written: bool) -> ServiceState:
    """What `launchctl print` printed, None when it failed; `written`: there is a property list."""
    if answer is None:
        return ServiceState("stopped" if written else "absent", enabled=False if written else None)
    pid, said = _PID.search(answer), _STATE.search(answer)
    code, runs = _EXIT.search(answer), _RUNS.search(answer)
    return ServiceState(
        _state(said.group(1) if said else "", running=pid is not None, code=int(code.group(1)) if code else 0),
        enabled=True,
        pid=int(pid.group(1)) if pid else None,
        restarts=max(0, int(runs.group(1)) - 1) if runs else None,
        exit_code=int(code.group(1)) if code else None,
    )


def _state(said: str, *, running: bool, code: int) -> State:
    if running:
        return "running"
    if said == "spawn scheduled":
        return "waiting"
    return "failed" if code else "stopped"

"""systemd: where units lie, the commands for each verb, and what `systemctl show` means. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from hali.service.description import Description, Scope
from hali.service.plan import Remove, Run, Step, Write
from hali.service.state import ServiceState, State
from hali.service.systemd_unit import unit

SYSTEM_UNITS = PurePosixPath("/etc/systemd/system")
_PROPERTIES = (
    "LoadState,ActiveState,SubState,UnitFileState,MainPID,NRestarts,ExecMainStatus,ExecMainCode,Result,StatusText"
)
_STATES: dict[str, State] = {
    "active": "running",
    "reloading": "running",
    "activating": "starting",
    "deactivating": "stopping",
    "failed": "failed",
    "inactive": "stopped",
}
_EXITED = "1"  # CLD_EXITED of ExecMainCode; others are signals


def unit_name(name: str) -> str:
    """`halid.service`."""
    return f"{name}.service"


def unit_path(name: str, scope: Scope, config_home: str) -> str:
    """Where the unit of a service lies; `config_home` is XDG_CONFIG_HOME."""
    folder = SYSTEM_UNITS if scope == "system" else PurePosixPath(config_home) / "systemd" / "user"
    return str(folder / unit_name(name))


def install(what: Description, version: int, config_home: str) -> list[Step]:
    """Write the unit, start it now and at each boot (or login); what runs already is restarted with the new unit."""
    name, path = unit_name(what.target.unit), unit_path(what.target.unit, what.scope, config_home)
    return [
        Write(path, unit(what, version)),
        _systemctl(what.scope, "daemon-reload"),
        _systemctl(what.scope, "enable", name),
        _systemctl(what.scope, "restart", name),
    ]


def uninstall(name: str, scope: Scope, config_home: str) -> list[Step]:
    """Stop it and forget it; the data stays."""
    return [
        _systemctl(scope, "disable", "--now", unit_name(name), must=False),  # its unit may be gone already
        Remove(unit_path(name, scope, config_home)),
        _systemctl(scope, "daemon-reload"),
        _systemctl(scope, "reset-failed", unit_name(name), must=False),
    ]


def control(verb: str, name: str, scope: Scope) -> list[Step]:
    """`start`, `stop` or `restart`; a start begins a new count of failures."""
    steps: list[Step] = [_systemctl(scope, verb, unit_name(name))]
    if verb == "stop":
        return steps
    return [_systemctl(scope, "reset-failed", unit_name(name), must=False), *steps]


def question(name: str, scope: Scope) -> tuple[str, ...]:
    """The command that tells the state."""
    return _systemctl(scope, "show", unit_name(name), f"--property={_PROPERTIES}").argv


def understood(answer: str) -> ServiceState:
    """What `systemctl show` printed."""
    found = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
    if found.get("LoadState") != "loaded":
        return ServiceState("absent")
    state = _STATES.get(found.get("ActiveState", ""), "stopped")
    if found.get("SubState") == "auto-restart":
        state = "waiting"
    return ServiceState(
        state,
        enabled=found.get("UnitFileState") == "enabled",
        pid=_number(found, "MainPID") or None,
        restarts=_number(found, "NRestarts"),
        exit_code=_number(found, "ExecMainStatus") if found.get("ExecMainCode") == _EXITED else None,
        text=found.get("StatusText", "") if state == "running" else _end(found.get("Result", "")),
    )


def linger_question(user: str) -> tuple[str, ...]:
    """The command that tells whether services of `user` outlive the session."""
    return ("loginctl", "show-user", user, "--property=Linger", "--value")


def linger_command(user: str) -> tuple[str, ...]:
    """… and the one that makes it so."""
    return ("loginctl", "enable-linger", user)


def version_of(answer: str) -> int | None:
    """The number in `systemd 252 (252.39-1)`; None when it says something else."""
    words = answer.split()
    return int(words[1]) if len(words) > 1 and words[0] == "systemd" and words[1].isdigit() else None


def _systemctl(scope: Scope, *arguments: str, must: bool = True) -> Run:
    return Run(
        ("systemctl", *(("--user",) if scope == "user" else ()), *_QUIET.get(arguments[0], ()), *arguments), must
    )


_QUIET: Mapping[str, Sequence[str]] = {"enable": ("--quiet",), "disable": ("--quiet",)}


def _number(found: Mapping[str, str], name: str) -> int | None:
    text = found.get(name, "")
    return int(text) if text.isdigit() else None


def _end(result: str) -> str:
    return "" if result in ("", "success") else f"ended by {result}"

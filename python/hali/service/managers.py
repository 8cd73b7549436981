"""The three managers behind one set of verbs: plans, and the state of a service."""

from __future__ import annotations

import os
from typing import Literal

import msgspec

from hali.service import launchd, systemd, windows
from hali.service.description import Description, Scope
from hali.service.plan import Step, ask
from hali.service.state import Manager, ServiceState
from hali.service.targets import Target

Verb = Literal["start", "stop", "restart"]


class Machine(msgspec.Struct, frozen=True):
    """What the plans need to know of this machine and of who asks."""

    manager: Manager
    user: str  # on Windows DOMAIN\\NAME
    uid: int
    folder: str  # of the person
    config_home: str  # XDG_CONFIG_HOME
    data: str  # where a system service keeps its folder
    systemd: int = 0  # version


def install(machine: Machine, what: Description) -> list[Step]:
    """Make it a service that runs now and from the next boot or login on; again: with what is asked for now."""
    match machine.manager:
        case "systemd":
            return systemd.install(what, machine.systemd, machine.config_home)
        case "launchd":
            return launchd.install(what, machine.uid, machine.folder)
        case "task-scheduler":
            return windows.install(what, machine.user)


def uninstall(machine: Machine, target: Target, scope: Scope, home: str) -> list[Step]:
    """Stop it and forget it; the data stays."""
    match machine.manager:
        case "systemd":
            return systemd.uninstall(target.unit, scope, machine.config_home)
        case "launchd":
            return launchd.uninstall(target.unit, scope, machine.uid, machine.folder)
        case "task-scheduler":
            return windows.uninstall(target.unit, home)


def control(machine: Machine, verb: Verb, target: Target, scope: Scope) -> list[Step]:
    """Start, stop or restart what is installed."""
    match machine.manager:
        case "systemd":
            return systemd.control(verb, target.unit, scope)
        case "launchd":
            return launchd.control(verb, target.unit, scope, machine.uid, machine.folder)
        case "task-scheduler":
            return windows.control(verb, target.unit)


def file_of(machine: Machine, target: Target, scope: Scope, home: str) -> str:
    """Where the manager's description of the service lies."""
    match machine.manager:
        case "systemd":
            return systemd.unit_path(target.unit, scope, machine.config_home)
        case "launchd":
            return launchd.plist_path(target.unit, scope, machine.folder)
        case "task-scheduler":
            return windows.task_path(target.unit, home)


def look(machine: Machine, target: Target, scope: Scope) -> ServiceState:
    """Ask the manager."""
    match machine.manager:
        case "systemd":
            return systemd.understood(ask(systemd.question(target.unit, scope)).stdout)
        case "launchd":
            written = os.path.exists(launchd.plist_path(target.unit, scope, machine.folder))
            return launchd.understood(_answer(launchd.question(target.unit, scope, machine.uid)), written=written)
        case "task-scheduler":
            return windows.understood(_answer(windows.question(target.unit)))


def _answer(question: tuple[str, ...]) -> str | None:
    done = ask(question)
    return done.stdout if done.returncode == 0 else None

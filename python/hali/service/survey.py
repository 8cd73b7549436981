"""What this machine has: its service manager, GPUs, secrets. Reads only."""

from __future__ import annotations

import getpass
import glob
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import hali
from hali.config.credentials import API_KEY, HF_TOKEN
from hali.config.load import load
from hali.config.paths import from_environment
from hali.model.errors import HaliError, NotRunning, Refused, UsageError
from hali.service import systemd
from hali.service.description import Credential, Description, Scope
from hali.service.managers import Machine
from hali.service.plan import ask
from hali.service.state import Manager
from hali.service.targets import Target

SECRETS = "/etc/hali"  # an administrator's files `hf_token` and `api_key`, readable by root only
BOOTED = "/run/systemd/system"  # sd_booted(3)
GPU_DEVICES = ("/dev/nvidia[0-9]*", "/dev/nvidiactl", "/dev/nvidia-uvm*", "/dev/kfd", "/dev/dri/renderD*")
HOMES = ("/home", "/root", "/run/user")  # what ProtectHome= hides
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,30}")  # what systemd takes too (User/Group Name Syntax)
FOREGROUND = "`hali daemon run` keeps the daemon up without one, in a container for instance"


def machine() -> Machine:
    """This one, as far as the platform tells; whether its manager answers is another question (`must_answer`)."""
    folder, manager = str(Path.home()), _manager()
    return Machine(
        manager,
        user=_user(),
        uid=os.getuid() if hasattr(os, "getuid") else 0,
        folder=folder,
        config_home=os.environ.get("XDG_CONFIG_HOME") or f"{folder}/.config",
        data=_data(manager),
        systemd=_systemd_version() if manager == "systemd" else 0,
    )


def must_answer(here: Machine, scope: Scope) -> None:
    """NotRunning where no service manager runs that we know."""
    if here.manager != "systemd":
        return
    if not os.path.isdir(BOOTED):
        raise NotRunning("no service manager runs here", hint=FOREGROUND)
    if scope == "user" and ask(("systemctl", "--user", "show", "--property=Version")).returncode != 0:
        raise NotRunning(
            "no service manager of this user runs here",
            hint="log in without sudo or su, or use --system for a service of the machine",
        )


def home_of(here: Machine, target: Target, scope: Scope) -> str:
    """The HALI_HOME of the service."""
    if scope == "user":
        return str(from_environment().home)
    if os.environ.get("HALI_HOME", "") not in ("", _system_home(here, target)):
        raise UsageError(
            f"a system service keeps its data in {_system_home(here, target)}, not in HALI_HOME",
            hint="unset HALI_HOME; models may lie elsewhere by the key models_dir",
        )
    return _system_home(here, target)


def _system_home(here: Machine, target: Target) -> str:
    return os.path.join(here.data, target.state)


def describe(here: Machine, target: Target, scope: Scope, arguments: Sequence[str], account: str) -> Description:
    """The service as this machine needs it."""
    if account and scope == "user":
        raise UsageError("--account is for --system; a user's service runs as that user")
    if account and not _ACCOUNT.fullmatch(account):
        raise UsageError(f"{account!r} is not the name of an account")
    home = home_of(here, target, scope)
    writable = _models_elsewhere(home)
    if writable and scope == "system" and here.manager == "systemd" and not account:
        raise UsageError(
            f"models_dir is {writable[0]}, where an account that systemd makes up may not write",
            hint="name one that may: --account NAME",
        )
    return Description(
        target,
        scope,
        sys.executable,
        home,
        tuple(arguments),
        account,
        credentials=_credentials() if scope == "system" else (),  # a user's service reads the user's own files
        devices=tuple(sorted(path for pattern in GPU_DEVICES for path in glob.glob(pattern))),
        writable=writable,
    )


def programs() -> tuple[str, ...]:
    """Where the program and its parts lie."""
    return (sys.executable, sys.base_prefix, str(Path(hali.__file__).parent))


def must_be_readable(places: Iterable[str]) -> None:
    """Refused for a program in somebody's home folder, which a system service does not see."""
    for program in places:
        real = os.path.realpath(program)
        if any(Path(real).is_relative_to(home) for home in HOMES):
            raise Refused(
                f"{real} is in a home folder, which a system service does not see",
                hint="install hali elsewhere (`python3 -m venv /opt/hali`), or leave out --system",
            )


def _credentials() -> tuple[Credential, ...]:
    """Those that are there: systemd does not start a service that lacks one."""
    found = (Credential(name, os.path.join(SECRETS, name)) for name in (HF_TOKEN, API_KEY))
    return tuple(secret for secret in found if os.path.exists(secret.path))


def _models_elsewhere(home: str) -> tuple[str, ...]:
    config = Path(home) / "config.toml"
    if not os.access(config, os.R_OK):  # none yet; or a dry run without the rights that an installation needs
        return ()
    configured = load(config, env={}).settings.models_dir  # the service does not see our environment
    folder = os.path.join(home, configured)
    return () if Path(folder).is_relative_to(home) else (folder,)


def linger(here: Machine) -> bool | None:
    """Whether the user's services go on without a session; None where nobody can tell."""
    if here.manager != "systemd":
        return None
    done = ask(systemd.linger_question(here.user))
    return {"yes": True, "no": False}.get(done.stdout.strip())


def _manager() -> Manager:
    by_platform: dict[str, Manager] = {"darwin": "launchd", "win32": "task-scheduler"}
    return by_platform.get(sys.platform, "systemd")


def _data(manager: Manager) -> str:
    if manager == "task-scheduler":
        return os.environ.get("PROGRAMDATA", r"C:\ProgramData")
    return "/usr/local/var" if manager == "launchd" else "/var/lib"


def _user() -> str:
    domain = os.environ.get("USERDOMAIN") if sys.platform == "win32" else None
    return f"{domain}\\{getpass.getuser()}" if domain else getpass.getuser()


def _systemd_version() -> int:
    """Of this machine; without systemd that of the oldest one supported, whose units every later one takes."""
    oldest = 247  # Debian 11: LoadCredential=
    try:
        done = ask(("systemctl", "--version"))
    except HaliError:
        return oldest
    return systemd.version_of(done.stdout) or oldest

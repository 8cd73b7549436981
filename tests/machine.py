"""A machine of its own for a test: a real systemd as the first process of new namespaces, with this checkout's hali in /opt."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import hali
from tests.nodes import LAN_PORT, until

SYSTEMD = "/usr/lib/systemd/systemd"
PYTHON = f"/opt/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"
# The program lies where every account may read it. Of the machine's own units none is started.
BOOT = """
set -e
mount --make-rprivate /
mount --make-rshared / # between this systemd and its services, as it is on a machine
for folder in /run /var/lib /opt /etc/systemd/system /etc/systemd/user; do mount -t tmpfs -o mode=755 tmpfs $folder; done
mkdir /opt/python /opt/hali /opt/site /run/user /run/secrets
mount --bind "$PREFIX" /opt/python
mount --bind "$SOURCE" /opt/hali
mount --bind "$SITE" /opt/site
cd /etc/systemd/system
for name in boot sysinit basic multi-user shutdown network-online; do
    printf '[Unit]\\nDescription=%s\\nDefaultDependencies=no\\n' $name > $name.target
done
printf '%s' "$USER_MANAGER" > user-manager.service
for unit in halid hali-registry; do
    mkdir $unit.service.d
    printf '[Service]\\nEnvironment=%s\\nStandardError=append:/run/%s.err\\n' "$SETTINGS" $unit > $unit.service.d/test.conf
    cp -r $unit.service.d /etc/systemd/user
done
exec env -i container=test PATH="$PATH" SYSTEMD_UNIT_PATH=$PWD $SYSTEMD --system --unit=boot.target
"""
USER_MANAGER = f"""[Service]
Type=notify
Delegate=yes
Environment=XDG_RUNTIME_DIR=/run/user/0 HOME=/run/person
UnsetEnvironment=SYSTEMD_UNIT_PATH
RuntimeDirectory=user/0 person
RuntimeDirectoryMode=0700
ExecStart={SYSTEMD} --user
"""


class Machine:
    """Commands run inside; the first process is systemd."""

    def __init__(self, pid: int, env: dict[str, str]) -> None:
        self._pid, self._env = pid, env

    def run(self, *argv: str, stdin: Path = Path(os.devnull), **env: str) -> subprocess.CompletedProcess[str]:
        """A command as root, inside, to its end."""
        inside = ["nsenter", "-t", str(self._pid), "-m", "-p", "-C", *argv]
        with stdin.open("rb") as given:
            return subprocess.run(
                inside, env=self._env | env, stdin=given, capture_output=True, text=True, timeout=300, check=False
            )

    def hali(self, *arguments: str, code: int = 0, **env: str) -> dict[str, Any]:
        """`hali ARGUMENTS --json`, which must end with `code`; its answer (the last line of a stream of events)."""
        done = self.run(PYTHON, "-P", "-m", "hali.cli", "--json", *arguments, **env)
        assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.told()}"
        found: dict[str, Any]
        try:
            found = json.loads(done.stdout)
        except ValueError:
            found = json.loads(done.stdout.splitlines()[-1])
        return found

    def told(self) -> str:
        """What services wrote on standard error, and the end of the daemon's log, for failure messages."""
        script = "tail -n 20 /run/*.err /var/lib/*/logs/*.log; systemctl status --no-pager halid hali-registry"
        return self.run("bash", "-c", script).stdout


@contextmanager
def machine() -> Iterator[Machine]:
    """Booted for the block; skips, and says why, where that cannot be."""
    if reason := _impossible():
        pytest.skip(f"SKIPPED a real systemd: {reason}")
    settings = {
        "PYTHONPATH": "/opt/hali:/opt/site",
        "LD_LIBRARY_PATH": "/opt/python/lib",
        "HALI_DAEMON_PORT": "0",
        "HALI_LAN_PORT": str(LAN_PORT),
        "HALI_TORRENT_LSD": "off",
    }
    env = {
        "PATH": os.environ["PATH"],
        "PREFIX": sys.base_prefix,
        "SOURCE": str(Path(hali.__file__).parents[1]),
        "SITE": sysconfig.get_paths()["purelib"],
        "SYSTEMD": SYSTEMD,
        "USER_MANAGER": USER_MANAGER,
        "SETTINGS": " ".join(f"{name}={value}" for name, value in settings.items()),
    }
    inside = {name: settings[name] for name in ("PYTHONPATH", "LD_LIBRARY_PATH")} | {"PATH": os.environ["PATH"]}
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--cgroup", "bash", "-c", BOOT]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            until(lambda: _first(process) is not None, "systemd is there")
            booted = Machine(_first(process) or 0, inside)
            until(lambda: _runs(booted), "systemd answers")
            yield booted
        finally:
            process.kill()  # --kill-child: then systemd is killed, and with it all of its namespace


def _impossible() -> str:
    if os.geteuid() != 0:
        return "only root may make the namespaces"
    missing = [name for name in (SYSTEMD, "unshare", "nsenter", "systemctl") if shutil.which(name) is None]
    return f"no {', '.join(missing)} here" if missing else ""


def _first(process: subprocess.Popen[bytes]) -> int | None:
    assert process.poll() is None, process.stdout.read().decode() if process.stdout else ""
    children = psutil.Process(process.pid).children()
    return children[0].pid if children and children[0].name() == "systemd" else None


def _runs(booted: Machine) -> bool:
    return booted.run("systemctl", "is-system-running").stdout.strip() == "running"

"""Checks of the daemon: where it says it is, its services, its BitTorrent port, how it ended the last time, its service unit."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from hali._version import __version__
from hali.config.last_exit import LastExit, latest, read
from hali.runtime.processes import boot_id
from hali.service.doctor.context import Context, first_installed, quoted
from hali.service.doctor.finding import Finding, failed, passed, skipped, warned
from hali.service.doctor.lan import open_firewall

CONNECT_S = 1.0
HANDSHAKE = 68  # bytes, BEP 3
CRASHES, WITHIN_S = 5, 600.0  # so many in so short a time are no accidents


def address(context: Context) -> Finding:
    """Does a daemon answer where `daemon.addr` says, or is there neither?"""
    daemon, path = context.daemon, context.paths.address
    if daemon.status is not None:
        if (version := daemon.status.get("version", __version__)) != __version__:
            told = f"PID {daemon.pid} is hali {version} and this is {__version__}: it was started before the change"
            return warned(told, context.daemon_command("restart"))
        return passed(f"PID {daemon.pid} answers, {daemon.status['http'] or 'without an HTTP API'}")
    if daemon.running:
        told = (
            f"a daemon (PID {daemon.pid or 'unknown'}) holds {context.paths.home} and does not answer: {daemon.error}"
        )
        lost = [each for each in (path, context.paths.token) if not each.exists()]
        if len(lost) == 1:  # nobody can ask it, and it may be as well as ever: `stop` ends it in order
            return failed(f"{told}: {lost[0]} is gone", "hali daemon restart")
        end = f"kill -9 {daemon.pid}" if daemon.pid else f"fuser -k {quoted(context.paths.lock)}"
        return failed(told, f"{end} && hali daemon start")
    if path.exists():
        return failed(f"{path} is of a daemon that is gone", "hali daemon start")
    return skipped("no daemon runs")


def services(context: Context) -> Finding:
    """Is every service of the daemon up?"""
    if context.daemon.status is None:
        return skipped("no daemon answers")
    rows = context.daemon.status["services"]
    if down := [row for row in rows if row["state"] in ("failed", "stopped")]:
        return failed("; ".join(_told(row) for row in down), context.daemon_command("restart"))
    if late := [row for row in rows if row["state"] != "ready"]:
        return warned("; ".join(_told(row) for row in late), "hali logs")
    return passed(f"{len(rows)} services are ready")


def _told(row: dict[str, Any]) -> str:
    return f"{row['name']} is {row['state']}: {row['error'] or 'no error reported'}"


# ---- BitTorrent


def torrent(context: Context) -> Finding:
    """Is the BitTorrent port reached over each address of this machine? With --deep: does a peer of ours shake hands there?"""
    status = context.daemon.status
    port = status["torrent_port"] if status is not None else None
    if status is None or not port:
        return skipped("no daemon listens")
    from hali.transfer.lan_interfaces import interfaces, is_connected

    links = [each for each in interfaces() if each.name != "lo" and is_connected(each)]
    addresses = ["127.0.0.1", *(a for each in links for a in each.v4[:1])]
    for host in addresses:
        if error := _connect(host, port):
            closed = f"port {port} cannot be reached over {host}: {os.strerror(error)}"
            return failed(
                closed, context.daemon_command("restart") if error == errno.ECONNREFUSED else open_firewall(port, "tcp")
            )
    if context.deep and (refused := _shake_hands(port, status["seeding"])) is not None:
        return failed(refused, context.daemon_command("restart"))
    return passed(f"port {port} is reached over {', '.join(addresses)}")


def _connect(host: str, port: int) -> int:
    """The errno of trying."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(CONNECT_S)
        try:
            sock.connect((host, port))
        except TimeoutError:
            return errno.ETIMEDOUT
        except OSError as exc:
            return exc.errno or errno.EIO
    return 0


def _shake_hands(port: int, seeding: Sequence[dict[str, Any]]) -> str | None:
    """What is wrong when we greet ourselves as a peer for the first model that is seeded; None when all is well, or none is."""
    model = next((row for row in seeding if row["status"] == "seeding"), None)
    if model is None:
        return None
    name = bytes.fromhex(model["infohash_v1"])
    with socket.create_connection(("127.0.0.1", port), timeout=CONNECT_S) as sock:
        sock.sendall(b"\x13BitTorrent protocol" + bytes(8) + name + b"-HD0000-" + os.urandom(12))
        answer = b""
        try:
            while len(answer) < HANDSHAKE and (more := sock.recv(HANDSHAKE - len(answer))):
                answer += more
        except OSError:
            pass  # judged by what came
    return None if answer[28:48] == name else f"port {port} does not serve {model['model_id']}"


# ---- how it ended


def crashes(context: Context) -> Finding:
    """Did the daemon end again and again?"""
    paths, running = context.paths, context.daemon.running
    if paths.last_exit.exists() and read(paths) is None:
        return warned(f"{paths.last_exit} cannot be read", f"rm {quoted(paths.last_exit)}")
    last = read(paths) if running else latest(paths, boot_id())
    if last is None:
        return passed("none is on record")
    return judge_crashes(last, now=time.time(), running=running)


def judge_crashes(last: LastExit, *, now: float, running: bool) -> Finding:
    """Pure: a loop, or an accident? What ended it once, and still would, is told by the check that it concerns."""
    lately = sum(now - at <= WITHIN_S for at in last.crashes)
    code = "" if last.exit_code is None else f", exit code {last.exit_code}"
    told = f"{max(0.0, now - last.at):.0f} s ago{code}: {last.message}{f' — {last.hint}' if last.hint else ''}"
    if lately < CRASHES:
        return passed(f"{'runs again; ' if running else ''}ended {told}")
    detail = f"ended {lately} times in {WITHIN_S / 60:.0f} minutes, the last time {told}"
    return warned(detail, "hali logs") if running else failed(detail, "hali daemon start")


# ---- the service manager

UNIT = "halid.service"
_PROPERTIES = "LoadState,ActiveState,SubState,Result,UnitFileState"


def unit(context: Context) -> Finding:
    """If hali is installed as a service: is it enabled, and does it run?"""
    if first_installed("systemctl") is None:
        return skipped("there is no systemd")
    for scope in ("--user", "--system"):
        found = _shown(scope)
        if found is not None and found.get("LoadState") not in (None, "not-found"):
            return judge_unit(scope, found)
    return skipped("hali is not installed as a service")


def judge_unit(scope: str, found: dict[str, str]) -> Finding:
    """Pure: what `systemctl show` says of our unit."""
    state = (
        f"{UNIT} ({scope.removeprefix('--')}) is {found['ActiveState']} ({found['SubState']}), {found['UnitFileState']}"
    )
    command = f"systemctl {scope}" if scope == "--user" else "sudo systemctl"
    if found["LoadState"] != "loaded":
        return failed(f"{UNIT} cannot be loaded: {found['LoadState']}", f"{command} daemon-reload")
    if found["ActiveState"] == "failed":
        fix = f"{command} reset-failed {UNIT} && {command} start {UNIT}"
        return failed(f"{state}: {found['Result']}", fix)
    if found["ActiveState"] not in ("active", "activating", "reloading"):
        return warned(state, f"{command} start {UNIT}")
    if found["UnitFileState"] == "disabled":
        return warned(f"{state}: it will not come back after a restart of the machine", f"{command} enable {UNIT}")
    return passed(state)


def _shown(scope: str) -> dict[str, str] | None:
    done = subprocess.run(
        ["systemctl", scope, "show", UNIT, f"--property={_PROPERTIES}"], capture_output=True, text=True, timeout=4
    )
    lines = [line.partition("=") for line in done.stdout.splitlines()]
    return {name: value for name, _, value in lines} if done.returncode == 0 else None

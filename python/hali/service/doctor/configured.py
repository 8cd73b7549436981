"""Checks of what belongs to this home: the configuration, the keys and who may read them."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from hali.config.checks import listen_address
from hali.config.load import unknown_variables
from hali.config.mending import Fault
from hali.model.errors import HaliError
from hali.service.doctor.context import Context, quoted
from hali.service.doctor.finding import Finding, failed, passed, skipped, warned

SHOWN = 3  # faults named in one line; the rest is counted


def config(context: Context) -> Finding:
    """Can every line and variable be read, and do the settings go together?"""
    path = context.paths.config
    if (other := context.in_the_way) is not None:
        aside = f"mv {quoted(other)} {quoted(other.with_name(f'{other.name}.aside'))}"
        told = f"{other} is no folder, so {context.paths.home} cannot be the data directory: HALI_HOME names another"
        return failed(told, "unset HALI_HOME" if context.env.get("HALI_HOME") else aside)
    if path.exists() and not os.access(path, os.R_OK):
        return failed(f"{path} cannot be read", f"chmod 600 {quoted(path)}")
    if context.faults:
        return _faulty(path, context.faults)
    if (trouble := _contradiction(context)) is not None:
        return trouble
    if unread := unknown_variables(context.env):
        return warned("; ".join(unread.values()), f"unset {' '.join(unread)}")
    count = sum(source != "default" for source in context.loaded.sources.values())
    return passed(f"{path if path.exists() else 'no file'}, {count} settings differ from their defaults")


def _faulty(path: Path, faults: Sequence[Fault]) -> Finding:
    texts = [f"{path}:{f.line}: {f.reason}" if f.line is not None else f.reason for f in faults[:SHOWN]]
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    steps = [f"unset {fault.variable}" for fault in faults if fault.variable is not None]
    if any(fault.line is not None for fault in faults):
        steps.append("hali doctor --repair config")
    elif path.is_dir():
        steps.append(f"mv {quoted(path)} {quoted(path.with_name(f'{path.name}.aside'))}")
    return failed("; ".join(texts) + more, " && ".join(steps) or None)


def _contradiction(context: Context) -> Finding | None:
    """Settings that are each valid and cannot be together."""
    settings = context.settings
    if settings.lan.hmac_enabled and not settings.lan.hmac_shared_secret:
        detail = "lan.hmac_enabled is on and lan.hmac_shared_secret is empty: take that of the other nodes, or make one"
        return failed(detail, f"openssl rand -hex 32 | {context.setting_command(('lan.hmac_shared_secret', '-'))}")
    return None


def permissions(context: Context) -> Finding:
    """Is the home private, are its secrets readable by their owner only, and is the key a key?"""
    paths, home = context.paths, context.paths.home
    if context.in_the_way is not None:
        return skipped(f"{home} is no folder")
    if not home.exists():
        return skipped(f"{home} does not exist yet")
    secrets = [paths.config, paths.identity, paths.publisher_key, paths.api_key, paths.token, paths.address]
    present = [path for path in [*secrets, paths.prompts, home / "registry.key"] if path.is_file()]
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:  # root may look after the service of an account that owns the home
        uid, gid = home.stat().st_uid, home.stat().st_gid
    if foreign := [path for path in [home, *present] if path.stat().st_uid != uid]:
        return failed(f"of another user: {_names(foreign)}", f"sudo chown {uid}:{gid} {quoted(*foreign)}")
    steps = [f"chmod 700 {quoted(home)}"] if _open_to_others(home) else []
    if exposed := [path for path in present if _open_to_others(path)]:
        steps.append(f"chmod 600 {quoted(*exposed)}")
    if steps:
        wide = [home] * (len(steps) - bool(exposed)) + exposed
        return failed(f"others may read {', '.join(f'{p} ({_mode(p):04o})' for p in wide)}", " && ".join(steps))
    return (
        _keys(context)
        or _copied(context)
        or _gone(context)
        or passed(f"{home} (0700), {len(present)} private files (0600)")
    )


def _keys(context: Context) -> Finding | None:
    from hali.config.identity import load_or_create

    for path in (context.paths.identity, context.paths.publisher_key):
        if path.exists():
            try:
                load_or_create(path)
            except HaliError as exc:
                aside = path.with_name(f"{path.name}.damaged")
                command = f"mv {quoted(path)} {quoted(aside)} && {context.daemon_command('restart')}"
                return failed(f"{exc.message}; restore it from a backup, or let hali make a new one", command)
    return None


def _copied(context: Context) -> Finding | None:
    """Does another node sign with our key? The daemon counts what it hears of it."""
    traffic = (context.daemon.status or {}).get("lan_traffic")
    count = traffic["dropped"].get("same_key", 0) if traffic else 0
    if not count:
        return None
    path = context.paths.identity
    command = (
        f"mv {quoted(path)} {quoted(path.with_name(f'{path.name}.copied'))} && {context.daemon_command('restart')}"
    )
    told = f"another node on the LAN has this node's key ({count} packets), so neither hears the other"
    return failed(f"{told}: one data directory is a copy of the other; one of the two needs a key of its own", command)


def _gone(context: Context) -> Finding | None:
    """Is the key there that the daemon asks for? One that a service manager handed over is in no file of ours."""
    settings, status = context.settings, context.daemon.status
    asked = settings.api.require_key or not listen_address(settings.daemon_listen_addr).is_loopback
    if not asked or status is None or status.get("service") or context.paths.api_key.exists():
        return None
    told = f"{context.paths.api_key} is gone, the key that the daemon asks of everybody: the next start makes a new one"
    return failed(told, context.daemon_command("restart"))


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _open_to_others(path: Path) -> bool:
    return bool(_mode(path) & 0o077)


def _names(paths: list[Path]) -> str:
    return ", ".join(str(path) for path in paths)

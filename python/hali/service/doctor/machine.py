"""Checks of the machine: Python and packages, the clock, the disks."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from hali._version import __version__
from hali.model.units import MIB, RESERVE, format_bytes
from hali.service.doctor.context import Context, as_root, first_installed, quoted
from hali.service.doctor.finding import Finding, failed, passed, skipped, warned
from hali.service.doctor.servers import dates

OLDEST_PYTHON = (3, 11)  # requires-python
SHOWN = ("libtorrent", "llama-cpp-python")
DRIFT_S = 60  # file servers and virtual machines are off by seconds; who is off by more has no time service
SKEW_S = 300  # half of it would already refuse strangers on the LAN; certificates and schedules follow
# Below this SQLite, the log and a running pull fail; small disks are meant to be filled further than large ones.
FULL, FULL_SHARE = 256 * MIB, 0.03
SCARCE, SCARCE_SHARE = 4096 * MIB, 0.10  # room for one usual model
FEW_INODES = 100
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)[^;]*?>=\s*([0-9.]+)")


# ---- runtime


def runtime(context: Context) -> Finding:
    """Is Python new enough, and is every package there that hali needs?"""
    where = f"hali {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return failed(f"{where}: hali needs Python 3.11 or newer", "pipx install --python python3.11 hali")
    if lacking := list(_lacking(_required())):
        packages = " ".join(shlex.quote(f"{name}>={least}") for name, least, _ in lacking)
        told = ", ".join(f"{name} {have or 'is missing'}, needs {least}" for name, least, have in lacking)
        return failed(f"{where}: {told}", f"{shlex.quote(sys.executable)} -m pip install --upgrade {packages}")
    versions = ", ".join(f"{name} {have}" for name in SHOWN if (have := _installed(name)) is not None)
    return passed(f"{where}, {versions}")


def _required() -> list[tuple[str, str]]:
    """(package, least version) as hali's own metadata has them; none where it has none, as in a checkout."""
    try:
        lines = importlib.metadata.requires("hali") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found = [_REQUIREMENT.match(line) for line in lines if "extra ==" not in line]
    return [(match[1], match[2]) for match in found if match is not None]


def _lacking(required: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str, str | None]]:
    for name, least in required:
        have = _installed(name)
        if have is None or _numbers(have) < _numbers(least):
            yield name, least, have


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


# ---- clock


class Moment(msgspec.Struct, frozen=True):
    """A time that somebody else told: `exact` is that of now, any other one is past."""

    source: str
    at: float
    exact: bool = False


def clock(context: Context) -> Finding:
    """Is the time later than everything already written, and that of the servers which answer?"""
    moments = [*_written(context), *(Moment(host, at, exact=True) for host, at in dates(_servers(context)))]
    return judge_clock(time.time(), moments)


def judge_clock(now: float, moments: Iterable[Moment]) -> Finding:
    """Pure: what these moments say of a clock that shows `now`."""
    known = sorted(moments, key=lambda m: m.at)
    exact = [moment for moment in known if moment.exact]
    middle = exact[len(exact) // 2] if exact else None  # one server that is wrong shall not make us wrong
    if middle is not None and abs(now - middle.at) > SKEW_S:
        return failed(f"{_off(now - middle.at)} of that of {middle.source}", _set_clock(middle.at))
    if known and not known[-1].exact and now < known[-1].at - DRIFT_S:
        last = known[-1]
        return failed(f"{_off(now - last.at)} of {last.source}, which was written before now", _set_clock(last.at))
    if middle is not None and abs(now - middle.at) > DRIFT_S:
        return warned(f"{_off(now - middle.at)} of that of {middle.source}", _set_clock(middle.at))
    told = f", and is that of {middle.source}" if middle is not None else "; no server could be asked"
    return passed(f"later than the newest record{told}")


def _off(seconds: float) -> str:
    return f"the clock is {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"


def _set_clock(at: float) -> str:
    found = first_installed("timedatectl", "chronyc")
    by_service = {"timedatectl": "timedatectl set-ntp true", "chronyc": "chronyc makestep"}
    return as_root(by_service[found] if found is not None else f"date -u -s @{at:.0f}")


def _written(context: Context) -> Iterator[Moment]:
    """When the newest things here were written: by ourselves, and when hali was installed."""
    paths = context.paths
    files = [Path(__file__), paths.config, paths.database, paths.identity, paths.logs / "hali.log"]
    for path in [*files, *context.models.glob("[!.]*/*/*/metadata.json")]:
        try:
            yield Moment(str(path), path.stat().st_mtime)
        except OSError:
            continue


def _servers(context: Context) -> list[str]:
    return [context.settings.hf.endpoint, *(url for url in context.settings.registry.url if url.startswith("http"))]


# ---- disk


class Disk(msgspec.Struct, frozen=True):
    """A file system, as `statvfs` has it."""

    total: int  # bytes
    free: int  # that we may use
    inodes: int  # free; -1 where the file system has no such limit


def disk(context: Context) -> Finding:
    """Is there room where models, database and log are, and may we write there?"""
    if context.in_the_way is not None:
        return skipped(f"{context.paths.home} is no folder")
    places = [(_existing(path), _device(path)) for path in (context.paths.home, context.models)]
    homes = {(device, os.access(path, os.W_OK | os.X_OK)): path for path, device in places}
    findings = [_disk(context, path) for path in homes.values()]
    worst = next((f for status in ("fail", "warn") for f in findings if f.status == status), None)
    return worst or passed("; ".join(finding.detail for finding in findings))


def _disk(context: Context, path: Path) -> Finding:
    found = os.statvfs(path)
    if found.f_flag & os.ST_RDONLY:
        mounted = next(each for each in (path, *path.parents) if os.path.ismount(each))
        return failed(
            f"{path} cannot be written: {mounted} is mounted for reading only",
            as_root(f"mount -o remount,rw {quoted(mounted)}"),
        )
    if not os.access(path, os.W_OK | os.X_OK):
        command = f"chown -R {os.geteuid()}:{os.getegid()} {quoted(path)}"
        return failed(f"{path} cannot be written", f"sudo {command}")
    inodes = found.f_favail if found.f_files else -1
    state = Disk(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, inodes)
    return judge_disk(path, state, models=_size_of(context.models), pinned=_pinned(context))


def judge_disk(path: Path, found: Disk, *, models: int, pinned: int = 0) -> Finding:
    """Pure: is the disk of `path` full? `models` are the bytes of our own that could be had back, all but `pinned` ones by pruning."""
    free = f"{path}: {format_bytes(found.free)} of {format_bytes(found.total)} free"
    if 0 <= found.inodes < FEW_INODES:
        return failed(f"{path}: {found.inodes} free inodes", f"find {quoted(path)} -xdev -type f | wc -l")
    enough = max(RESERVE, min(SCARCE, round(SCARCE_SHARE * found.total)))
    if found.free < max(RESERVE, min(FULL, round(FULL_SHARE * found.total))):
        return failed(*_make_room(free, path, enough - found.free, models, pinned))
    return warned(*_make_room(free, path, enough - found.free, models, pinned)) if found.free < enough else passed(free)


def _make_room(free: str, path: Path, missing: int, models: int, pinned: int) -> tuple[str, str]:
    """What is told, and what shows or makes room."""
    if models >= missing > models - pinned:
        free += f", pinned models have {format_bytes(pinned)}: `hali unpin` lets `hali prune` take them"
    if models - pinned < missing:  # what fills it is not ours, or to be kept
        return free, f"du -xhd 2 {quoted(path)} | sort -h | tail -n 20"
    return free, f"hali prune --yes --quota {(models - missing) / 1e9:.6f}"


def _pinned(context: Context) -> int:
    from hali.store.models import ModelStore
    from hali.store.usage import UNUSED, read_usage

    uses = read_usage(context.paths.database)
    records = ModelStore(context.models).records()
    return sum(_size_of(record.directory) for record in records if uses.get(record.meta.sha256, UNUSED).pinned)


def _size_of(models: Path) -> int:
    """Of files that have no other name, an import or export, which would keep their bytes on the disk."""
    total = 0
    for folder, _, names in os.walk(models):
        for name in names:
            try:
                found = os.lstat(os.path.join(folder, name))
            except OSError:
                continue  # gone meanwhile
            total += found.st_size if found.st_nlink == 1 else 0
    return total


def _existing(path: Path) -> Path:
    """The folder itself, or the one it will be made in."""
    return next(each for each in (path, *path.parents) if each.exists())


def _device(path: Path) -> int:
    return _existing(path).stat().st_dev

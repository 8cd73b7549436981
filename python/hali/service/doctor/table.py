"""The checks in the order of the report. Ids are a public format; only additions are allowed."""

from __future__ import annotations

from datetime import UTC, datetime

from hali._version import __version__
from hali.model.units import DAY_S
from hali.service.doctor import configured, daemon, extensions, lan, machine, ports, servers, stored
from hali.service.doctor.context import Context
from hali.service.doctor.finding import Check, Finding, Report, report_of, skipped
from hali.service.doctor.running import run


def _update(context: Context) -> Finding:
    return skipped("updates are off")


CHECKS = (
    Check("runtime.version", "Python and packages", machine.runtime),
    Check("config.parse", "Configuration", configured.config),
    Check("keys.permissions", "Keys and permissions", configured.permissions),
    Check("clock.skew", "Clock", machine.clock),
    Check("disk.space", "Disk", machine.disk),
    Check("ports.free", "Ports", ports.ports),
    Check("native.modules", "Compiled modules", extensions.native),
    Check("inference.engine", "Inference", extensions.inference),
    Check("lan.multicast", "LAN multicast", lan.multicast),
    Check("lan.secret", "LAN secret", lan.secret),
    Check("daemon.address", "Daemon", daemon.address),
    Check("daemon.services", "Services of the daemon", daemon.services),
    Check("torrent.reachable", "BitTorrent port", daemon.torrent),
    Check("database.integrity", "Database", stored.database, deep_s=600.0),
    Check("models.files", "Models", stored.models, deep_s=DAY_S),  # terabytes take hours
    Check("service.unit", "Service", daemon.unit),
    Check("service.crashes", "Crashes", daemon.crashes),
    Check("upstream.reachable", "Other runtimes", servers.upstream),
    Check("registry.reachable", "Registries", servers.registries),
    Check("outbox.pending", "Outbox", stored.outbox),
    Check("update.available", "Update", _update),
)


def examine(context: Context) -> Report:
    """All checks of one home."""
    began = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return report_of(run(CHECKS, context), generated_at=began, version=__version__)

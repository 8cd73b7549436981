"""The check of the ports: free, or held by our own daemon."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import msgspec

from hali.config.schema import Settings
from hali.runtime import loopback
from hali.service.doctor.context import Context, as_root
from hali.service.doctor.finding import Finding, failed, passed
from hali.service.doctor.proc import Holder, Protocol, holder_of_port


class Wanted(msgspec.Struct, frozen=True):
    """A port that the settings name. `shared`: several daemons may have it; `yields`: the next free one does as well."""

    key: str
    protocol: Protocol
    address: str
    port: int
    shared: bool = False
    yields: bool = False


class Found(msgspec.Struct, frozen=True):
    """What became of it: an errno (0: it is free), and who has it."""

    error: int = 0
    holder: Holder | None = None


def ports(context: Context) -> Finding:
    """May the daemon listen where the settings say, or does it already?"""
    if not loopback.is_up():
        return failed(loopback.DOWN, as_root(loopback.BRING_UP))
    looked = [(wanted, _look(wanted)) for wanted in wanted_ports(context.settings)]
    findings = [judge(context, wanted, found) for wanted, found in looked]
    worst = next((finding for finding in findings if finding.status == "fail"), None)
    return worst or passed("; ".join(finding.detail for finding in findings) or "any free ones will do")


def wanted_ports(settings: Settings) -> Iterator[Wanted]:
    """The fixed ports of these settings; 0 is any, and cannot be taken."""
    if settings.torrent_port:
        yield Wanted("torrent_port", "tcp", "", settings.torrent_port)
    if settings.daemon_port:
        default = settings.daemon_port == Settings().daemon_port
        yield Wanted("daemon_port", "tcp", settings.daemon_listen_addr, settings.daemon_port, yields=default)
    if settings.lan.enabled:
        yield Wanted("lan.port", "udp", "", settings.lan.port, shared=True)


def judge(context: Context, wanted: Wanted, found: Found) -> Finding:
    """Pure but for the context's settings: is that as it should be?"""
    name = f"{wanted.key} {wanted.port}"
    if not found.error:
        return passed(f"{name} {'can be shared' if wanted.shared else 'is free'}")
    if found.holder is not None and found.holder.pid == context.daemon.pid:
        return passed(f"{name} is our own daemon's")
    if found.error == errno.EADDRINUSE:
        taken = f"{name} is taken by {found.holder or 'a process of another user'}"
        return (
            passed(f"{taken}; the next free one will do")
            if wanted.yields
            else failed(taken, _free(context, wanted, found.holder))
        )
    if found.error == errno.EADDRNOTAVAIL:
        detail = f"this machine has no address {wanted.address} (daemon_listen_addr)"
        return failed(detail, context.setting_command(("daemon_listen_addr", None)))
    if found.error == errno.EACCES:
        return failed(f"{name} is for privileged processes only", context.setting_command((wanted.key, None)))
    return failed(
        f"{name}: {errno.errorcode.get(found.error, found.error)}", context.setting_command((wanted.key, None))
    )


def _free(context: Context, wanted: Wanted, holder: Holder | None) -> str:
    """Another port, where any will do; the LAN's is the same on all nodes, so there its holder has to go."""
    if not wanted.shared:
        return context.setting_command((wanted.key, "0"))
    return as_root(f"kill {holder.pid}" if holder is not None else f"fuser -k {wanted.port}/udp")


def _look(wanted: Wanted) -> Found:
    error = next((error for address in _addresses(wanted) if (error := _bind(wanted, address))), 0)
    return Found(error, holder_of_port(wanted.protocol, wanted.port) if error == errno.EADDRINUSE else None)


def _addresses(wanted: Wanted) -> list[str]:
    return [wanted.address] if wanted.address else ["0.0.0.0", "::"]


def _bind(wanted: Wanted, address: str) -> int:
    """Bind as the daemon will and let go; the errno."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_DGRAM if wanted.protocol == "udp" else socket.SOCK_STREAM
    try:
        with socket.socket(family, kind) as probe:
            if wanted.protocol == "tcp" or wanted.shared:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if wanted.shared and hasattr(socket, "SO_REUSEPORT"):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, wanted.port))
    except OSError as exc:
        without_ipv6 = family == socket.AF_INET6 and exc.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
        return 0 if without_ipv6 and not wanted.address else exc.errno or errno.EIO
    return 0

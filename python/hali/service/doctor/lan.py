"""Checks of the LAN: does multicast come through this machine, and do the neighbours have our secret?"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from hali.service.doctor.context import Context, as_root, first_installed
from hali.service.doctor.finding import Finding, failed, passed, skipped, warned

ROUNDS, ROUND_S = 4, 0.25  # the loop through the kernel takes microseconds; a full buffer may cost a datagram


def multicast(context: Context) -> Finding:
    """Send to the groups over each interface and hear it again. It does not leave the machine (TTL 0): this is about us."""
    if not context.settings.lan.enabled:
        return skipped("lan.enabled is off")
    from hali.transfer.lan_interfaces import interfaces, links_without_multicast

    if cut := links_without_multicast():
        commands = [f"ip link set dev {name} multicast on" for name in cut]
        return failed(f"multicast is switched off on {', '.join(cut)}", " && ".join(map(as_root, commands)))
    found = [each for each in interfaces() if each.name != "lo"]  # Linux has no IPv6 multicast over that one
    if not found:
        return skipped("no network interface but that of this machine itself is up")
    heard = hear_ourselves(context.settings.lan.port, found)
    wanted = {(each.name, family) for each in found for family, have in (("4", each.v4), ("6", each.v6)) if have}
    return judge_multicast(wanted, heard, context.settings.lan.port)


def judge_multicast(wanted: Collection[tuple[str, str]], heard: Collection[tuple[str, str]], port: int) -> Finding:
    """Pure: (interface, "4" or "6") that should have been heard, and were."""
    deaf = sorted({name for name, _ in wanted} - {name for name, _ in heard})
    names = sorted({name for name, _ in wanted})
    if deaf:
        return failed(f"what is sent to the group over {', '.join(deaf)} is not heard: a firewall", open_firewall(port))
    if half := sorted(f"IPv{family} over {name}" for name, family in set(wanted) - set(heard)):
        return warned(f"not heard: {', '.join(half)}", open_firewall(port))
    return passed(f"heard over {', '.join(names)}")


def open_firewall(port: int, protocol: str = "udp") -> str:
    """The command of whatever firewall this machine has that lets a port through."""
    if first_installed("ufw") and "ENABLED=yes" in _text(Path("/etc/ufw/ufw.conf")):
        return as_root(f"ufw allow {port}/{protocol}")
    if Path("/run/firewalld").exists() and first_installed("firewall-cmd"):
        return as_root(f"firewall-cmd --add-port={port}/{protocol}")
    rule = f"-I INPUT -p {protocol} --dport {port} -j ACCEPT"
    commands = [f"{tool} {rule}" for tool in ("iptables", "ip6tables")]
    if protocol == "udp":
        commands += [command.replace("INPUT", "OUTPUT") for command in commands]
    return " && ".join(map(as_root, commands))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def hear_ourselves(port: int, found: Sequence[Any]) -> set[tuple[str, str]]:
    """Over which of the interfaces a datagram to the groups came back, as (name, "4" or "6")."""
    from hali.transfer.lan_net import LanSockets, receive
    from hali.wire.lan import PROBE

    sockets = LanSockets(port)
    try:
        shared = sockets.open_shared()
        sockets.join(found)
        for sock in sockets.own:
            _keep_inside(sock)
        marks = {PROBE + os.urandom(16): each.name for each in found}
        by_name = {name: mark for mark, name in marks.items()}
        wanted = {(each.name, v) for each in found for v, have in (("4", each.v4), ("6", each.v6)) if have}
        heard: set[tuple[str, str]] = set()
        for _ in range(ROUNDS):
            for each in found:
                sockets.multicast(by_name[each.name], [each])
            while heard != wanted and (ready := select.select(shared, [], [], ROUND_S)[0]):
                for sock in ready:
                    if (name := marks.get(receive(sock).datagram)) is not None:
                        heard.add((name, "6" if sock.family == socket.AF_INET6 else "4"))
            if heard == wanted:
                break
        return heard
    finally:
        sockets.close()


def _keep_inside(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 0)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)


def secret(context: Context) -> Finding:
    """Do packets of neighbours come that another secret signed? The daemon counts them."""
    if not context.settings.lan.enabled:
        return skipped("lan.enabled is off")
    traffic = context.daemon.status and context.daemon.status.get("lan_traffic")
    if not traffic:
        return skipped("only a running daemon hears its neighbours")
    return judge_secret(context, strange=traffic["dropped"].get("mac", 0), known=sum(traffic["accepted"].values()))


def judge_secret(context: Context, *, strange: int, known: int) -> Finding:
    """Pure but for the settings: packets with another secret than ours, and those that were believed."""
    lan = context.settings.lan
    if not strange:
        return passed(f"{'signed with the secret' if lan.hmac_enabled else 'open'}, {known} packets of neighbours")
    switch = [] if lan.hmac_enabled else [("lan.hmac_enabled", "true")]
    fix = context.setting_command(*switch, ("lan.hmac_shared_secret", "-"))  # `-`: it is asked for, or read from a pipe
    detail = f"{strange} packets of neighbours are signed with another secret than ours"
    if not lan.hmac_enabled:
        detail = f"{strange} packets of neighbours are signed with a secret, and lan.hmac_enabled is off here"
    if known:
        return warned(f"{detail}; {known} others are not, so there may be two groups on this LAN", fix)
    return failed(f"{detail}, and no others come", fix)

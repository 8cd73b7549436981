"""The bars of all fetches of a session as libtorrent's one IP filter. It holds for fetches; seeds serve anyone."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

import libtorrent as lt

from hali.transfer.rescue import Bars

BLOCKED, ALLOWED = 1, 0
Rules = list[tuple[str, str, int]]  # first and last address, flag; a later rule wins


def ip_rules(bars: Collection[Bars], *, alone: bool) -> Rules:
    """The rules for all fetches; who is only put aside by one of several stays, as another may need him."""
    rules = [_range(network) for each in bars for network in sorted(each.networks)]
    rules += [(host, host, ALLOWED) for each in bars for host in sorted(each.known)]
    barred = {host for each in bars for host in each.guilty | (each.aside if alone else frozenset())}
    return rules + [(host, host, BLOCKED) for host in sorted(barred)]


def _range(network: str) -> tuple[str, str, int]:
    addresses = ipaddress.ip_network(network)
    return str(addresses.network_address), str(addresses.broadcast_address), BLOCKED


def as_filter(rules: Rules) -> lt.ip_filter:
    """What libtorrent takes."""
    result = lt.ip_filter()
    for first, last, flag in rules:
        result.add_rule(first, last, flag)
    return result

"""What people are told of the traffic with the neighbours on the LAN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Where the reason is most likely one of our own configuration, and what to do about it.
HINTS = {
    "mac": "other nodes have another lan.hmac_shared_secret, or lan.hmac_enabled is not the same on all",
    "same_key": "another node has this one's key, see `hali doctor`",
}


def describe_drops(traffic: Mapping[str, Any] | None) -> str | None:
    """One line on the packets that were not believed, the most frequent reason first; None when there are none."""
    dropped: Mapping[str, int] = traffic["dropped"] if traffic is not None else {}
    if not dropped:
        return None
    ordered = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    total = sum(dropped.values())
    line = f"LAN: {total} packet{'' if total == 1 else 's'} dropped ({', '.join(f'{n} {reason}' for reason, n in ordered)})"
    hints = [hint for reason, hint in HINTS.items() if reason in dropped]
    return "; ".join([line, *hints])

"""What the values of some keys have to be beyond their types. Pure; each raises UsageError for others."""

from __future__ import annotations

import ipaddress

from hali.model.errors import UsageError
from hali.model.urls import origin


def listen_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """`text` as an address; of all names localhost only, which nothing but the loopback can be."""
    try:
        return ipaddress.ip_address("127.0.0.1" if text == "localhost" else text)
    except ValueError:
        hint = "127.0.0.1 is this machine only, 0.0.0.0 all of its addresses"
        raise UsageError(f"daemon_listen_addr: not an IP address: {text!r}", hint=hint) from None


def check_endpoint(url: str) -> None:
    """A hub that can be asked."""
    try:
        origin(url)
    except UsageError as exc:
        raise UsageError(f"hf.endpoint: {exc.message}", hint="for example https://huggingface.co") from None

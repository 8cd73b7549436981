"""What the values of some keys have to be beyond their types. Each raises UsageError for others."""

from __future__ import annotations

import ipaddress
import os

from hali.config.paths import expanded, is_utf8
from hali.model.errors import UsageError
from hali.model.urls import origin

LONGEST_NAME = 255  # bytes of one name in a path (NAME_MAX of the common file systems)


def models_folder(text: str) -> None:
    """A path that a folder can have."""
    hint = "for example /mnt/models; empty is `models` in the data directory"
    try:
        parts = expanded(text).parts
    except UsageError as exc:
        raise UsageError(f"models_dir: {exc.message}", hint=hint) from None
    if not is_utf8(text):
        raise UsageError("models_dir is not UTF-8", hint="set it to a path that can be written down")
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in parts):
        raise UsageError(f"models_dir: {text[:80]}…: a name in it is longer than {LONGEST_NAME} bytes", hint=hint)


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

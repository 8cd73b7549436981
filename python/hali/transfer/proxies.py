"""The proxies that the environment names, as the HTTP clients here use them."""

from __future__ import annotations

from urllib.request import getproxies

import httpx

from hali.model.errors import TransferFailed


def behind_proxy() -> bool:
    """True where the environment names a proxy: names are then looked up and dialled by it. TransferFailed for one nobody can use.

    A limit: what NO_PROXY excepts is dialled by httpx itself, so only the look before guards it, not against DNS rebinding.
    """
    found = {scheme: url for scheme, url in getproxies().items() if scheme in ("http", "https", "all") and url}
    for scheme, url in found.items():
        try:
            usable = bool(httpx.Proxy(url if "://" in url else f"http://{url}").url.host)
        except (ValueError, httpx.InvalidURL):
            usable = False
        if not usable:
            raise TransferFailed(
                f"what {scheme.upper()}_PROXY names is no HTTP or SOCKS5 proxy",
                hint="correct it in the environment of the daemon, and restart that",
                retryable=False,
            )
    return bool(found)

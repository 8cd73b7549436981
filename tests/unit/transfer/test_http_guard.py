"""Which URLs may be fetched."""

from __future__ import annotations

import pytest

from hali.model.errors import Refused, UsageError
from hali.transfer.http_dial import check_public
from hali.transfer.http_guard import is_public, origin, redacted


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/x", "//host/x", "http://", "http://host:99999/", "x"]
)
def test_other_schemes_and_broken_urls_are_usage_errors(url: str) -> None:
    with pytest.raises(UsageError):
        origin(url)


def test_the_default_port_is_part_of_the_origin() -> None:
    assert origin("HTTPS://Host/x") == origin("https://host:443/y") != origin("http://host/x")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1",
        "::1", "fe80::1%eth0", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1", "no ip",
    ],
)  # fmt: skip
def test_addresses_inside_the_network_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("url", ["http://127.0.0.1/x", "http://localhost/x", "http://[::1]/x", "http://2130706433/x"])
async def test_urls_that_lead_inside_are_refused(url: str) -> None:
    with pytest.raises(Refused, match="inside this network"):
        await check_public(url)


def test_secrets_of_a_url_are_not_shown() -> None:
    assert redacted("https://user:pw@host/path?Signature=abc#x") == "https://host/path"

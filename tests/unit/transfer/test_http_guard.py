"""Which URLs may be fetched."""

from __future__ import annotations

import pytest

from hali.model.errors import Refused, UsageError
from hali.model.urls import origin, redacted
from hali.transfer.http_dial import Dialer
from hali.transfer.http_guard import Reach, check_link, reach


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
    assert reach(address) is not Reach.PUBLIC


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert reach(address) is Reach.PUBLIC


@pytest.mark.parametrize("url", ["http://127.0.0.1/x", "http://localhost/x", "http://[::1]/x", "http://localhost./x"])
async def test_urls_that_lead_inside_are_refused(url: str) -> None:
    with pytest.raises(Refused, match="inside this network"):
        await Dialer(url, trusted=False).allowed(*check_link(url)[1:])


@pytest.mark.parametrize("host", ["2130706433", "0177.1", "0x7f.0.0.1", "127.1", "8.8.2056"])
def test_an_address_that_is_spelt_to_be_overlooked_is_refused_wherever_it_leads(host: str) -> None:
    with pytest.raises(Refused, match="in disguise"):
        check_link(f"https://{host}/x")


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("127.0.0.1", Reach.LOOPBACK), ("127.8.8.8", Reach.LOOPBACK), ("::1", Reach.LOOPBACK),
        ("::ffff:127.0.0.1", Reach.LOOPBACK), ("::7f00:1", Reach.LOOPBACK), ("10.0.0.1", Reach.PRIVATE),
        ("fd00::1", Reach.PRIVATE), ("100.64.0.1", Reach.PRIVATE), ("169.254.169.254", Reach.SPECIAL),
        ("0.0.0.0", Reach.SPECIAL), ("0.1.2.3", Reach.SPECIAL), ("::", Reach.SPECIAL), ("fe80::1%eth0", Reach.SPECIAL),
        ("240.0.0.1", Reach.SPECIAL), ("255.255.255.255", Reach.SPECIAL), ("no ip", Reach.SPECIAL),
        ("8.8.8.8", Reach.PUBLIC), ("2606:4700::1111", Reach.PUBLIC),
    ],
)  # fmt: skip
def test_an_address_lies_as_deep_inside_as_the_host_it_reaches(address: str, found: Reach) -> None:
    assert reach(address) is found


async def test_a_hub_of_this_machine_may_lead_to_this_machine_but_not_to_cloud_metadata() -> None:
    dialer = Dialer("http://127.0.0.1:8000/x", trusted=True)
    with pytest.raises(Refused):
        await dialer.allowed("127.0.0.1", 8001)  # nothing was asked of the hub yet
    assert await dialer.allowed("127.0.0.1", 8000) == ["127.0.0.1"]
    assert await dialer.allowed("127.0.0.1", 8001) == ["127.0.0.1"]
    assert await dialer.allowed("10.0.0.1", 80) == ["10.0.0.1"]
    with pytest.raises(Refused):
        await dialer.allowed("169.254.169.254", 80)


async def test_a_hub_of_the_lan_may_not_lead_to_this_machine() -> None:
    dialer = Dialer("http://10.0.0.5/x", trusted=True)
    assert await dialer.allowed("10.0.0.5", 80) == ["10.0.0.5"]
    assert await dialer.allowed("10.0.0.6", 80) == ["10.0.0.6"]
    with pytest.raises(Refused):
        await dialer.allowed("127.0.0.1", 80)


def test_secrets_of_a_url_are_not_shown() -> None:
    assert redacted("https://user:pw@host/path?Signature=abc#x") == "https://host/path"
    assert redacted("https://host/\x1b[2J\u202e") == "https://host/?[2J?"

"""Interfaces and sockets."""

from __future__ import annotations

import pytest

from hali.transfer import lan_interfaces
from hali.transfer.lan_interfaces import Interface, addresses_of, interfaces
from hali.transfer.lan_net import LanSockets


def test_loopback_is_among_the_interfaces_so_that_two_daemons_meet_without_a_network() -> None:
    assert any("127.0.0.1" in i.v4 for i in interfaces())


def test_the_useful_addresses_come_first() -> None:
    found = [Interface(2, "a", ("10.0.0.1",), ("fe80::1", "fd00::1")), Interface(3, "b", (), ("fd00::2",))]
    assert addresses_of(found) == ["10.0.0.1", "fe80::1", "fd00::2", "fd00::1"]


def test_an_interface_that_is_gone_fails_no_send() -> None:
    sockets = LanSockets(4269)
    try:
        gone = [Interface(999_999, "gone0", ("192.0.2.1",), ("fe80::1",))]
        sockets.open_shared()
        sockets.join(gone)
        assert sockets.multicast(b"x", gone) == 0
        assert not sockets.hears_multicast
    finally:
        sockets.close()
    assert not sockets.unicast(b"x", "127.0.0.1", 9)


class NoFile:
    """A path that does not exist."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read_text(self) -> str:
        raise FileNotFoundError(self.name)


def test_without_ipv6_the_rest_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lan_interfaces, "Path", NoFile)
    assert interfaces()
    assert all(i.v6 == () for i in interfaces())

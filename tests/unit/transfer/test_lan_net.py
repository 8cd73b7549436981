"""Interfaces and sockets."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_network

import pytest

from hali.transfer import lan_interfaces
from hali.transfer.lan_interfaces import Interface, Reach, addresses_of, groups_of, interfaces
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


@pytest.mark.parametrize(("number", "missing"), [(errno.EAFNOSUPPORT, []), (errno.EMFILE, ["IPv6 port of our own"])])
def test_a_kernel_without_ipv6_lacks_no_socket_but_one_that_refuses_does(
    monkeypatch: pytest.MonkeyPatch, number: int, missing: list[str]
) -> None:
    real = socket.socket

    def opened(family: int, kind: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(number, "no IPv6")
        return real(family, kind)

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", opened)
        sockets = LanSockets(4269)
    own = len(sockets.own)
    sockets.close()
    assert (own, sockets.missing) == (1, missing)


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


def test_near_and_far_are_told_apart_by_the_networks_of_the_interfaces() -> None:
    eth = Interface(2, "eth0", ("203.0.113.5",), ("fe80::1", "2001:db8::1"), (ip_network("203.0.113.0/24"),))
    reach = Reach([eth], peers=["8.8.4.4"])
    assert [reach.is_on_link(h) for h in ("203.0.113.9", "fe80::9%eth0", "10.0.0.1", "8.8.4.4")] == [1, 1, 0, 0]
    assert [reach.is_near(h) for h in ("203.0.113.9", "10.0.0.1", "8.8.4.4", "8.8.8.8")] == [1, 1, 1, 0]
    assert [reach.is_mine(h) for h in ("203.0.113.5", "fe80::1", "203.0.113.255", "239.192.42.1", "")] == [
        1,
        1,
        0,
        0,
        0,
    ]


def test_every_address_has_the_prefix_of_its_own_network() -> None:
    (loopback,) = (i for i in interfaces() if "127.0.0.1" in i.v4)
    assert ip_network("127.0.0.0/8") in loopback.networks


def test_a_machine_with_many_bridges_lists_on_each_link_the_address_it_sends_from() -> None:
    found = [Interface(n, f"br{n}", (f"172.{n}.0.1",), (f"fe80::{n}",)) for n in range(1, 31)]
    groups = groups_of(found, addresses_of(found), 12)
    assert [i for members, _ in groups for i in members] == found
    for members, listed in groups:
        assert len(listed) == 12
        assert {a for i in members for a in i.sources} <= set(listed)


def test_a_usual_machine_has_one_packet_for_all_links() -> None:
    found = [Interface(n, f"eth{n}", (f"172.{n}.0.1",), (f"fe80::{n}", "2001:db8::1")) for n in (1, 2)]
    ((members, listed),) = groups_of(found, addresses_of(found), 12)
    assert list(members) == found
    assert set(listed) == set(addresses_of(found))


def test_without_interfaces_there_is_nothing_to_send_over() -> None:
    assert groups_of([], [], 12) == []

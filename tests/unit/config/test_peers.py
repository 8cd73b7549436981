"""How nodes in other subnets are named."""

from __future__ import annotations

import pytest

from hali.config.load import find_key, parse_text
from hali.config.peers import split_peer
from hali.model.errors import UsageError


@pytest.mark.parametrize(
    ("text", "peer"),
    [
        ("host", ("host", 4269)),
        ("host:99", ("host", 99)),
        ("10.0.0.1:99", ("10.0.0.1", 99)),
        ("[fd00::1]:99", ("fd00::1", 99)),
        ("[fd00::1]", ("fd00::1", 4269)),
        ("fd00::1", ("fd00::1", 4269)),
        ("fe80::1%eth0", ("fe80::1%eth0", 4269)),
        ("büro-nas.local:65535", ("büro-nas.local", 65535)),
    ],
)
def test_peers_are_written_in_the_usual_ways(text: str, peer: tuple[str, int]) -> None:
    assert split_peer(text, 4269) == peer


@pytest.mark.parametrize("port", ["x", "0", "70000", "99999", "", "-1", "1.5", "٣", "8 0", "8:0", "1" * 5000])
@pytest.mark.parametrize("host", ["10.0.0.1", "[::1]"])
def test_a_bad_port_is_refused_where_it_is_set(host: str, port: str) -> None:
    with pytest.raises(UsageError, match=r"lan\.peers.*is no (port|host)"):
        parse_text(find_key("lan.peers"), f"a,{host}:{port}")


@pytest.mark.parametrize(
    "text", ["foo bar", "[::1", "::1]", "http://x", "[10.0.0.1]:5", "[::1]5", ":5", "a:b:c", "[]", "@"]
)
def test_what_is_no_host_is_refused_where_it_is_set(text: str) -> None:
    with pytest.raises(UsageError, match=r"lan\.peers.*is no (port|host)"):
        parse_text(find_key("lan.peers"), text)

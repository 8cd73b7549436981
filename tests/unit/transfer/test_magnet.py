"""Magnet links, ours and strangers'."""

from __future__ import annotations

import base64

import libtorrent as lt
import pytest

from hali.model.errors import UsageError
from hali.model.ids import InfoHashes
from hali.transfer import magnet
from hali.transfer.magnet import Magnet, build, parse

V1 = "0123456789abcdef0123456789abcdef01234567"
V2 = "ab" * 32
BOTH = InfoHashes(V1, V2)


def test_the_parts_of_a_link_stand_in_a_fixed_order() -> None:
    uri = build(BOTH, "a b&c.gguf", webseeds=["https://h/x?y=1&z=2"], peers=[("192.0.2.7", 6881), ("fd00::1", 6882)])

    assert uri == (
        f"magnet:?xt=urn:btih:{V1}&xt=urn:btmh:1220{V2}&dn=a%20b%26c.gguf&ws=https%3A%2F%2Fh%2Fx%3Fy%3D1%26z%3D2"
        "&x.pe=192.0.2.7:6881&x.pe=[fd00::1]:6882"
    )


def test_a_built_link_says_the_same_when_parsed() -> None:
    peers = (("192.0.2.7", 6881), ("fd00::1", 6882))

    parsed = parse(build(BOTH, "a b&c=é.gguf", webseeds=["https://h/x?y=1&z=2"], peers=peers))

    assert parsed == Magnet(BOTH, "a b&c=é.gguf", ("https://h/x?y=1&z=2",), peers)


def test_libtorrent_reads_our_links_as_we_mean_them() -> None:
    theirs = lt.parse_magnet_uri(build(BOTH, "a b&c=é.gguf", webseeds=["https://h/x"], peers=[("192.0.2.7", 6881)]))

    assert (str(theirs.info_hashes.v1), str(theirs.info_hashes.v2)) == (V1, V2)
    assert (theirs.name, theirs.url_seeds, theirs.peers) == ("a b&c=é.gguf", ["https://h/x"], [("192.0.2.7", 6881)])


def test_we_read_libtorrents_links() -> None:
    params = lt.add_torrent_params()
    params.info_hashes = lt.info_hash_t(lt.sha1_hash(bytes.fromhex(V1)), lt.sha256_hash(bytes.fromhex(V2)))
    params.name = "model é.gguf"
    params.trackers = ["http://tracker.example/announce"]

    assert parse(lt.make_magnet_uri(params)) == Magnet(BOTH, "model é.gguf")


def test_base32_and_upper_case_infohashes_are_understood() -> None:
    base32 = base64.b32encode(bytes.fromhex(V1)).decode()
    links = [f"magnet:?xt=urn:btih:{text}" for text in (base32, base32.lower(), V1.upper())]

    assert {parse(link).infohashes for link in [*links, f"MAGNET:?xt.1=URN:BTIH:{V1}"]} == {InfoHashes(V1)}


@pytest.mark.parametrize(
    "uri",
    [
        "", "magnet:", "magnet:?", "magnet:?dn=x", "http://x", f"magnet?xt=urn:btih:{V1}", "magnet:?xt=urn:btih:",
        "magnet:?xt=urn:sha1:abc", f"magnet:?xt=urn:btih:{V1[:-1]}", f"magnet:?xt=urn:btih:{V1}0", f"magnet:?xt=urn:btih:{'g' * 40}",
        f"magnet:?xt=urn:btmh:1220{V2[:-2]}",
        f"magnet:?xt=urn:btmh:1120{V2}", f"magnet:?xt=urn:btih:{V1}&xt=urn:btih:{'0' * 40}", f"magnet:?xt=urn:btih:{V1}&dn=%ff",
        f"magnet:?xt=urn:btih:{V1}" + "&tr=x" * 200, f"magnet:?xt=urn:btih:{V1}&dn=" + "x" * magnet.MAX_LENGTH,
    ],
)  # fmt: skip
def test_what_is_no_magnet_is_a_usage_error(uri: str) -> None:
    with pytest.raises(UsageError):
        parse(uri)


@pytest.mark.parametrize("name", ["../../../etc/x", "a%00b", "con", "%E2%80%AEx"])
def test_a_name_no_file_may_have_is_dropped(name: str) -> None:
    assert parse(f"magnet:?xt=urn:btih:{V1}&dn={name}").name is None


def test_peers_that_are_no_addresses_are_dropped() -> None:
    hints = [
        "localhost:1",
        "1.2.3.4",
        "1.2.3.4:0",
        "1.2.3.4:65536",
        "1.2.3.4:x",
        "224.0.0.1:5",
        "0.0.0.0:5",
        "1.2.3.4:22",
        "[::1]:7",
        ":9",
    ]
    uri = f"magnet:?xt=urn:btih:{V1}" + "".join(f"&x.pe={hint}" for hint in hints)

    assert parse(uri).peers == (("1.2.3.4", 22), ("::1", 7))


def test_hints_are_limited_in_number() -> None:
    pairs = "".join(f"&x.pe=10.0.0.{i}:5" for i in range(100)) + "".join(f"&ws=https://h/{i}" for i in range(20))

    parsed = parse(f"magnet:?xt=urn:btih:{V1}{pairs}")

    assert (len(parsed.peers), len(parsed.webseeds)) == (magnet.MAX_PEERS, magnet.MAX_WEBSEEDS)


def test_a_link_needs_an_infohash() -> None:
    with pytest.raises(UsageError):
        build(InfoHashes(), "x")

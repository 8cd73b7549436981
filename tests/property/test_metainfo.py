"""Whatever bytes come as a torrent: a usable value with a safe name, or one kind of error."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import libtorrent as lt
from hypothesis import given
from hypothesis import strategies as st

from hali.model.digests import FileDigests
from hali.model.errors import HaliError, ProtocolError, UsageError
from hali.model.ids import InfoHashes
from hali.transfer import magnet, metainfo

SMALL = FileDigests(5, bytes(32), bytes(32), bytes(20), b"\x07" * 32, b"")
VALUES: Any = st.recursive(
    st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=12), inner, max_size=4),
    max_leaves=20,
)
KEYS = [b"name", b"length", b"piece length", b"pieces", b"files", b"file tree", b"meta version", b"private"]
LEAVES = [b"", b"length", b"pieces root", b"attr", b"a.gguf", b"\xff"]  # of a file tree


def check_parse(raw: bytes) -> None:
    try:
        parsed = metainfo.parse(raw)
    except ProtocolError:
        return
    assert_safe(parsed.name)
    assert parsed.length >= 0 and parsed.piece_length > 0 and parsed.files


def assert_safe(name: str) -> None:
    """Judged by other people's rules than ours."""
    assert PurePosixPath(name).name == name and PureWindowsPath(name).name == name
    assert not PureWindowsPath(name).is_reserved()
    assert 0 < len(name.encode()) <= 255 and name.isprintable() and name not in (".", "..")


@given(st.binary(max_size=300))
def test_any_bytes_parse_or_are_refused(raw: bytes) -> None:
    check_parse(raw)
    check_parse(b"d4:info" + raw + b"e")


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=8))
def test_any_info_dictionary_parses_or_is_refused(info: dict[bytes, Any]) -> None:
    check_parse(bytes(lt.bencode({b"info": info})))


@given(
    st.sampled_from(KEYS), VALUES, st.sampled_from([b"url-list", b"piece layers", b"created by", b"comment"]), VALUES
)
def test_a_good_torrent_with_one_wrong_value_parses_or_is_refused(
    key: bytes, value: Any, outer: bytes, other: Any
) -> None:
    torrent: Any = lt.bdecode(metainfo.build(SMALL, "a.gguf"))
    torrent[outer] = other
    check_parse(bytes(lt.bencode(torrent)))
    torrent[b"info"][key] = value
    check_parse(bytes(lt.bencode(torrent)))


@given(
    st.sampled_from([b"attr", b"length", b"path", b"path.utf-8", b"symlink path", b"sha1", None]),
    VALUES | st.sampled_from([b"p", b"lx"]),
    st.booleans(),
)
def test_a_torrent_of_several_files_of_which_one_has_a_wrong_value_parses_or_is_refused(
    key: bytes | None, value: Any, hybrid: bool
) -> None:
    listed: list[Any] = [{b"length": 5, b"path": [name]} for name in (b"a.gguf", b"b.gguf")]
    listed[0] = {**listed[0], key: value} if key is not None else value
    info = {b"files": listed, b"name": b"models", b"piece length": 16384, b"pieces": bytes(20)}
    if hybrid:
        tree = {b"a.gguf": {b"": {b"length": 5, b"pieces root": bytes(32)}}}
        info |= {b"meta version": 2, b"file tree": tree, b"files": listed[:1]}
    check_parse(metainfo.of_info(bytes(lt.bencode(info))))


@given(st.recursive(VALUES, lambda inner: st.dictionaries(st.sampled_from(LEAVES), inner, max_size=3), max_leaves=6))
def test_any_file_tree_parses_or_is_refused(tree: Any) -> None:
    info = {b"file tree": tree, b"meta version": 2, b"name": b"models", b"piece length": 16384}
    check_parse(metainfo.of_info(bytes(lt.bencode(info))))
    check_parse(metainfo.of_info(bytes(lt.bencode(info | {b"length": -5, b"pieces": bytes(20)}))))


@given(st.text(min_size=1, max_size=90))
def test_a_name_is_kept_exactly_or_refused(name: str) -> None:
    try:
        raw = metainfo.build(SMALL, name)
    except UsageError:
        return
    assert metainfo.parse(raw).name == name
    assert_safe(name)


@given(st.integers(0, 2_000), st.binary(min_size=1, max_size=1))
def test_a_torrent_with_one_wrong_byte_never_passes_for_the_same_one(at: int, byte: bytes) -> None:
    raw = metainfo.build(SMALL, "a.gguf")
    at %= len(raw)
    changed = raw[:at] + byte + raw[at + 1 :]
    try:
        parsed = metainfo.parse(changed)
    except ProtocolError:
        return
    same_info = lt.bencode(lt.bdecode(changed)[b"info"]) == lt.bencode(lt.bdecode(raw)[b"info"])  # type: ignore[index]
    assert (parsed.infohashes == metainfo.parse(raw).infohashes) == same_info


@given(st.text(max_size=200))
def test_any_text_is_a_magnet_or_a_usage_error(text: str) -> None:
    for uri in (text, f"magnet:?{text}", f"magnet:?xt=urn:btih:{'0' * 40}&{text}"):
        try:
            parsed = magnet.parse(uri)
        except UsageError:
            continue
        if parsed.name is not None:
            assert_safe(parsed.name)


@given(
    st.text(max_size=60),
    st.lists(st.text(min_size=1, max_size=40).map(lambda t: f"https://h/{t}"), max_size=3),
    st.lists(st.tuples(st.ip_addresses(), st.integers(1, 65535)), max_size=3),
)
def test_a_magnet_survives_the_round_trip(name: str, webseeds: list[str], peers: list[tuple[Any, int]]) -> None:
    hints = [(str(ip), port) for ip, port in peers if not (ip.is_multicast or ip.is_unspecified)]
    infohashes = InfoHashes("01" * 20, "ab" * 32)
    try:
        parsed = magnet.parse(magnet.build(infohashes, name, webseeds=webseeds, peers=hints))
    except (UsageError, UnicodeEncodeError):
        return
    assert (parsed.infohashes, parsed.webseeds, parsed.peers) == (infohashes, tuple(webseeds), tuple(hints))
    try:
        assert parsed.name == metainfo.safe_name(name)
    except HaliError:
        assert parsed.name is None

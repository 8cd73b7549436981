"""LAN packets of the existing hali."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from hali.wire.lan import Malformed
from hali.wire.lan_v1 import decode, looks_like_v1

MODEL = {"id": "smollm2:135m:instruct:q4_1", "ih": "a" * 40, "ih2": "b" * 64, "repo": "x/y", "rev": "main"}


def datagram(secret: bytes | None = None, **changes: object) -> bytes:
    fields: dict[str, object] = {"v": "1", "nid": "n" * 64, "ts": 1000, "p": 6881, "models": [MODEL]} | changes
    if secret is not None:
        plain = json.dumps(fields, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026").encode()
        fields["sig"] = base64.b64encode(hmac.new(secret, plain, hashlib.sha256).digest()).decode()
    return json.dumps(fields).encode()


def test_a_plain_announcement_is_read() -> None:
    packet = decode(datagram(), secret=None, now=1001.0)
    assert (packet.p, packet.models[0].ih, packet.models[0].ih2) == (6881, "a" * 40, "b" * 64)
    assert looks_like_v1(datagram())


def test_with_a_secret_only_signed_ones_are_read() -> None:
    assert decode(datagram(b"s"), secret=b"s", now=1001.0).models
    for wrong in (datagram(), datagram(b"t")):
        with pytest.raises(Malformed, match="mac"):
            decode(wrong, secret=b"s", now=1001.0)


def test_the_signed_bytes_are_those_of_gos_encoder() -> None:
    model = MODEL | {"repo": "a<b&c"}
    assert decode(datagram(b"s", models=[model]), secret=b"s", now=1001.0).models[0].repo == "a<b&c"


@pytest.mark.parametrize("now", [1031.0, 994.0])
def test_old_and_future_ones_are_dropped(now: float) -> None:
    with pytest.raises(Malformed, match="replayed"):
        decode(datagram(), secret=None, now=now)


def test_a_timestamp_of_0_gets_no_exception() -> None:
    with pytest.raises(Malformed, match="replayed"):
        decode(datagram(ts=0), secret=None, now=1001.0)


def test_a_time_beyond_all_clocks_is_malformed() -> None:
    for ts in (10**400, -(10**400)):
        with pytest.raises(Malformed, match="malformed"):
            decode(datagram(ts=ts), secret=None, now=1001.0)


def test_bad_models_are_left_out_and_bad_v2_hashes_blanked() -> None:
    models = [MODEL | {"ih": "zz"}, MODEL | {"ih2": "zz"}, MODEL | {"id": "a\nb"}]
    packet = decode(datagram(models=models), secret=None, now=1001.0)
    assert [m.ih2 for m in packet.models] == [""]


@pytest.mark.parametrize("bad", [b"{", b"{}", b'{"v":1}', datagram(nid=""), datagram(p=70000), datagram(models=3)])
def test_broken_json_is_malformed(bad: bytes) -> None:
    with pytest.raises(Malformed, match=r"malformed|truncated"):
        decode(bad, secret=None, now=1001.0)


def test_another_version_is_named() -> None:
    with pytest.raises(Malformed, match="version"):
        decode(datagram(v="2"), secret=None, now=1001.0)

"""Addresses that a torrent names are nothing that libtorrent asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest

from hali.model.units import KIB
from hali.transfer.metainfo import parse
from hali.transfer.session import FetchFailed, running
from tests.fakes.canary import Canary
from tests.fakes.torrents import LOCAL, events_of, make

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("field", [b"url-list", b"httpseeds", b"announce"])
async def test_no_address_in_a_torrent_makes_libtorrent_ask_this_machine(field: bytes, tmp_path: Path) -> None:
    sample = make(tmp_path / "seed", 600 * KIB, 64 * KIB)
    with Canary() as canary:
        torrent: Any = lt.bdecode(sample.metainfo.raw)
        names = ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433")
        urls = [f"{kind}://{name}:{canary.port}/announce".encode() for name in names for kind in ("https", "http")]
        torrent |= {b"announce": urls[0], b"announce-list": [urls]} if field == b"announce" else {field: urls}
        metainfo = parse(bytes(lt.bencode(torrent)))
        async with running(LOCAL) as session, session.fetch(metainfo, tmp_path, patience_s=2.5) as fetch:
            assert isinstance((await events_of(fetch))[-1], FetchFailed)
        assert not canary.touched

"""What libtorrent is told: nothing that a stranger's torrent or magnet says is passed on unseen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest

from hali.model.digests import FileDigests
from hali.model.ids import InfoHashes
from hali.transfer import options, params
from hali.transfer.magnet import Magnet
from hali.transfer.metainfo import Metainfo, build, parse
from hali.transfer.options import SessionOptions
from tests.fakes.bundles import torrent_by_hali, write

WEB_SEEDS = ["https://h/model", "http://169.254.169.254/latest", "ftp://h/x", "HTTPS://H/y"]
FLAGS = lt.torrent_flags
ID = options.new_peer_id()


@pytest.fixture
def metainfo() -> Metainfo:
    """With trackers and web seeds of all kinds."""
    digests = FileDigests(5, bytes(32), bytes(32), bytes(20), b"\x07" * 32, b"")
    torrent: Any = lt.bdecode(build(digests, "x" * 250 + ".gguf", webseeds=WEB_SEEDS))
    torrent[b"announce"] = b"http://tracker.example/announce"
    torrent[b"nodes"] = [[b"10.0.0.1", 53]]
    torrent[b"httpseeds"] = [b"http://h/seed"]
    return parse(bytes(lt.bencode(torrent)))


@pytest.mark.parametrize("form", ["metainfo", "magnet"])
def test_trackers_and_web_seeds_are_left_out(metainfo: Metainfo, tmp_path: Path, form: str) -> None:
    source = metainfo if form == "metainfo" else Magnet(metainfo.infohashes, webseeds=tuple(WEB_SEEDS))

    wanted = params.for_fetch(source, tmp_path, SessionOptions())

    assert (wanted.trackers, wanted.dht_nodes, wanted.http_seeds) == ([], [], [])
    assert wanted.url_seeds == []


def test_a_seed_is_never_written_to_and_has_no_web_seeds(metainfo: Metainfo, tmp_path: Path) -> None:
    wanted = params.for_seed(metainfo, tmp_path, SessionOptions())

    assert wanted.flags & FLAGS.seed_mode and wanted.flags & FLAGS.upload_mode
    assert wanted.url_seeds == [] and wanted.trackers == []


def test_a_file_keeps_its_name_even_where_libtorrent_would_shorten_it(metainfo: Metainfo, tmp_path: Path) -> None:
    assert params.for_fetch(metainfo, tmp_path, SessionOptions()).renamed_files == {0: metainfo.name}


def test_the_files_of_a_part_keep_their_names_side_by_side(tmp_path: Path) -> None:
    several = parse(torrent_by_hali(write(tmp_path / "Model", {"a.gguf": 5, "b.gguf": 6})))

    wanted = params.for_partial_seed(several, tmp_path, SessionOptions(), {0})

    assert sorted(wanted.renamed_files.values()) == ["a.gguf", "b.gguf"]


def test_a_magnet_asks_for_no_pieces_before_its_metadata_was_seen(tmp_path: Path) -> None:
    wanted = params.for_fetch(Magnet(InfoHashes(v1="ab" * 20)), tmp_path, SessionOptions())

    assert wanted.flags & FLAGS.upload_mode
    assert not wanted.flags & FLAGS.auto_managed  # libtorrent would take it out of upload mode by itself


def test_have_is_what_the_journal_says(metainfo: Metainfo, tmp_path: Path) -> None:
    wanted = params.for_fetch(metainfo, tmp_path, SessionOptions(), have={0})

    assert wanted.have_pieces == [True]
    assert wanted.flags & FLAGS.no_verify_files


@pytest.mark.parametrize(("pex", "dht"), [(True, True), (False, False)])
def test_peer_exchange_and_dht_follow_the_options(metainfo: Metainfo, tmp_path: Path, pex: bool, dht: bool) -> None:
    wanted = params.for_fetch(metainfo, tmp_path, SessionOptions(pex=pex, dht=dht))

    assert bool(wanted.flags & FLAGS.disable_pex) != pex
    assert bool(wanted.flags & FLAGS.disable_dht) != dht


def test_a_peer_id_is_as_long_as_libtorrent_takes_as_a_whole_and_another_one_each_time() -> None:
    one, other = options.new_peer_id(), options.new_peer_id()

    assert len(one) == len(other) == 20
    assert one.startswith(options.CLIENT) and one != other


def test_every_setting_is_one_that_libtorrent_knows() -> None:
    known = lt.default_settings()

    made = options.settings(SessionOptions(), 7000, ID)

    assert set(made) <= set(known)
    assert made["listen_interfaces"] == "0.0.0.0:7000,[::]:7000"


def test_options_become_settings() -> None:
    quiet = options.settings(
        SessionOptions(lsd=False, upload_rate=5, download_rate=-1, connections=7, user_agent="x/1"), 1, ID
    )
    loud = options.settings(SessionOptions(dht=True, upnp=True, utp=True), 1, ID)

    assert (quiet["enable_lsd"], quiet["enable_dht"], quiet["enable_upnp"], quiet["enable_outgoing_utp"]) == (
        False,
    ) * 4
    assert (quiet["upload_rate_limit"], quiet["download_rate_limit"], quiet["connections_limit"]) == (5, 0, 7)
    assert quiet["user_agent"] == "x/1" and quiet["ssrf_mitigation"]
    assert (loud["enable_lsd"], loud["enable_dht"], loud["enable_natpmp"], loud["enable_incoming_utp"]) == (True,) * 4

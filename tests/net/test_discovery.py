"""How nodes of different hosts find each other when LAN announcements and LSD are off: by each other (PEX), and by a DHT."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hali.model.units import MIB
from tests.net.lab import lab
from tests.nodes import random_file, sha256_of

pytestmark = pytest.mark.net

QUIET = {"torrent_lsd": "off", "lan_enabled": "off"}


@pytest.mark.long
def test_two_that_fetch_from_one_learn_of_each_other_by_pex(tmp_path: Path) -> None:
    with lab(tmp_path) as lan:
        a = lan.node("a", max_upload_mbps="12", **QUIET)  # slow, so that nobody is done before PEX has told its first
        b, c = lan.node("b", **QUIET), lan.node("c", **QUIET)
        file = random_file(tmp_path / "Pex-1B-Q8_0.gguf", 80)
        magnet = f"{a.add(file)['magnet']}&x.pe={a.host.address}:{a.status()['torrent_port']}"
        pulls = [threading.Thread(target=node.hali, args=("pull", magnet), kwargs={"timeout": 300}) for node in (b, c)]
        for pull in pulls:
            pull.start()
        for pull in pulls:
            pull.join()
        assert b.state_of(sha256_of(file)) == c.state_of(sha256_of(file)) == "seeding"
        # Requests are a thousandth of the data; more than a piece went from one to the other.
        assert max(b.host.traffic().sent, c.host.traffic().sent) > 16 * MIB


def test_a_model_is_found_in_a_private_dht_by_its_infohash_alone(tmp_path: Path) -> None:
    with lab(tmp_path) as lan:
        router = lan.node("router", torrent_dht="on", torrent_dht_bootstrap="", **QUIET)
        where = f"{router.host.address}:{router.start()['torrent_port']}"
        on = {"torrent_dht": "on", "torrent_dht_bootstrap": where, **QUIET}
        a, b = lan.node("a", **on), lan.node("b", **on)
        added = a.add(random_file(tmp_path / "Dht-1B-Q8_0.gguf", 3))
        assert b.pull(added["infohash_v1"])["sha256"] == added["sha256"]

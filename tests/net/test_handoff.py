"""Other clients seed hali's own file: handed over to the real ones, checked against what a stranger then fetches from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.net import clients
from tests.net.clients import BareLibtorrent, QBittorrent, Transmission
from tests.net.lab import lab
from tests.nodes import random_file, sha256_of, until

pytestmark = pytest.mark.net

PASSWORD = "a secret of the test"
CLIENTS = {"qbittorrent": QBittorrent, "transmission": Transmission}


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_client_seeds_what_it_was_handed_without_a_copy(kind: str, tmp_path: Path) -> None:
    with lab(tmp_path) as lan:
        a = lan.node("a")
        file = random_file(tmp_path / "Handed-1B-Q8_0.gguf", 20)
        added = a.add(file)
        with clients.client(kind, a.host, tmp_path / "home") as theirs:
            assert isinstance(theirs, QBittorrent | Transmission)
            handed = a.ok("handoff", kind, added["sha256"])
            assert (handed["client"], handed["sha256"]) == (kind, added["sha256"])
            until(theirs.is_complete, f"{kind} seeds")
            assert a.ok("handoff", kind, added["sha256"])["infohash"] == handed["infohash"], "once more is fine"
            assert len(theirs.torrents()) == 1
            before = sorted(Path(added["path"]).parent.iterdir())
            magnet = added["magnet"] if clients.reads_hybrid(kind) else f"magnet:?xt=urn:btih:{handed['infohash']}"
            a.stop()
            stranger = BareLibtorrent(lan.host("stranger"), tmp_path / "stranger")
            try:
                stranger.add(magnet, tmp_path / "out")
                until(stranger.is_complete, "the stranger has it")
            finally:
                stranger.stop()
        assert sha256_of(tmp_path / "out" / file.name) == added["sha256"]
        assert sorted(Path(added["path"]).parent.iterdir()) == before


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_client_that_does_not_run_is_one_line(kind: str, tmp_path: Path) -> None:
    with lab(tmp_path) as lan:
        a = lan.node("a")
        added = a.add(random_file(tmp_path / "None-1B-Q8_0.gguf", 1))
        assert "no client answers at http://127.0.0.1:" in a.fails("handoff", kind, added["sha256"], code=4)


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_wrong_password_is_refused_and_none_is_ever_shown(kind: str, tmp_path: Path) -> None:
    with lab(tmp_path) as lan:
        a = lan.node("a", **{f"handoff_{kind}_user": "me", f"handoff_{kind}_password": PASSWORD})
        added = a.add(random_file(tmp_path / "Secret-1B-Q8_0.gguf", 1))
        with clients.client(kind, a.host, tmp_path / "strict", account=("me", "another one")):
            line = a.fails("handoff", kind, added["sha256"], code=7)
        with clients.client(kind, a.host, tmp_path / "right", account=("me", PASSWORD)):
            done = a.hali("handoff", kind, added["sha256"])
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in line + done.stdout + done.stderr + a.log()

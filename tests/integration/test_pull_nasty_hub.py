"""`hali pull` on a real daemon from a hub that misbehaves: the right file, or one line, the right exit code, and nothing half-done."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from hali.config.paths import Paths
from hali.model.units import PIECE, piece_span
from hali.transfer.http_guard import Reach, reach
from tests.fakes.canary import Canary
from tests.fakes.hf_server import FakeHub
from tests.fakes.hf_state import Faults
from tests.nodes import MIB, TestNode, node, random_file, sha256_of, until

NAME = "Nasty-1B-Q8_0.gguf"
SIZE = 36  # MiB: three pieces


class Ground:
    """One daemon and one hub for all cases; each has a repository and a file of its own."""

    def __init__(self, hub: FakeHub, daemon: TestNode, folder: Path) -> None:
        self.hub, self.node, self._folder = hub, daemon, folder
        self._count = 0

    def publish(self, **options: Any) -> tuple[str, Path]:
        """A new repository with one file; its name and the file."""
        self._count += 1
        repo = f"owner/Case{self._count}-GGUF"
        file = random_file(self._folder / str(self._count) / NAME, SIZE, seed=self._count)
        self.hub.add(repo, {NAME: file}, **options)
        return repo, file

    def assert_pulls(self, repo: str, file: Path) -> dict[str, Any]:
        pulled = self.node.pull(repo)
        assert (pulled["sha256"], pulled["state"]) == (sha256_of(file), "seeding")
        assert sha256_of(Path(pulled["path"])) == pulled["sha256"]
        return pulled

    def assert_fails(self, repo: str, code: int) -> str:
        """The pull ends so, in one line; the store has whole models only."""
        before = self.models()
        line = self.node.fails("pull", repo, code=code, told_before=True)
        assert self.models() == before and self.node.status()["jobs"] == []
        return line

    def models(self) -> set[str]:
        """Everything below models/ but what is on its way in; each must be whole."""
        known = {model["path"] for model in self.node.call("models")["models"]}
        files = {str(path) for path in self.root.glob("[!.]*/**/*") if path.is_file() and path.suffix != ".json"}
        assert files == known
        return files

    @property
    def root(self) -> Path:
        return Paths(self.node.paths.home).models()

    @property
    def incoming(self) -> list[Path]:
        return list((self.root / ".incoming").iterdir()) if (self.root / ".incoming").exists() else []


@contextmanager
def new_ground(folder: Path, **settings: str) -> Iterator[Ground]:
    """A hub, and a daemon that knows no token but one in `HF_TOKEN`."""
    with FakeHub() as hub, node(folder / "home", lan_enabled="off", hf_endpoint=hub.url, **settings) as daemon:
        daemon.env["HF_HOME"] = str(folder / "hf")
        daemon.start()
        yield Ground(hub, daemon, folder)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with new_ground(tmp_path_factory.mktemp("nasty")) as ground:
        yield ground


@pytest.fixture
def ground(shared: Ground) -> Iterator[Ground]:
    """The shared one, honest and with nothing on record."""
    shared.hub.faults = Faults()
    shared.hub.requests.clear()
    shared.hub.cdn_requests = 0
    yield shared
    shared.hub.hang_up()


PASSING: dict[str, dict[str, Any]] = {
    "cut every megabyte": {"cut_every": MIB},
    "busy, in seconds": {"busy": 3, "retry_after": "0"},
    "busy, until a date": {"busy": 2, "busy_status": 503, "retry_after": "Thu, 01 Jan 2026 12:00:30 GMT"},
    "addresses that expire": {"token_uses": 3},
    "answers that end early": {"end_early": 700_000},
    "ranges are forgotten on the way": {"no_ranges_after": 2},
    "no ranges at all": {"no_ranges": True, "cut_every": 20 * MIB, "cut_times": 2},
    "a false Content-Length": {"length_lie": 100},
    "a busy API": {"api_busy": 1, "retry_after": "0"},
}


@pytest.mark.parametrize("trouble", PASSING)
def test_trouble_that_passes_ends_with_the_right_file(ground: Ground, trouble: str) -> None:
    repo, file = ground.publish()
    vars(ground.hub.faults).update(PASSING[trouble])
    ground.assert_pulls(repo, file)
    assert ground.incoming == []


LIES: dict[str, tuple[dict[str, Any], int, str]] = {
    "the API tells another size": ({"api_lie": 5}, 1, "size"),
    "the CDN tells another size": ({"total_lie": 5}, 1, "size"),
    "more bytes than asked for": ({"too_long": 9}, 1, "more bytes than asked for"),
    "another range than asked for": ({"shifted_range": True}, 1, "not the range asked for"),
    "compressed": ({"gzipped": True}, 1, "not the range asked for"),
    "a login page": ({"page_after": 0}, 1, "web page"),
    "a redirect to cloud metadata": ({"redirect_to": "http://169.254.169.254/latest"}, 7, "inside this network"),
    "a redirect to a file": ({"redirect_to": "file:///etc/passwd"}, 7, "not an http or https URL"),
    "a redirect to ssh": ({"redirect_to": "http://127.0.0.1:22/"}, 7, "port 22"),
    "a circle of redirects": ({"redirect_to": "/owner/x"}, 3, "no such file"),
    "a refusal": ({"refuse": 403, "no_redirect": True}, 7, "refuses access"),
    "gone": ({"refuse": 404, "no_redirect": True}, 3, "no such file"),
    "nonsense from the API": ({"api_body": b"<html>"}, 1, "not JSON"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_ends_in_one_line_and_the_store_is_as_before(ground: Ground, lie: str) -> None:
    faults, code, says = LIES[lie]
    repo, file = ground.publish()
    vars(ground.hub.faults).update(faults)
    assert says in ground.assert_fails(repo, code)
    ground.hub.faults = Faults()
    ground.assert_pulls(repo, file)  # and the next one, when the hub is honest again, finds nothing in its way


def test_a_flipped_byte_is_found_thrown_away_and_fetched_right_the_next_time(ground: Ground) -> None:
    repo, file = ground.publish()
    ground.hub.faults.flip_at = PIECE + 77
    line = ground.assert_fails(repo, 5)
    assert "SHA-256" in line and ground.incoming == []
    ground.hub.faults.flip_at = None
    ground.assert_pulls(repo, file)


@pytest.mark.parametrize(("fault", "says"), [({"etag_after": 2}, "ETag"), ({"page_after": 2}, "web page")])
def test_a_change_midway_keeps_the_verified_pieces_for_the_next_time(
    fault: dict[str, int], says: str, tmp_path: Path
) -> None:
    with new_ground(tmp_path, hf_connections="1") as ground:
        repo, file = ground.publish()
        vars(ground.hub.faults).update(fault)
        assert says in ground.assert_fails(repo, 1)
        kept = ground.node.on_record()
        assert kept and len(kept) < 3
        ground.hub.faults = Faults()
        ground.hub.requests.clear()
        ground.assert_pulls(repo, file)
        size = file.stat().st_size
        assert ground.hub.bytes_sent <= size + 1 - sum(piece_span(index, size)[1] for index in kept)


def test_a_token_opens_a_gated_repository_and_is_seen_by_nobody_else(tmp_path: Path) -> None:
    with new_ground(tmp_path) as ground:
        repo, file = ground.publish(gated=True)
        assert "HF_TOKEN" in ground.assert_fails(repo, 7)
        ground.node.env["HF_TOKEN"] = FakeHub.STRANGER
        ground.node.restart()
        assert FakeHub.STRANGER not in ground.assert_fails(repo, 7)
        ground.node.env["HF_TOKEN"] = FakeHub.TOKEN
        ground.node.restart()
        ground.assert_pulls(repo, file)
        assert {r.authorization for r in ground.hub.requests if r.server == "cdn"} == {None}
        written = [path for path in ground.node.paths.home.rglob("*") if path.is_file() and path.suffix != ".gguf"]
        for token in (FakeHub.TOKEN, FakeHub.STRANGER):
            assert [path for path in written if token.encode() in path.read_bytes()] == []


def test_a_magnet_makes_the_daemon_connect_to_nothing_on_this_machine(tmp_path: Path) -> None:
    with ExitStack() as stack:
        canary, allowed = stack.enter_context(Canary()), stack.enter_context(Canary(lan_address()))
        ground = stack.enter_context(new_ground(tmp_path, torrent_loopback_peers="off"))
        here = f"127.0.0.1:{canary.port}"
        names = ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]")
        seeds = [f"{scheme}://{name}:{canary.port}/x.gguf" for scheme in ("https", "http") for name in names]
        peers = [here, f"[::ffff:127.0.0.1]:{canary.port}", f"{lan_address()}:{allowed.port}"]
        parts = [
            f"xt=urn:btih:{'5a' * 20}",
            "dn=../../x",
            *(f"ws={url}" for url in seeds),
            *(f"x.pe={p}" for p in peers),
        ]
        what = "magnet:?" + "&".join(parts)
        pulling = ground.node.start_hali("pull", what, "--json")
        until(lambda: allowed.touched, "the peer that may be asked was asked")  # all peers are, at the same moment
        assert not canary.touched
        ground.node.call("cancel", what=what)
        pulling.communicate(timeout=30)
        assert [path for path in tmp_path.rglob("x") if path.is_file()] == []


def test_web_seeds_of_a_torrent_make_the_daemon_connect_to_nothing_on_this_machine(tmp_path: Path) -> None:
    info = b"d6:lengthi5e4:name6:x.gguf12:piece lengthi16384e6:pieces20:" + b"q" * 20 + b"e"
    with new_ground(tmp_path) as ground, Canary() as canary:
        names = ("https://127.0.0.1", "https://localhost", "https://[::ffff:127.0.0.1]", "http://127.0.0.1")
        urls = [f"{name}:{canary.port}/x.gguf" for name in names]
        listed = b"".join(b"%d:%b" % (len(url), url.encode()) for url in urls)
        (tmp_path / "x.torrent").write_bytes(b"d4:info" + info + b"8:url-listl" + listed + b"ee")
        what = str(tmp_path / "x.torrent")
        pulling = ground.node.start_hali("pull", what, "--json")

        def refused() -> list[str]:
            return [e["error"] for e in ground.node.events("pull.source_failed") if e["source"] == "webseed"]

        until(lambda: len(refused()) == len(urls), "all web seeds were looked at")
        assert sorted("https only" in error or "inside this network" in error for error in refused()) == [True] * 4
        assert not canary.touched
        ground.node.call("cancel", what=what)
        pulling.communicate(timeout=30)


def lan_address() -> str:
    """An address of this machine that is not loopback."""
    found = [a.address for addresses in psutil.net_if_addrs().values() for a in addresses if a.family == socket.AF_INET]
    for address in found:
        if reach(address) in (Reach.PRIVATE, Reach.PUBLIC):
            return address
    pytest.skip("NOT TESTED: peers of magnets, because this machine has no address but loopback")


def test_names_that_no_file_may_have_are_refused_before_anything_is_asked(ground: Ground) -> None:
    for name in ("../../x.gguf", "a/../../x.gguf", "nul.gguf", "x\x1b[2J.gguf", "x\u202e.gguf", "x.gguf."):
        line = ground.node.fails("pull", f"owner/repo/{name}", code=2, told_before=True)
        assert line.isprintable()
    assert ground.hub.requests == []


def test_errors_as_json_name_their_code(ground: Ground) -> None:
    repo, _ = ground.publish()
    ground.hub.faults.page_after = 0
    done = ground.node.hali("pull", repo, "--json")
    error = json.loads(done.stdout.splitlines()[-1])["error"]
    assert (done.returncode, error["code"], error["retryable"]) == (1, "transfer", False)

"""With real daemons: after `kill -9` the work goes on by itself; nothing finished is fetched or hashed again."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from hali.hashing import hash_file
from hali.model.units import PIECE, piece_count
from hali.runtime.processes import boot_id
from hali.share.incoming import JOURNAL
from hali.store import journal
from hali.transfer import magnet, metainfo
from tests.fakes import plain_client
from tests.fakes.hf_server import FakeHub
from tests.fakes.torrents import torrent_of
from tests.nodes import MIB, TestNode, flip, node, random_file, sha256_of, until

NAME = "Long-7B-Q4_0.gguf"
PIECES = 6
IN_FLIGHT = 3  # pieces begun at a time: what a kill may cost at most
RATE = 50_000_000  # bytes a second: slow enough to be killed in the middle


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_file(tmp_path_factory.mktemp("files") / NAME, 16 * PIECES - 3.3)


def begin(each: TestNode, what: str, *, heard: str | None = None) -> None:
    """`hali pull` that nobody waits for: the job is the daemon's. Of the model `heard` the daemon knows before."""
    each.start()
    if heard is not None:
        each.hears(heard)
    with each.client() as client:
        for kind, event in client.stream("pull", what=what):
            if kind == "event" and event["state"] == "downloading":
                return


def pieces_at_kill(each: TestNode, goal: int, kind: bytes = journal._PIECE) -> set[int]:
    """Kill the daemon when `goal` pieces are on record; the pieces that are."""
    pid = each.pid()
    until(lambda: len(each.on_record(kind)) >= goal, f"{goal} pieces are on record")
    os.kill(pid, signal.SIGKILL)
    each.ended()
    known = each.on_record(kind)
    assert each.incoming().joinpath(JOURNAL).exists(), "too late to be in the middle"
    return known


def goes_on(each: TestNode) -> dict[str, Any]:
    """Wait until the daemon, which nobody asks for anything, has ended its work; its only model."""
    each.idle()
    (found,) = each.call("models")["models"]
    return dict(found)


def assert_whole(found: dict[str, Any], file: Path) -> None:
    assert (found["state"], found["sha256"]) == ("seeding", sha256_of(file))
    assert os.path.samefile(found["path"], file) or sha256_of(Path(found["path"])) == found["sha256"]


@pytest.mark.parametrize("streaming", ["on", "off"])
def test_a_torrent_pull_killed_again_and_again_fetches_and_hashes_no_finished_piece_twice(
    streaming: str, file: Path, tmp_path: Path
) -> None:
    torrent = metainfo.parse(metainfo.build(hash_file(file), NAME))
    goals = sorted(random.Random(f"points {streaming}").sample(range(1, PIECES - 1), 2))  # not the last: too late
    kind = journal._PIECE if streaming == "on" else journal._TORRENT
    with (
        node(tmp_path / "b", streaming_hash=streaming) as b,
        plain_client.seeder(torrent.raw, file.parent, rate=RATE) as theirs,
    ):
        peers = [("127.0.0.1", int(theirs.peer.rpartition(":")[2]))]
        begin(b, magnet.build(torrent.infohashes, NAME, peers=peers))
        blocks = 0
        for goal in goals:
            known = pieces_at_kill(b, goal, kind)
            until(theirs.is_alone, "the seeder has seen the end")
            blocks += len(theirs.served())
            theirs.leave()  # the pull must not be over before it is looked at
            b.start()
            assert b.status()["jobs"], "the job goes on by itself"
            until(lambda before=known: b.on_record(kind) >= before, "the journal has what it had")
            theirs.come_back()
        if streaming == "off":
            theirs.limit(0)
        found = goes_on(b)
        served = theirs.served()
        assert not {piece for piece, _ in served} & known, f"of the finished pieces {known} nothing is fetched again"
        assert blocks + len(served) <= (PIECES + IN_FLIGHT * len(goals)) * PIECE // (16 * 1024)
        assert_whole(found, file)
        length = file.stat().st_size
        assert found["sources"] == {"torrent": length}  # of all lives together
        hashed = b.events("incoming.hashed")[-1]["hashed"]
        opened = b.events("incoming.opened")
        assert len(opened) == len(goals) + 1
        if streaming == "on":
            assert [event["known"] for event in opened][-1] == len(known)
            assert hashed == PIECES - len(known)
        else:
            assert hashed == PIECES  # all at once at the end, as asked for


def test_a_pull_from_another_hali_node_goes_on_after_the_kill_of_the_one_and_of_the_other(
    file: Path, tmp_path: Path
) -> None:
    with node(tmp_path / "a", max_upload_mbps=str(RATE // 2 * 8 // 1_000_000)) as a, node(tmp_path / "b") as b:
        added = a.add(file)
        begin(b, "long", heard=added["model_id"])
        known = pieces_at_kill(b, 2)
        b.start()
        until(lambda: len(b.on_record()) > len(known), "the pull goes on by itself")
        a.kill()  # the seeder dies too; it comes back at its old port
        a.set(max_upload_mbps="0")
        a.start()
        found = goes_on(b)
        assert_whole(found, file)
        assert found["magnet"] == added["magnet"]
        assert found["sources"] == {"lan": file.stat().st_size}


def test_a_foreign_torrent_goes_on_with_its_own_small_pieces(file: Path, tmp_path: Path) -> None:
    raw = torrent_of(file, 256 * 1024, plain_client.lt.create_torrent.v1_only)
    torrent = metainfo.parse(raw)
    with node(tmp_path / "b") as b, plain_client.seeder(raw, file.parent, rate=RATE) as theirs:
        peers = [("127.0.0.1", int(theirs.peer.rpartition(":")[2]))]
        begin(b, magnet.build(torrent.infohashes, NAME, peers=peers))
        until(b.on_record, "a whole piece of 16 MiB came together")
        known = pieces_at_kill(b, 3 * 64 + 10, journal._TORRENT)
        until(theirs.is_alone, "the seeder has seen the end")
        theirs.served()
        b.start()
        assert_whole(goes_on(b), file)
        assert not {piece for piece, _ in theirs.served()} & known


def test_after_a_power_cut_what_the_disk_lost_is_fetched_again(file: Path, tmp_path: Path) -> None:
    """Nobody promised a SHA-256 for a foreign torrent: were a lost page believed, wrong bytes would count as the model."""
    raw = torrent_of(file, 256 * 1024, plain_client.lt.create_torrent.v1_only)
    torrent = metainfo.parse(raw)
    with node(tmp_path / "b", lan_enabled="off") as b, plain_client.seeder(raw, file.parent, rate=RATE) as theirs:
        peers = [("127.0.0.1", int(theirs.peer.rpartition(":")[2]))]
        begin(b, magnet.build(torrent.infohashes, NAME, peers=peers))
        until(lambda: len(b.on_record()) >= 2, "two pieces of 16 MiB came together")
        known = pieces_at_kill(b, 2 * 64 + 10, journal._TORRENT)
        lost = min(b.on_record())
        path = b.incoming() / JOURNAL
        path.write_bytes(path.read_bytes().replace(boot_id().encode(), b"0" * len(boot_id())))
        for small in known:  # pages that never got to the disk: of one whole piece, and of what is not whole yet
            if small // 64 == lost or small // 64 not in b.on_record():
                with (b.incoming() / NAME).open("r+b") as unfinished:
                    unfinished.seek(small * 256 * 1024)
                    unfinished.write(bytes(1000))
        # Nothing comes meanwhile. A limit would not do: libtorrent saves what it allowed and was not used, megabytes where all is slow.
        theirs.leave()
        b.start()
        until(lambda: len(b.events("incoming.opened")) == 2, "what is on record was read again")
        assert b.events("incoming.opened")[-1]["rechecked"] >= 2
        b.kill()  # what was lost must not come back by this one's word
        assert not {small for small in b.on_record(journal._TORRENT) & known if small // 64 == lost}
        theirs.come_back()
        b.start()
        assert_whole(goes_on(b), file)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_pull_from_the_hub_asks_for_no_finished_piece_again(end: str, file: Path, tmp_path: Path) -> None:
    with FakeHub() as hub, node(tmp_path / "b", lan_enabled="off", hf_endpoint=hub.url, hf_connections="2") as b:
        hub.add("owner/Long-7B-GGUF", {NAME: file})
        hub.faults.rate = RATE // 2
        begin(b, "owner/Long-7B-GGUF")
        if end == "kill":
            known = pieces_at_kill(b, 2)
        else:
            until(lambda: len(b.on_record()) >= 2, "two pieces are on record")
            b.stop()
            known = b.on_record()
        asked = len(hub.ranges())
        b.start()
        found = goes_on(b)
        spans = [tuple(map(int, text.removeprefix("bytes=").split("-"))) for text in hub.ranges()[asked:]]
        again = {piece for first, last in spans for piece in range(first // PIECE, last // PIECE + 1)}
        assert again == set(range(PIECES)) - known
        # Two connections were cut in a piece each.
        assert hub.bytes_sent <= file.stat().st_size + 2 * PIECE + len(hub.requests)
        assert_whole(found, file)
        assert (found["hf_repo"], found["hf_revision"]) == ("owner/Long-7B-GGUF", hub.repos["owner/Long-7B-GGUF"].sha)
        assert b.events("incoming.hashed")[-1]["hashed"] == PIECES - len(known)
        requests = len(hub.requests)
        for what in (f"owner/Long-7B-GGUF/{NAME}", "owner/Long-7B-GGUF:Q4_0"):
            assert b.pull(what)["from_store"] is True
        assert len(hub.requests) == requests


def test_bytes_that_changed_in_an_unfinished_file_never_reach_the_store(file: Path, tmp_path: Path) -> None:
    """A journal is believed after kill -9; the SHA-256 of the whole is checked all the same before the file counts."""
    with (
        FakeHub() as hub,
        node(tmp_path / "b", lan_enabled="off", hf_endpoint=hub.url, hf_connections="2", streaming_hash="off") as b,
    ):
        hub.add("owner/Long-7B-GGUF", {NAME: file})
        hub.faults.rate = RATE // 2
        begin(b, "owner/Long-7B-GGUF")
        known = pieces_at_kill(b, 2, journal._TORRENT)
        flip(b.incoming() / NAME, min(known) * PIECE + 100)
        hub.faults.rate = None
        b.start()
        b.idle()
        assert b.call("models")["models"] == []
        assert "SHA-256" in b.events("job.failed")[-1]["error"]
        assert not list((b.paths.models() / ".incoming").iterdir())
        assert_whole(b.pull("owner/Long-7B-GGUF"), file)


def test_an_import_killed_while_hashing_goes_on_with_the_next_piece(tmp_path: Path) -> None:
    source = tmp_path / "Huge-70B-Q8_0.gguf"
    pieces = 80
    with source.open("wb") as out:  # mostly holes: it costs hashing, not the disk
        for index in range(pieces):
            out.seek(index * PIECE)
            out.write(index.to_bytes(4, "big"))
        out.truncate((pieces - 1) * PIECE + 5 * MIB)
    before = source.stat()
    with node(tmp_path / "a") as a:
        a.start()
        adding = a.start_hali("add", str(source), "--json")
        known = pieces_at_kill(a, 16)
        out_text, _ = adding.communicate(timeout=60)
        assert adding.returncode == 4, "the daemon went away"
        assert "daemon" in json.loads(out_text.splitlines()[-1])["error"]["message"]
        assert 0 < len(known) < pieces
        a.start()
        found = goes_on(a)
        assert_whole(found, source)
        _, opened = a.events("incoming.opened")
        assert opened["known"] == len(known)
        # The file's one SHA-256 runs behind the pieces' hashes: the few pieces between are read again for it alone. No
        # more than there are buffers: three for each of at most four threads, and one.
        assert [e["hashed"] for e in a.events("incoming.hashed")] == [pieces - opened["prefix"]]
        assert len(known) - opened["prefix"] <= 3 * min(4, os.cpu_count() or 1) + 1
        after = source.stat()
        assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
        assert piece_count(after.st_size) == pieces
        assert a.add(source)["from_store"] is True


def test_a_source_that_changed_between_kill_and_restart_is_hashed_anew(tmp_path: Path) -> None:
    source = tmp_path / "Huge-70B-Q8_0.gguf"
    with source.open("wb") as out:
        out.truncate(40 * PIECE)
    with node(tmp_path / "a") as a:
        a.start()
        adding = a.start_hali("add", str(source), "--json")
        pieces_at_kill(a, 1)
        adding.communicate(timeout=60)
        with source.open("r+b") as out:
            out.write(b"changed")
        a.start()
        assert_whole(goes_on(a), source)
        assert [event["known"] for event in a.events("incoming.opened")] == [0, 0]


def test_without_streaming_a_pull_passes_through_hashing(file: Path, tmp_path: Path) -> None:
    with FakeHub() as hub, node(tmp_path / "b", lan_enabled="off", hf_endpoint=hub.url, streaming_hash="off") as b:
        hub.add("owner/Long-7B-GGUF", {NAME: file})
        lines = [json.loads(line) for line in b.hali("pull", "owner/Long-7B-GGUF", "--json").stdout.splitlines()]
        assert_whole(lines[-1], file)
        states = list(dict.fromkeys(line["state"] for line in lines[:-1]))
        assert [state for state in states if state in ("downloading", "hashing")] == ["downloading", "hashing"]
        assert [e["hashed"] for e in b.events("incoming.hashed")] == [PIECES]

"""Pause, schedule, queue and live settings with real daemons."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hali.model.errors import HaliError
from hali.model.units import MIB
from hali.transfer.metainfo import parse
from tests.fakes import plain_client
from tests.fakes.hf_server import FakeHub
from tests.fakes.torrents import magnet_of, torrent_of
from tests.nodes import TestNode, flip, node, pair, random_file, sha256_of, until

SLOW = 200_000  # bytes per second and connection: half a minute for 6 MiB; every test lifts it at its end
NAMES = ("One-1B-Q8_0.gguf", "Two-1B-Q8_0.gguf", "Three-1B-Q8_0.gguf", "Four-1B-Q8_0.gguf")


@contextmanager
def from_the_hub(folder: Path, mib: float = 6, names: tuple[str, ...] = NAMES[:1], **settings: str) -> Iterator[Any]:
    """A hub with one repository a name (`o/One`) that sends slowly, and a running node that only knows this hub."""
    with (
        FakeHub() as hub,
        node(folder / "a", lan_enabled="off", hf_endpoint=hub.url, hf_connections="1", **settings) as a,
    ):
        for seed, name in enumerate(names):
            hub.add(f"o/{name.partition('-')[0]}", {name: random_file(folder / name, mib, seed=seed)})
        hub.faults.rate = SLOW
        a.start()
        yield hub, a


def submit(each: TestNode, what: str, **params: Any) -> str:
    """Ask for a pull and go away; the id of its job."""
    with each.client() as client:
        next(client.stream("pull", what=what, **params))
    (job,) = (job for job in each.call("queue")["jobs"] if job["what"] == what)
    return str(job["id"])


def job_of(each: TestNode, what: str) -> dict[str, Any]:
    (job,) = (job for job in each.call("queue")["jobs"] if job["what"] == what)
    return dict(job)


def state_of(each: TestNode, what: str) -> str:
    return str(job_of(each, what)["state"])


def downloading(each: TestNode, hub: FakeHub, least: int = 200_000) -> None:
    until(lambda: hub.bytes_sent >= least, "bytes of a pull came")


def waiting(each: TestNode) -> list[str]:
    """WHAT of the jobs that wait for a place, in the order in which they will begin."""
    return [job["what"] for job in each.call("queue")["jobs"] if job["position"] is not None]


# ---- progress


def test_progress_counts_the_bytes_at_hand_of_pieces_that_are_not_whole_yet(tmp_path: Path) -> None:
    """The file is one piece: counted by whole pieces, half a minute would pass at 0 %."""
    with from_the_hub(tmp_path) as (hub, a):
        submit(a, "o/One")
        pulling = a.start_hali("pull", "o/One", "--json")
        until(lambda: 0 < job_of(a, "o/One")["done"] < 6 * MIB, "a part of the piece is counted")
        hub.faults.rate = None
        out, _ = pulling.communicate(timeout=60)
        done = [event["done"] for line in out.splitlines() if (event := json.loads(line))["event"] == "progress"]
        assert done == sorted(done)
        assert done[-1] == 6 * MIB


# ---- the quota


def test_pulls_at_one_time_do_not_count_on_the_same_room(tmp_path: Path) -> None:
    with from_the_hub(tmp_path, names=NAMES[:2], storage_quota_gb="0.01") as (hub, a):  # one of 6.3 MB has room
        first = submit(a, "o/One")
        downloading(a, hub)
        assert "of the quota of 10.0 MB are left" in a.fails("pull", "o/Two", code=6)
        a.call("drop", job=first)
        hub.faults.rate = None
        assert a.ok("pull", "o/Two")["state"] == "seeding"


def test_a_magnet_is_held_to_the_quota_as_soon_as_its_size_is_known(tmp_path: Path) -> None:
    file = random_file(tmp_path / "theirs" / NAMES[0], 12)
    torrent = parse(torrent_of(file, MIB))
    with (
        node(tmp_path / "a", lan_enabled="off", storage_quota_gb="0.01") as a,
        plain_client.seeder(torrent.raw, file.parent) as theirs,
    ):
        a.start()
        told = a.fails("pull", magnet_of(torrent, theirs.peer), code=6, told_before=True)
        assert told.startswith(f"hali: {file.name} needs 12.6 MB, 10.0 MB of the quota of 10.0 MB are left")
        assert not theirs.served()


@pytest.mark.parametrize("by", ["name", "magnet", "torrent"])
def test_a_damaged_model_that_comes_again_takes_no_more_room_than_it_has(by: str, tmp_path: Path) -> None:
    with pair(tmp_path, storage_quota_gb="0.01") as (a, b):
        added = a.add(random_file(tmp_path / NAMES[0], 6))
        path = Path(b.pull(added["sha256"])["path"])
        flip(path, 1000)
        b.fails("verify", added["model_id"], code=5)
        b.hears(added["model_id"])
        torrent = a.paths.torrents / f"{added['infohash_v1']}.torrent"
        what = {"name": added["model_id"], "magnet": added["magnet"], "torrent": str(torrent)}[by]
        assert b.ok("pull", what)["state"] == "seeding"
        assert sha256_of(path) == added["sha256"]


# ---- the end of one of several


def test_ctrl_c_ends_its_own_pull_and_no_other_of_the_same_repository(tmp_path: Path) -> None:
    with from_the_hub(tmp_path, names=()) as (hub, a):
        files = {
            f"One-1B-{quant}.gguf": random_file(tmp_path / quant, 6, seed=n) for n, quant in enumerate(("Q4_0", "Q8_0"))
        }
        hub.add("o/One", files)
        mine, other = (a.start_hali("pull", "o/One", "--quant", quant, "--json") for quant in ("Q4_0", "Q8_0"))
        until(lambda: sorted(job["done"] > 0 for job in a.status()["jobs"]) == [True, True], "both are under way")
        mine.send_signal(signal.SIGINT)
        mine.communicate(timeout=60)
        assert mine.returncode == 130
        (left,) = a.status()["jobs"]
        assert left["state"] == "downloading"
        hub.faults.rate = None
        out, _ = other.communicate(timeout=60)
        assert json.loads(out.splitlines()[-1])["sha256"] == sha256_of(tmp_path / "Q8_0")


# ---- pause


def test_a_pause_stops_a_pull_from_the_hub_survives_kill_9_and_its_end_lets_the_pull_end(tmp_path: Path) -> None:
    with from_the_hub(tmp_path) as (hub, a):
        submit(a, "o/One")
        downloading(a, hub)
        found = a.ok("pause")
        assert (found["paused"], found["paused_until"], found["paused_by"]) == (True, None, "user")
        until(lambda: hub.cdn_connections == 0, "the connections are closed")
        sent = hub.bytes_sent
        assert state_of(a, "o/One") == "paused"
        assert "Transfers are paused." in a.hali("daemon", "status").stdout
        assert "Transfers are paused." in a.hali("stats", "--once").stdout
        a.kill()
        a.start()
        assert a.status()["paused"]
        until(lambda: state_of(a, "o/One") == "paused", "the pull of the earlier life waits")
        assert hub.bytes_sent == sent
        assert hub.cdn_connections == 0
        hub.faults.rate = None
        assert a.ok("resume")["paused"] is False
        a.idle()
        assert a.state_of(sha256_of(tmp_path / NAMES[0])) == "seeding"


def test_a_pull_that_is_asked_for_in_a_pause_says_so_and_begins_at_its_end(tmp_path: Path) -> None:
    with from_the_hub(tmp_path) as (hub, a):
        hub.faults.rate = None
        a.ok("pause")
        pulling = a.start_hali("pull", "o/One", "--json")
        until(lambda: [job["state"] for job in a.call("queue")["jobs"]] == ["paused"], "the pull waits for the end")
        assert hub.bytes_sent == 0
        a.ok("resume")
        out, _ = pulling.communicate(timeout=60)
        events = [json.loads(line) for line in out.splitlines()]
        assert "paused" in [event["state"] for event in events]
        result = events[-1]
        assert (result["ok"], result["sha256"]) == (True, sha256_of(tmp_path / NAMES[0]))
        a.ok("pause")
        assert a.ok("pull", "o/One")["from_store"] is True  # what is here needs no transfer


def test_a_paused_node_serves_nothing_and_offers_nothing_on_the_lan(tmp_path: Path) -> None:
    with pair(tmp_path) as (a, b):
        file = random_file(tmp_path / NAMES[0], 3)
        model = a.add(file)["model_id"]
        magnet = a.call("info", model=model)["magnet"]
        b.hears(model)
        a.ok("pause")
        until(lambda: not b.status()["lan"], "the neighbour hears that there is nothing to fetch")
        port = a.status()["torrent_port"]
        submit(b, f"{magnet}&x.pe=127.0.0.1:{port}")
        time.sleep(1.0)  # nothing to wait for: that nothing comes is the claim
        assert a.call("stats")["up_total"] == 0
        a.ok("resume")
        b.hears(model)
        b.idle()
        assert b.state_of(sha256_of(file)) == "seeding"


def test_a_timed_pause_ends_by_itself(tmp_path: Path) -> None:
    with from_the_hub(tmp_path) as (hub, a):
        hub.faults.rate = None
        a.ok("pause")  # so that the pull is asked for in it, however long that takes
        submit(a, "o/One")
        found = a.ok("pause", "2s")
        assert found["paused_until"] is not None
        a.idle()
        assert a.state_of(sha256_of(tmp_path / NAMES[0])) == "seeding"
        assert a.status()["paused"] is False
        assert len(a.events("transfers.allowed")) == 3  # both pauses, and the end


def test_the_schedule_pauses_from_the_start_and_a_person_may_overrule_it(tmp_path: Path) -> None:
    with from_the_hub(tmp_path, schedule="daily 00:00-24:00 pause") as (hub, a):
        hub.faults.rate = None
        status = a.ok("daemon", "status")
        assert (status["paused"], status["paused_by"]) == (True, "schedule")
        submit(a, "o/One")
        assert state_of(a, "o/One") in ("resolving", "paused")
        assert not hub.requests
        a.ok("resume")
        a.idle()
        assert a.state_of(sha256_of(tmp_path / NAMES[0])) == "seeding"


# ---- the queue


def test_more_pulls_than_places_wait_by_priority_then_arrival_also_after_kill_9(tmp_path: Path) -> None:
    with from_the_hub(tmp_path, names=NAMES, pull_concurrency="1") as (hub, a):
        submit(a, "o/One")
        downloading(a, hub)
        submit(a, "o/Two", priority="low")
        submit(a, "o/Three")
        submit(a, "o/Four", priority="high")
        until(lambda: len(waiting(a)) == 3, "three wait")
        assert waiting(a) == ["o/Four", "o/Three", "o/Two"]
        assert state_of(a, "o/Two") == "queued"
        moved = a.ok("queue", "move", "o/Two", "high")
        assert (moved["priority"], moved["position"]) == ("high", 1)  # it came before Four
        assert moved["id"] == job_of(a, "o/Two")["id"]
        assert waiting(a) == ["o/Two", "o/Four", "o/Three"]
        a.kill()
        a.start()
        until(lambda: len(waiting(a)) == 3, "three wait again")
        # Whoever resolves first has the one place; the others keep priority and arrival.
        first = next(job["what"] for job in a.call("queue")["jobs"] if job["position"] is None)
        assert waiting(a) == [what for what in ("o/Two", "o/Four", "o/One", "o/Three") if what != first]
        job = job_of(a, waiting(a)[-1])
        cancelled = a.ok("queue", "cancel", job["id"][:6])
        assert (cancelled["what"], cancelled["id"], cancelled["state"]) == (job["what"], job["id"], "cancelled")
        until(lambda: len(waiting(a)) == 2, "one is gone")
        listed = a.hali("queue").stdout.splitlines()
        assert [line.split()[0] for line in listed[1:]] == [j["id"] for j in a.call("queue")["jobs"]]
        hub.faults.rate = None
        a.idle()
        assert len(a.call("models")["models"]) == 3
        assert not [event for event in a.events("job.failed") if event["code"] != "cancelled"]


def test_a_second_pull_of_a_file_says_that_it_waits(tmp_path: Path) -> None:
    with from_the_hub(tmp_path) as (hub, a):
        submit(a, "o/One")
        downloading(a, hub)
        again = f"o/One/{NAMES[0]}"
        submit(a, again)
        until(lambda: state_of(a, again) == "queued", "the second one waits for the first")
        hub.faults.rate = None
        a.idle()
        assert len(a.call("models")["models"]) == 1


def test_a_pull_whose_reader_goes_away_is_no_success_and_goes_on(tmp_path: Path) -> None:
    with from_the_hub(tmp_path) as (hub, a):
        with a.start_hali("pull", "o/One", "--json") as pull:
            assert pull.stdout is not None
            assert json.loads(pull.stdout.readline())["event"] == "progress"
            pull.stdout.close()
        assert pull.returncode == 1
        hub.faults.rate = None
        a.idle()
        assert len(a.call("models")["models"]) == 1


def test_what_is_not_in_the_queue_is_told(tmp_path: Path) -> None:
    with node(tmp_path / "a", lan_enabled="off") as a:
        assert "not running" in a.fails("queue", code=4)
        a.start()
        assert "no job 'x'" in a.fails("queue", "cancel", "x", code=3)
        assert "no priority" in a.fails("queue", "move", "x", "urgent", code=2)
        assert "no priority" in a.fails("pull", "x", "--priority", "urgent", code=2)
        assert "no duration" in a.fails("pause", "soon", code=2)


# ---- live settings


def test_a_running_pull_is_not_disturbed_by_changes_of_caps_schedule_and_places(tmp_path: Path) -> None:
    with from_the_hub(tmp_path, names=NAMES[:2]) as (hub, a):
        hub.faults.rate = None
        assert a.ok("config", "set", "max_download_mbps", "2")["applied"] is True  # 250 kB/s: 25 seconds for 6 MiB
        pid = a.pid()
        pulling = a.start_hali("pull", "o/One", "--json")
        downloading(a, hub)
        assert a.ok("config", "set", "pull_concurrency", "1")["applied"] is True
        submit(a, "o/Two")
        until(lambda: waiting(a) == ["o/Two"], "the second waits")
        assert a.ok("config", "set", "schedule", "daily 00:00-24:00 up=3")["applied"] is True
        assert a.status()["upload_cap_mbps"] == 3
        assert a.ok("config", "set", "torrent.dht", "on")["applied"] is False
        assert a.ok("config", "set", "max_download_mbps", "0")["applied"] is True
        out, _ = pulling.communicate(timeout=60)
        events = [json.loads(line) for line in out.splitlines()]
        done = [event["done"] for event in events if event["event"] == "progress"]
        assert done == sorted(done)  # it never began anew
        assert (events[-1]["ok"], events[-1]["sha256"]) == (True, sha256_of(tmp_path / NAMES[0]))
        assert len([span for span in hub.ranges() if span.startswith("bytes=0-")]) <= 2  # one a file
        a.idle()
        assert a.pid() == pid
        assert len(a.events("daemon.starting")) == 1


def test_config_set_says_what_takes_effect_when_and_whose_word_wins(tmp_path: Path) -> None:
    with node(tmp_path / "a", lan_enabled="off", max_upload_mbps="5") as a:
        assert a.ok("config", "set", "max_download_mbps", "7")["applied"] is None  # no daemon
        a.start()
        assert a.status()["download_cap_mbps"] == 7
        assert "; applied." in a.hali("config", "set", "max_download_mbps", "9").stdout
        assert a.status()["download_cap_mbps"] == 9
        assert "restart to apply" in a.hali("config", "set", "engine.slots", "3").stdout
        assert "an environment variable" in a.hali("config", "set", "max_upload_mbps", "6").stderr
        assert a.status()["upload_cap_mbps"] == 5
        a.ok("config", "unset", "max_download_mbps")
        assert a.status()["download_cap_mbps"] == 0
        a.paths.config.write_text("not = [valid")
        with pytest.raises(HaliError, match="not valid TOML"):
            a.call("reload")
        assert a.status()["upload_cap_mbps"] == 5

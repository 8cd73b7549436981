"""Starting, stopping, killing and interrupting real daemons and commands: nothing blocks the next start, nothing is left over."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from hali.daemon.address import is_locked
from hali.model.units import piece_count
from hali.store import journal
from tests.fakes.hf_server import FakeHub
from tests.nodes import WAIT_S, TestNode, node, random_file, sha256_of, until

NAME = "Slow-7B-Q4_0.gguf"
REPO = "owner/Slow-7B-GGUF"
CRAWL = 1_000_000  # bytes a second of a connection, until the test lifts it: 16 s for a piece


def assert_gone(each: TestNode) -> None:
    """No process, no lock, no address, no secret of a daemon is left."""
    assert not each.processes()
    assert not is_locked(each.paths)
    assert not each.paths.address.exists() and not each.paths.token.exists()


def test_start_stop_and_restart_do_nothing_twice_and_lose_nothing(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        first = a.ok("daemon", "start")
        again = a.ok("daemon", "start")
        assert (first["started"], again["started"], again["pid"]) == (True, False, first["pid"])
        added = a.ok("add", str(random_file(tmp_path / "Kept-1B-Q8_0.gguf", 1)))
        restarted = a.ok("daemon", "restart")
        assert restarted["pid"] != first["pid"]
        assert (restarted["node_id"], restarted["torrent_port"]) == (first["node_id"], first["torrent_port"])
        assert [service["state"] for service in restarted["services"]] == ["ready"] * len(first["services"])
        until(lambda: a.state_of(added["sha256"]) == "seeding", "it is seeded again")
        assert a.ok("daemon", "stop")["stopped"] is True
        assert_gone(a)
        assert a.ok("daemon", "stop")["stopped"] is False
        assert a.fails("daemon", "status", code=4).startswith("hali: Daemon is not running.")
        assert a.ok("daemon", "restart")["started"] is True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_a_daemon_in_order_with_code_0(number: signal.Signals, tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        process = a.start_hali("daemon", "run")
        until(a.paths.address.exists, "it answers")
        process.send_signal(number)  # `run` hands it on
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "")
        assert "daemon.stopped" in err.splitlines()[-1]
        assert_gone(a)
        assert a.events("daemon.signal")[-1]["signal"] == number.name


def test_a_signal_in_the_middle_of_a_pull_ends_in_order_and_the_pull_goes_on_later(tmp_path: Path) -> None:
    file = random_file(tmp_path / NAME, 52)
    with FakeHub() as hub, node(tmp_path / "a", lan_enabled="off", hf_endpoint=hub.url, hf_connections="2") as a:
        hub.add(REPO, {NAME: file})
        hub.faults.rate, hub.faults.rate_after = CRAWL, 2  # the first piece comes at once, as the probe does
        pid = a.start()["pid"]
        pulling = a.start_hali("pull", REPO)
        until(a.on_record, "the first piece is on record")
        os.kill(pid, signal.SIGTERM)
        _, err = pulling.communicate(timeout=60)
        assert pulling.returncode == 4 and "went away" in err.splitlines()[-1]
        until(lambda: not a.processes(), "it has ended")
        assert_gone(a)
        hub.faults.rate = None
        a.start()
        a.idle()
        assert a.state_of(sha256_of(file)) == "seeding"


def test_what_a_killed_daemon_leaves_does_not_block_the_next_one(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        a.start()
        for _ in range(2):
            a.kill()
            assert a.paths.address.exists()
            a.fails("daemon", "status", code=4)
            assert a.ok("daemon", "start")["started"] is True
        # A crash in the middle of writing leaves temporary files and torn journals; they are not believed either.
        a.kill()
        (a.paths.home / ".daemon.addr.1234.tmp").write_text("127.")
        a.paths.token.write_bytes(b"")
        assert a.ok("daemon", "start")["started"] is True


def test_two_commands_that_both_need_a_daemon_start_one(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        both = [a.start_hali("stats", "--json") for _ in range(3)]
        codes = [(process.communicate(timeout=60), process.returncode) for process in both]
        assert [code for _, code in codes] == [0, 0, 0], codes
        assert len(a.events("daemon.ready")) == 1
        until(lambda: len(a.processes()) == 1, "the losers of the race are gone")


BAD_CONFIGS = {
    "an unknown key": "max_uplaod_mbps = 3",
    "out of range": "torrent_port = 70000",
    "not text": b"\xff\xfe\x00",
}


def test_mcp_over_stdio_ends_at_ctrl_c_though_its_input_stays_open(tmp_path: Path) -> None:
    hello = {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "test", "version": "0"}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    with node(tmp_path / "a", lan_enabled="off") as a:
        a.start()
        command = [sys.executable, "-m", "hali.cli", "mcp"]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=a.env, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as server:
            try:
                assert server.stdin is not None and server.stdout is not None and server.stderr is not None
                print(json.dumps(request), file=server.stdin, flush=True)
                assert json.loads(server.stdout.readline())["id"] == 1
                server.send_signal(signal.SIGINT)
                assert server.wait(WAIT_S) == 130
                assert server.stderr.read() == ""
            finally:
                server.kill()


def test_a_folder_in_the_place_of_the_log_is_told_in_words(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        a.paths.create()
        (a.paths.logs / "hali.log").mkdir()
        told = a.fails("daemon", "start", code=78)
        assert f"{a.paths.logs / 'hali.log'} is a folder, and the log has to go there — move it away" in told


@pytest.mark.parametrize("wrong", BAD_CONFIGS)
def test_a_bad_config_file_is_one_line_and_exit_code_78(wrong: str, tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        a.paths.create()
        text = BAD_CONFIGS[wrong]
        a.paths.config.write_bytes(text if isinstance(text, bytes) else text.encode())
        assert "config.toml" in a.fails("pull", "x", code=78)
        foreground = a.hali("daemon", "run")
        assert (foreground.returncode, len(foreground.stderr.splitlines())) == (78, 1), foreground.stderr
        assert_gone(a)
        a.paths.config.unlink()
        a.start()


def test_a_limit_of_open_files_that_is_too_low_is_one_line(tmp_path: Path) -> None:
    with node(tmp_path / "a", within=("prlimit", "--nofile=100:100")) as a:
        told = "100 files may be open at once, and the daemon needs 128 — raise the limit"
        assert told in a.fails("daemon", "start", code=78)
        assert a.ok("list") == []


def test_a_taken_torrent_port_is_one_line_that_names_it(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as other, node(tmp_path / "a") as a:
        port = other.getsockname()[1]
        a.set(torrent_port=str(port))
        assert f"port {port} is in use" in a.fails("daemon", "start", code=78)
        assert_gone(a)
        error = json.loads(a.hali("daemon", "start", "--json").stdout)["error"]
        assert (error["code"], error["exit_code"]) == ("port_in_use", 78)
        a.set(torrent_port="0")
        a.start()


def test_a_taken_http_port_that_somebody_chose_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, node(tmp_path / "a") as a:
        a.set(daemon_port=str(other.getsockname()[1]))
        assert str(other.getsockname()[1]) in a.fails("daemon", "start", code=78)
        assert_gone(a)


def test_a_home_that_is_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with node(tmp_path / "file") as a:
        for command in (("daemon", "start"), ("pull", "x")):
            done = a.hali(*command)
            assert done.returncode != 0 and len(done.stderr.splitlines()) == 1, done.stderr


def test_ctrl_c_ends_a_pull_keeps_its_pieces_and_the_same_command_goes_on(tmp_path: Path) -> None:
    file = random_file(tmp_path / NAME, 52)
    with FakeHub() as hub, node(tmp_path / "a", lan_enabled="off", hf_endpoint=hub.url, hf_connections="2") as a:
        hub.add(REPO, {NAME: file})
        hub.faults.rate, hub.faults.rate_after = CRAWL, 2
        a.start()
        pulling = a.start_hali("pull", REPO)
        until(a.on_record, "the first piece is on record")
        pulling.send_signal(signal.SIGINT)
        _, err = pulling.communicate(timeout=60)
        assert pulling.returncode == 130, err
        assert "kept" in err.splitlines()[-1] and "Traceback" not in err
        a.idle()
        known = a.on_record()
        assert known and a.call("models")["models"] == []
        a.restart()
        assert a.status()["jobs"] == []  # what was cancelled does not come back by itself
        asked, hub.faults.rate = len(hub.ranges()), None
        pulled = a.ok("pull", REPO)
        assert (pulled["state"], pulled["sha256"]) == ("seeding", sha256_of(file))
        again = {int(text.removeprefix("bytes=").split("-")[0]) // 2**24 for text in hub.ranges()[asked:]}
        assert not again & known


def test_a_pull_that_several_watch_is_one_job(tmp_path: Path) -> None:
    file = random_file(tmp_path / NAME, 40)
    with FakeHub() as hub, node(tmp_path / "a", lan_enabled="off", hf_endpoint=hub.url) as a:
        hub.add(REPO, {NAME: file})
        hub.faults.rate = 20_000_000
        a.start()
        names = [REPO, REPO, f"{REPO}/{NAME}", f"{REPO}:q4_0"]
        pulls = [a.start_hali("pull", name, "--json") for name in names]
        results = [json.loads(process.communicate(timeout=60)[0].splitlines()[-1]) for process in pulls]
        assert [(r["ok"], r["sha256"]) for r in results] == [(True, sha256_of(file))] * 4
        assert hub.bytes_sent <= file.stat().st_size + len(hub.requests)  # fetched once
        assert not list((a.paths.models() / ".incoming").iterdir())


def test_the_watcher_of_a_job_may_go_away_and_the_job_goes_on(tmp_path: Path) -> None:
    file = random_file(tmp_path / NAME, 40)
    with FakeHub() as hub, node(tmp_path / "a", lan_enabled="off", hf_endpoint=hub.url, hf_connections="1") as a:
        hub.add(REPO, {NAME: file})
        hub.faults.rate, hub.faults.rate_after = CRAWL, 2
        a.start()
        pulling = a.start_hali("pull", REPO)
        until(lambda: [job for job in a.status()["jobs"] if job["done"]], "bytes came")
        pulling.kill()
        pulling.communicate(timeout=60)
        assert a.status()["jobs"], "too late to be in the middle"
        hub.faults.rate = None
        a.idle()
        assert a.state_of(sha256_of(file)) == "seeding"
        assert not a.events("ipc.method_failed")


def test_a_daemon_of_a_terminal_ends_with_it_unless_detached(tmp_path: Path) -> None:
    for flags, stays in (((), False), (("--detach",), True)):
        with node(tmp_path / f"stays-{stays}") as a:
            master, slave = os.openpty()
            command = [sys.executable, "-m", "hali.cli", "daemon", "start", *flags]
            # `setsid --ctty` makes the shell the leader of a session with this terminal, as a terminal emulator does.
            shell = subprocess.Popen(
                ["setsid", "--ctty", "sh", "-c", f"{' '.join(command)}; read line"],
                env=a.env,
                stdin=slave,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            os.close(slave)
            until(a.paths.address.exists, "it answers")
            daemon = psutil.Process(a.pid())
            os.write(master, b"\n")
            shell.wait(timeout=60)
            os.close(master)
            if stays:
                assert a.ok("daemon", "status")["pid"] == daemon.pid
            else:
                until(lambda: not a.processes(), "the daemon ended with its terminal")
                assert_gone(a)


def test_a_journal_torn_by_a_crash_is_believed_up_to_the_tear(tmp_path: Path) -> None:
    file = random_file(tmp_path / NAME, 52)
    with FakeHub() as hub, node(tmp_path / "a", lan_enabled="off", hf_endpoint=hub.url, hf_connections="1") as a:
        hub.add(REPO, {NAME: file})
        hub.faults.rate, hub.faults.rate_after = CRAWL, 3
        a.start()
        pulling = a.start_hali("pull", REPO)
        until(lambda: len(a.on_record()) >= 2, "two pieces are on record")
        a.kill()
        pulling.communicate(timeout=60)
        path = a.incoming() / "journal"
        whole = len(a.on_record())
        os.truncate(path, path.stat().st_size - journal._RECORD.size * 2)
        last = piece_count(file.stat().st_size) - 1
        with path.open("ab") as out:  # as long as a record, and nonsense: the last piece is not there at all
            out.write(journal._pack(journal._PIECE, last, bytes(84))[:-4] + b"torn")
        known = a.on_record()
        assert 0 < len(known) < whole
        hub.faults.rate = None
        a.start()
        a.idle()
        assert a.events("incoming.opened")[-1]["known"] == len(known)
        assert a.state_of(sha256_of(file)) == "seeding"

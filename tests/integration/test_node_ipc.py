"""With real daemons: nothing without the token, clear errors, a daemon that lives on; addresses that lie; two homes side by side."""

from __future__ import annotations

import json
import os
import random
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from hali._version import __version__
from hali.config.schema import Settings
from hali.daemon.address import is_locked
from hali.model.errors import Failed
from tests.nodes import TestNode, node, pair, random_file, until

PUBLIC = b'{"method": "status", "id": 1}\n'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    with node(tmp_path_factory.mktemp("ipc") / "a") as a:
        a.start()
        yield a


def dial(each: TestNode) -> socket.socket:
    host, _, port = each.paths.address.read_text().rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def answers(each: TestNode, *parts: bytes) -> list[dict[str, Any]]:
    """All lines the daemon says to these bytes until it or we are done."""
    with dial(each) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it hung up before it had everything, which is its right
        lines = connection.makefile("rb")
        found = []
        try:
            for line in lines:
                found.append(json.loads(line))
        except ConnectionResetError:
            pass
        return found


def with_token(each: TestNode, **fields: Any) -> bytes:
    return json.dumps({"token": each.paths.token.read_text(), "id": 1, **fields}).encode() + b"\n"


def assert_lives_on(each: TestNode, pid: int) -> None:
    (answer,) = answers(each, with_token(each, method="ping"))
    assert (answer["ok"], answer["id"], answer["pid"]) == (True, 1, pid)


@pytest.mark.parametrize("token", [None, "", "wrong", 7, "a" * 1000, ["x"]])
def test_without_the_token_there_is_nothing_but_a_refusal(token: object, running: TestNode) -> None:
    pid = running.pid()
    fields = {"id": 5} if token is None else {"id": 5, "token": token}
    for method in ("status", "stop", "pull", "nosuch"):
        (answer,) = answers(running, json.dumps({"method": method, "what": "x", **fields}).encode() + b"\n")
        assert (answer["id"], answer["ok"], answer["error"]["code"]) == (5, False, "refused")
        assert answer.keys() == {"id", "ok", "error"}
    assert_lives_on(running, pid)


def test_a_daemon_that_another_version_started_is_named_where_it_lacks_a_method(running: TestNode) -> None:
    assert running.status()["version"] == __version__
    with (
        running.client() as client,
        pytest.raises(Failed, match="'of_a_newer_hali': it is of another version") as caught,
    ):
        client.call("of_a_newer_hali")
    assert caught.value.hint == "`hali daemon restart` starts that of this one"


def test_a_wrong_method_and_wrong_parameters_are_named(running: TestNode) -> None:
    pid = running.pid()
    (answer,) = answers(running, with_token(running, method="nosuch"))
    assert answer["error"]["code"] == "unknown_method" and "status" in answer["error"]["hint"]
    for fields in ({"method": None}, {"method": 5}, {}, {"method": ["status"]}):
        (answer,) = answers(running, with_token(running, **fields))
        assert answer["error"]["code"] == "unknown_method"
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("pull", {}),
        ("pull", {"what": 5}),
        ("info", {"model": {}}),
        ("add", {"what": "relative"}),
    ]
    for method, fields in wrong:
        (answer,) = answers(running, with_token(running, method=method, **fields))
        assert answer["error"]["code"] == "usage", fields
    assert_lives_on(running, pid)


def test_a_line_of_two_mebibytes_is_refused(running: TestNode) -> None:
    pid = running.pid()
    (answer,) = answers(running, with_token(running, method="ping", padding="x" * 2 * 1024 * 1024))
    assert (answer["ok"], answer["error"]["code"]) == (False, "protocol")
    assert_lives_on(running, pid)
    assert [a["ok"] for a in answers(running, with_token(running, method="ping", padding="x" * 1_000_000))] == [True]


def test_garbage_gets_one_error_a_line_and_harms_nobody(running: TestNode) -> None:
    pid = running.pid()
    for garbage in (
        b"\x00\xff\xfe\n",
        b"GET / HTTP/1.1\n",
        b"[]\n",
        b"5\n",
        b"{\n",
        b"[" * 100_000 + b"\n",
        b'{"a":' * 50_000 + b"\n",
    ):
        (answer,) = answers(running, garbage)
        assert (answer["ok"], answer["error"]["code"]) == (False, "protocol"), garbage[:20]
    for seed in range(10):
        for answer in answers(running, random.Random(seed).randbytes(20_000)):
            assert answer["ok"] is False
    assert_lives_on(running, pid)


def test_a_browser_that_posts_to_the_port_gets_nothing(running: TestNode) -> None:
    """A page can make a browser send a body of its choice to any local port; without the token it is only noise."""
    port = running.paths.address.read_text().rpartition(":")[2]
    body = b'{"method": "stop", "id": 1}\n'
    request = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    pid = running.pid()
    assert all(answer["ok"] is False for answer in answers(running, request + body))
    assert_lives_on(running, pid)


def test_many_silent_connections_do_not_keep_the_command_out(running: TestNode) -> None:
    silent = [dial(running) for _ in range(40)]
    try:
        assert running.ok("daemon", "status")["pid"] == running.pid()
    finally:
        for connection in silent:
            connection.close()


def test_many_requests_of_one_connection_are_answered_with_their_ids(running: TestNode) -> None:
    requests = b"".join(with_token(running, method="ping", id=number) for number in range(200))
    found = answers(running, requests)
    assert sorted(answer["id"] for answer in found) == list(range(200))
    assert all(answer["ok"] for answer in found)


def test_secrets_are_for_the_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with node(tmp_path / "a", api_require_key="on") as a:
            a.start()
            for path in (a.paths.token, a.paths.identity, a.paths.api_key, a.paths.address):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            assert stat.S_IMODE(a.paths.home.stat().st_mode) == 0o700
            first = a.paths.token.read_text()
            a.restart()
            assert a.paths.token.read_text() != first
            assert first not in a.log()
    finally:
        os.umask(old)


# ---- addresses that lie


@contextmanager
def another_program(says: bytes, *, reads: bool) -> Iterator[int]:
    """Listens where a dead daemon did; greets with `says`; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        stopping = threading.Event()

        def serve() -> None:
            held = []
            while not stopping.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                held.append(connection)
                connection.sendall(says)
                if reads:
                    connection.recv(4096)
                    connection.sendall(b"what?\r\n")
            for connection in held:
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stopping.set()
            thread.join()


def assert_finds_no_daemon_and_starts_one(each: TestNode) -> None:
    each.fails("daemon", "status", code=4)
    each.fails("pull", "nosuch", code=3)
    assert each.status()["home"] == str(each.paths.home)


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.0.0.1:99999999", "\x00"])
def test_a_stale_address_is_not_believed(text: str, tmp_path: Path) -> None:
    with node(tmp_path / "a", lan_enabled="off") as a:
        a.paths.create()
        a.paths.address.write_text(text)
        a.paths.token.write_text("old")
        assert_finds_no_daemon_and_starts_one(a)


@pytest.mark.parametrize(("says", "reads"), [(b"", False), (b"SSH-2.0-OpenSSH\r\n", False), (b"[1, 2]\n", True)])
def test_the_port_of_another_program_is_not_taken_for_the_daemon(says: bytes, reads: bool, tmp_path: Path) -> None:
    with node(tmp_path / "a", lan_enabled="off") as a, another_program(says, reads=reads) as port:
        a.start()
        a.kill()
        a.paths.address.write_text(f"127.0.0.1:{port}")
        assert_finds_no_daemon_and_starts_one(a)


def test_the_port_of_another_node_is_not_taken_for_this_one(tmp_path: Path, running: TestNode) -> None:
    with node(tmp_path / "a", lan_enabled="off") as a:
        a.start()
        a.kill()
        a.paths.address.write_text(running.paths.address.read_text())
        assert_finds_no_daemon_and_starts_one(a)
    assert running.ok("daemon", "status")["home"] == str(running.paths.home)


# ---- two homes


def test_a_second_daemon_in_one_home_is_refused_in_one_line(running: TestNode) -> None:
    pid = running.pid()
    process = running.start_hali("daemon", "run")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, len(err.splitlines())) == (1, "", 1), err
    assert "a daemon already runs in" in err
    assert running.pid() == pid  # and the first is still found


def test_two_homes_live_side_by_side(tmp_path: Path) -> None:
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind(("127.0.0.1", Settings().daemon_port))
        taken.listen()
    except OSError:
        pass  # somebody has it already, which does as well
    with taken, node(tmp_path / "a") as a, node(tmp_path / "b") as b:
        for each in (a, b):
            del each.env["HALI_DAEMON_PORT"]  # the default, which gives way
            each.start()
        first, second = a.ok("daemon", "status"), b.ok("daemon", "status")
        for key in ("pid", "home", "node_id", "torrent_port", "http"):
            assert first[key] != second[key], key
        for each, status in ((a, first), (b, second)):
            assert status["home"] == str(each.paths.home)
            port = int(status["http"].rpartition(":")[2])
            assert Settings().daemon_port < port < Settings().daemon_port + 100
            assert httpx.get(f"{status['http']}/v1/models", trust_env=False, timeout=30).status_code == 200
            assert status["http"] in each.hali("daemon", "status").stdout
        a.stop()
        assert b.ok("daemon", "status")["pid"] == second["pid"]
        assert not is_locked(a.paths)


def test_two_nodes_on_one_machine_do_not_take_each_other_for_themselves(tmp_path: Path) -> None:
    with pair(tmp_path) as (a, b):
        added = a.ok("add", str(random_file(tmp_path / "Only-1B-Q8_0.gguf", 1)))
        b.hears(added["model_id"])
        assert b.ok("list") == []
        assert [row["peers"] for row in b.status()["lan"]] == [1]
        assert a.status()["lan"] == []  # it does not hear itself
        a.stop()
        until(lambda: b.status()["lan"] == [], "the goodbye is heard")

"""`hali doctor` on real nodes: nothing is wrong with a healthy one; each planted fault is one failed check, and its fix mends it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

import hali
from tests.doctors import command, examine, follow, healthy_again, only, statuses, with_command
from tests.nodes import TestNode, flip, node, random_file, until

FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


@contextmanager
def doctored(folder: Path, **settings: str) -> Iterator[TestNode]:
    """A node whose fixes can be followed."""
    with node(folder / "home", **settings) as made:
        yield with_command(made, folder / "bin")


@pytest.fixture
def a(tmp_path: Path) -> Iterator[TestNode]:
    with doctored(tmp_path) as made:
        yield made


@pytest.fixture
def running(a: TestNode) -> TestNode:
    a.start()
    return a


def test_a_healthy_node_passes_every_check_that_applies(running: TestNode, tmp_path: Path) -> None:
    running.add(random_file(tmp_path / "a.gguf", 1))
    for options in ((), ("--deep",)):
        found = statuses(examine(running, *options))
        assert set(found.values()) == {"ok", "skip"}
        assert sorted(name for name, status in found.items() if status == "skip") == [
            "registry.reachable",
            "service.unit",
            "update.available",
            "upstream.reachable",
        ]
    lines = running.hali("doctor").stdout.splitlines()
    assert lines[-1].startswith("All is well: ")
    assert all(line.startswith(("ok    ", "skip  ")) for line in lines[:-2])
    assert running.hali("doctor", "--quiet").stdout == ""


def test_without_a_daemon_and_without_a_home_it_says_what_it_can(a: TestNode) -> None:
    found = statuses(examine(a))
    assert set(found.values()) == {"ok", "skip"}
    assert found["daemon.address"] == found["database.integrity"] == "skip"
    assert not a.paths.home.exists()


@pytest.mark.parametrize("below", ["", "/below"])
def test_a_file_in_the_place_of_the_data_directory_is_told_once_and_not_touched(
    below: str, a: TestNode, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    a.env["HALI_HOME"] = f"{tmp_path}/file{below}"
    found = examine(a)
    assert [name for name, row in found.items() if row["status"] in ("fail", "warn")] == ["config.parse"]
    assert f"{tmp_path}/file is no folder" in found["config.parse"]["detail"]
    assert found["config.parse"]["fix"] == "unset HALI_HOME"
    del a.env["HALI_HOME"]
    a.env["HOME"] = str(tmp_path)
    (tmp_path / "file").rename(tmp_path / ".hali")
    follow(a, str(examine(a)["config.parse"]["fix"]))
    assert (tmp_path / ".hali.aside").is_file()
    healthy_again(a)


def test_a_bad_line_of_the_configuration(running: TestNode) -> None:
    follow(running, "hali config set torrent.pex off || hali config set torrent.upnp off")
    healthy = examine(running)
    with running.paths.config.open("a") as file:
        file.write('\n[lan]\nport = "many"\npeers = ["10.0.0.1",\n\n[api]\nqueue = 7\n')
    fix = only(running, healthy, "config.parse")
    detail = examine(running)["config.parse"]["detail"]
    assert "config.toml:5: lan.port" in detail
    assert "config.toml:6: " in detail
    follow(running, fix)
    healthy_again(running)
    assert running.ok("config", "get", "api.queue")["value"] == 7
    assert running.ok("config", "get", "torrent.upnp")["source"] == "file"


def test_a_variable_that_no_setting_takes(a: TestNode) -> None:
    healthy = examine(a)
    a.set(torrent_port="many")
    fix = only(a, healthy, "config.parse")
    follow(a, f"{fix} && hali doctor")


def test_a_variable_that_nothing_reads(a: TestNode) -> None:
    a.set(max_uplaod_mbps="8")
    told = "nothing reads the environment variable HALI_MAX_UPLAOD_MBPS: did you mean HALI_MAX_UPLOAD_MBPS?"
    done = a.hali("daemon", "start")
    assert (done.returncode, done.stderr) == (0, f"hali: {told}\n")
    assert a.events("config.unknown_variable")[0]["variable"] == "HALI_MAX_UPLAOD_MBPS"
    assert a.hali("daemon", "start").stderr == ""
    found = examine(a)["config.parse"]
    assert (found["status"], found["detail"]) == ("warn", told)
    follow(a, f"{found['fix']} && hali doctor")


def test_a_key_that_others_may_read(running: TestNode) -> None:
    healthy = examine(running)
    running.paths.identity.chmod(0o644)
    running.paths.home.chmod(0o755)
    follow(running, only(running, healthy, "keys.permissions"))
    healthy_again(running)


@pytest.mark.parametrize("setting", [{"api_require_key": "on"}, {"daemon_listen_addr": "0.0.0.0"}])
def test_a_key_that_is_gone(a: TestNode, setting: dict[str, str]) -> None:
    a.set(**setting)
    a.start()
    healthy = examine(a)
    a.paths.api_key.unlink()
    follow(a, only(a, healthy, "keys.permissions"))
    assert a.paths.api_key.exists()
    healthy_again(a)


def test_a_port_that_another_program_has(running: TestNode) -> None:
    a = running
    a.stop()
    healthy = examine(a)
    with socket.create_server(("", 0)) as other:
        follow(a, f"hali config set torrent_port {other.getsockname()[1]}")
        fix = only(a, healthy, "ports.free")
        assert f"(PID {os.getpid()})" in examine(a)["ports.free"]["detail"]
        follow(a, fix)
        healthy_again(a)
        a.start()


def test_a_lan_port_that_another_program_keeps_for_itself(running: TestNode) -> None:
    healthy = examine(running)
    running.stop()
    code = "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', int(sys.argv[1]))); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", f"{code}", running.env["HALI_LAN_PORT"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    until(lambda: "taken" in examine(running)["ports.free"]["detail"], "the other program has the port")
    follow(running, str(examine(running)["ports.free"]["fix"]))
    other.communicate()
    assert other.returncode == -signal.SIGTERM
    running.start()
    assert statuses(examine(running)) == statuses(healthy)


@contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """A disk of 256 MiB in `folder`."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "hali-doctor", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: a small disk needs root")
def test_a_full_disk(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk, doctored(tmp_path, models_dir=str(disk / "models")) as a:
        a.start()
        healthy = examine(a)
        a.add(random_file(tmp_path / "a.gguf", 100), copy=True)
        rest = os.statvfs(disk)
        with (disk / "foreign").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, rest.f_bavail * rest.f_frsize)
        follow(a, only(a, {**healthy, "models.files": {"status": "ok"}}, "disk.space"))
        healthy_again(a)
        assert a.ok("list") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: a small disk needs root")
def test_a_full_disk_of_models_that_have_another_name_is_not_to_be_pruned(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk, doctored(tmp_path, models_dir=str(disk / "models")) as a:
        a.start()
        healthy = examine(a)
        a.add(random_file(disk / "a.gguf", 100))
        rest = os.statvfs(disk)
        with (disk / "foreign").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, rest.f_bavail * rest.f_frsize)
        fix = only(a, {**healthy, "models.files": {"status": "ok"}}, "disk.space")
        assert fix == f"du -xhd 2 {disk}/models | sort -h | tail -n 20"


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: a small disk needs root")
def test_a_full_disk_of_pinned_models_is_not_to_be_pruned(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk, doctored(tmp_path, models_dir=str(disk / "models")) as a:
        a.start()
        healthy = examine(a)
        model = a.add(random_file(tmp_path / "a.gguf", 100), copy=True)
        rest = os.statvfs(disk)
        with (disk / "foreign").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, rest.f_bavail * rest.f_frsize)
        a.ok("pin", model["sha256"])
        fix = only(a, {**healthy, "models.files": {"status": "ok"}}, "disk.space")
        assert fix == f"du -xhd 2 {disk}/models | sort -h | tail -n 20"
        a.ok("unpin", model["sha256"])
        follow(a, only(a, {**healthy, "models.files": {"status": "ok"}}, "disk.space"))


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: a small disk needs root")
def test_a_disk_that_is_mounted_for_reading_only(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk") as disk, doctored(tmp_path, models_dir=str(disk / "models")) as a:
        a.start()
        healthy = examine(a)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        fix = only(a, healthy, "disk.space")
        assert fix == f"mount -o remount,rw {disk}"
        follow(a, fix)
        healthy_again(a)


def test_a_model_that_is_damaged(running: TestNode, tmp_path: Path) -> None:
    """Not known to be damaged before it is read again; then reading it once more would be no help."""
    healthy = examine(running)
    model = running.add(random_file(tmp_path / "a.gguf", 1), copy=True)
    flip(Path(model["path"]), 1000)
    fix = only(running, {**healthy, "models.files": {"status": "ok"}}, "models.files")
    assert fix == f"hali verify {model['sha256']}"
    assert running.shell(fix).returncode == 5
    fix = only(running, {**healthy, "models.files": {"status": "ok"}}, "models.files")
    assert fix == f"hali rm --yes {model['sha256']}"
    follow(running, fix)
    healthy_again(running)


@pytest.mark.parametrize("looks", [True, False])
def test_a_model_whose_folder_is_gone(running: TestNode, tmp_path: Path, looks: bool) -> None:
    """Only the daemon still knows of it; also when it has not looked since."""
    healthy = examine(running)
    model = running.add(random_file(tmp_path / "a.gguf", 1), copy=True)
    shutil.rmtree(Path(model["path"]).parents[2])
    if looks:
        assert running.hali("verify", model["sha256"]).returncode != 0
    follow(running, only(running, {**healthy, "models.files": {"status": "ok"}}, "models.files"))
    healthy_again(running)
    assert running.ok("list") == []


def test_a_model_that_is_there_again_is_not_to_be_removed(running: TestNode, tmp_path: Path) -> None:
    """As on a disk that was not mounted for a while."""
    healthy = examine(running)
    model = running.add(random_file(tmp_path / "a.gguf", 1), copy=True)
    models = Path(model["path"]).parents[3]
    models.rename(tmp_path / "away")
    assert examine(running)["models.files"]["status"] == "fail"
    (tmp_path / "away").rename(models)
    follow(running, only(running, {**healthy, "models.files": {"status": "ok"}}, "models.files"))
    healthy_again(running)
    assert [row["state"] for row in running.ok("list")] == ["seeding"]


@pytest.mark.skipif(FAKETIME is None, reason="NOT TESTED: a clock that is off needs libfaketime")
def test_a_clock_that_is_behind(running: TestNode, tmp_path: Path) -> None:
    """Only the doctor lives in the past; the stand-in for `timedatectl` ends that, as the real one would for the machine."""
    offset = tmp_path / "offset"
    offset.write_text("-400d\n")
    command(tmp_path / "bin", "timedatectl", f'[ "$*" = "set-ntp true" ] && echo +0 > "{offset}"')
    healthy = examine(running)
    running.env |= {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}
    follow(running, only(running, healthy, "clock.skew"))
    healthy_again(running)


class _InAnotherYear(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response_only(200)
        self.send_header("Date", "Sat, 01 Jan 2050 00:00:00 GMT")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_a_clock_that_differs_from_the_hubs(a: TestNode) -> None:
    healthy = examine(a)
    with HTTPServer(("127.0.0.1", 0), _InAnotherYear) as hub:
        serving = Thread(target=hub.serve_forever)
        serving.start()
        try:
            a.set(hf_endpoint=f"http://127.0.0.1:{hub.server_port}")
            assert only(a, healthy, "clock.skew")
        finally:
            hub.shutdown()
            serving.join()


def test_a_compiled_module_that_is_missing(tmp_path: Path) -> None:
    """An installation of its own, and a package index with nothing but its wheel."""
    site = tmp_path / "site"
    shutil.copytree(Path(hali.__file__).parent, site / "hali", ignore=shutil.ignore_patterns("__pycache__"))
    _wheel(site, tmp_path / "index")
    with doctored(tmp_path) as a:
        a.env |= {"PYTHONPATH": str(site), "PIP_TARGET": str(site), "PIP_NO_INDEX": "1"}
        a.env |= {"PIP_FIND_LINKS": str(tmp_path / "index"), "PIP_ROOT_USER_ACTION": "ignore"}
        a.start()
        a.stop()
        healthy = examine(a)
        for extension in (site / "hali" / "_native").glob("hashcore.*.so"):
            extension.unlink()
        follow(a, only(a, healthy, "native.modules"))
        healthy_again(a)


def _wheel(site: Path, folder: Path) -> None:
    """hali as it lies in `site`, as a wheel."""
    version = hali._version.__version__
    info = f"hali-{version}.dist-info"
    folder.mkdir()
    with zipfile.ZipFile(folder / f"hali-{version}-py3-none-any.whl", "w") as wheel:
        for path in sorted(site.rglob("*")):
            if path.is_file():
                wheel.write(path, path.relative_to(site))
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: hali\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        names = [*wheel.namelist(), f"{info}/RECORD"]
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in names))


class _Models(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response_only(200 if self.path == "/v1/models" else 404)
        self.end_headers()
        self.wfile.write(b'{"object": "list", "data": [{"id": "m"}]}')

    def log_message(self, *_: object) -> None:
        pass


def test_another_runtime_that_is_down(running: TestNode) -> None:
    with HTTPServer(("127.0.0.1", 0), _Models) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        alive = f"http://127.0.0.1:{server.server_port}/v1"
        try:
            follow(running, f"hali config set upstream.urls {alive}")
            healthy = examine(running)
            assert "answers, 1 models" in healthy["upstream.reachable"]["detail"]
            with socket.create_server(("127.0.0.1", 0)) as free:
                dead = f"http://127.0.0.1:{free.getsockname()[1]}"
            follow(running, f"hali config set upstream.urls {alive},{dead}")
            fix = only(running, healthy, "upstream.reachable")
            follow(running, fix)
            healthy_again(running)
            assert running.ok("config", "get", "upstream.urls")["value"] == [alive]
        finally:
            server.shutdown()
            serving.join()


def test_another_secret_than_the_neighbours(tmp_path: Path) -> None:
    ours, theirs = secrets.token_hex(32), secrets.token_hex(32)
    with doctored(tmp_path) as a, node(tmp_path / "b", lan_hmac_enabled="on", lan_hmac_shared_secret=theirs) as b:
        follow(a, "hali config set lan.hmac_enabled on && hali config set lan.hmac_shared_secret -", stdin=ours)
        a.start()
        healthy = examine(a)
        b.start()
        model = b.add(random_file(tmp_path / "b.gguf", 1))
        until(lambda: a.status()["lan_traffic"]["dropped"].get("mac"), "packets of b are dropped")
        follow(a, only(a, healthy, "lan.secret"), stdin=f"{theirs}\n")
        a.hears(model["model_id"])
        healthy_again(a)
        assert theirs not in a.hali("doctor", "--json").stdout


def test_an_address_file_that_a_killed_daemon_left(running: TestNode) -> None:
    running.stop()
    healthy = examine(running)
    running.start()
    running.kill()
    follow(running, only(running, healthy, "daemon.address"))
    healthy_again(running)


def test_a_daemon_that_hangs(running: TestNode) -> None:
    pid = running.pid()
    os.kill(pid, signal.SIGSTOP)
    found = examine(running)
    assert [name for name, row in found.items() if row["status"] == "fail"] == ["daemon.address"]
    follow(running, str(found["daemon.address"]["fix"]))
    healthy_again(running)
    assert running.pid() != pid


@pytest.mark.parametrize("file", ["daemon.token", "daemon.addr"])
def test_a_daemon_that_nobody_can_ask_is_ended_in_order(running: TestNode, file: str) -> None:
    healthy = examine(running)
    running.paths.home.joinpath(file).unlink()
    found = examine(running)
    assert f"{file} is gone" in found["daemon.address"]["detail"]
    follow(running, str(found["daemon.address"]["fix"]))
    assert statuses(examine(running)) == statuses(healthy)
    assert len(running.events("daemon.stopped")) == 1


def test_a_broken_page_of_the_database(running: TestNode) -> None:
    running.stop()
    path = running.paths.database
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany("INSERT INTO state VALUES (?, ?)", [(f"k{n}", "x" * 400) for n in range(200)])
    healthy = examine(running)
    with closing(sqlite3.connect(path)) as db:
        page = next(
            n for n, name in db.execute("SELECT pageno, name FROM dbstat WHERE pagetype = 'leaf'") if name == "state"
        )
        (size,) = db.execute("PRAGMA page_size").fetchone()
    for offset in range(16):
        flip(path, (page - 1) * size + offset)
    follow(running, only(running, healthy, "database.integrity"))
    healthy_again(running)
    with closing(sqlite3.connect(path)) as db:
        (rows,) = db.execute("SELECT COUNT(*) FROM state WHERE key LIKE 'k%'").fetchone()
    assert 150 < rows < 200
    running.start()
    healthy_again(running)


def test_a_folder_in_the_place_of_the_database(a: TestNode) -> None:
    a.paths.create()
    healthy = examine(a)
    (a.paths.home / "hali.db" / "x").mkdir(parents=True)
    follow(a, only(a, healthy, "database.integrity"))
    a.start()
    healthy_again(a)
    assert (a.paths.home / "hali.db.aside" / "x").is_dir()


def test_nothing_secret_is_in_the_report(tmp_path: Path) -> None:
    with doctored(tmp_path, api_require_key="on", handoff_qbittorrent_password="hunter2") as a:
        lan = secrets.token_hex(32)
        follow(a, "hali config set lan.hmac_shared_secret - && hali config set lan.hmac_enabled on", stdin=lan)
        assert a.hali("config", "set", "upstream.urls", "http://me:hunter2@127.0.0.1:9").returncode == 2
        follow(a, "hali config set upstream.urls http://127.0.0.1:9")
        a.env |= {"HF_TOKEN": "hf_hunter2", "OPENAI_API_KEY": "hunter2"}
        a.start()
        a.paths.identity.chmod(0o644)
        with a.paths.config.open("a") as file:
            file.write(f'hmac_shared_secret = "{lan}"\nqbittorrent_password = 7\n')
        paths = a.paths
        hidden = [lan, "hunter2", *(p.read_text().strip() for p in (paths.token, paths.api_key))]
        hidden += paths.identity.read_text().splitlines()[1:-1]
        told = "".join(a.hali("doctor", *o).stdout for o in ((), ("--json",), ("--deep",)))
        assert json.loads(a.hali("doctor", "--json").stdout)["summary"]["fail"] == 3
        assert [each for each in hidden if each in told] == []

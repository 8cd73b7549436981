"""The registry on a real PostgreSQL: it answers as on SQLite, comes back after a restart of the database, and serves nodes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from hali.model.errors import ConfigError
from hali.registry.app import Deps, build_app
from hali.registry.storage import Storage, postgres, sqlite
from tests.conftest import ROOT
from tests.registries import gguf_file, registry
from tests.unit.registry.conftest import NOW, Author, Model, Served, report
from tests.unit.registry.crowds import CROWDS, gather

pytestmark = pytest.mark.blocking_ok  # starts and stops a database in the test's own loop


class Cluster:
    """A PostgreSQL of its own in a temporary folder, reached by a Unix socket only; as another user when the tests run as root."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder, self._programs = folder, programs
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user:
            shutil.chown(folder, self._user)
        options = ["--auth=trust", "--username=hali", "--encoding=UTF8", "--no-locale", "--no-sync"]
        self._run("initdb", *options, "-D", str(folder / "data"))
        self.start()
        self._run("createdb", "-h", str(folder), "-U", "hali", "registry")
        self.dsn = f"postgresql://hali@/registry?host={folder}"

    def _run(self, program: str, *args: str) -> None:
        done = subprocess.run(
            [self._programs / program, *args],
            user=self._user,
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def start(self) -> None:
        """And wait until it answers."""
        options = f"-k {self._folder} -c listen_addresses='' -F"
        self._run(
            "pg_ctl", "start", "-w", "-D", str(self._folder / "data"), "-l", str(self._folder / "log"), "-o", options
        )

    def stop(self) -> None:
        """At once, dropping connections."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self._folder / "data"))


def programs() -> Path:
    """Where Debian keeps PostgreSQL's programs; installed if that is possible, else the tests are skipped, loudly."""
    done = subprocess.run([ROOT / "ci" / "apt_ensure", "postgresql"], capture_output=True, text=True, check=False)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip(f"no PostgreSQL here: {done.stdout}{done.stderr}")
    return found[-1].parent


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = programs()
    folder = Path(
        subprocess.run(
            ["mktemp", "-d", "/tmp/hali-pg-XXXXXX"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    made = Cluster(folder, found)  # not below pytest's folder: no other user may enter that
    yield made
    made.stop()
    shutil.rmtree(folder)


async def story(storage: Storage, folder: Path) -> list[Any]:
    """A life of a registry; all that it answered."""
    clock = [float(NOW)]
    deps = Deps(storage, clock=lambda: clock[0])
    alice, bob = Author(1), Author(2)
    model, other = (Model(gguf_file(folder / f"{name}-1M-Q4_K_M.gguf", seed)) for seed, name in enumerate(("Ä", "b")))
    transport = httpx.ASGITransport(build_app(deps), client=("192.0.2.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://registry") as client:
        served = Served(client, deps, clock)
        told: list[Any] = []
        for path, body, status, code in (
            ("/publish", alice.manifest(model), 200, None),
            ("/ingest", alice.ingest(model), 200, None),
            ("/publish", alice.manifest(model, sequence=1), 409, "replayed"),
            ("/report", report(10, model), 200, None),
            ("/report", report(10, model, "failed"), 200, None),
            ("/report", report(11, model), 200, None),
            ("/report", report(11, other), 404, "not_listed"),
            ("/rotate", alice.rotation(bob), 200, None),
            ("/publish", alice.manifest(other), 403, "key_rotated"),
            ("/publish", bob.manifest(other), 200, None),
            ("/ingest", bob.ingest(other), 200, None),
            ("/revoke", bob.revocation(), 200, None),
        ):
            told.append(await served.post(path, body, status, code))
            served.pass_days(1)
        for path in (
            "/search?q=1m",
            "/search?q=%25&untrusted=1",
            f"/model/{model.infohash}",
            f"/model/{model.hashes.v1}",
            f"/publisher/{bob.name}",
        ):
            told.append(await served.get(path))
        told.append((await client.get(f"/torrent/{other.infohash}")).content)
        told.append((await client.get("/metrics")).text.count("hali_registry_rows{"))
    return told


async def test_postgresql_answers_as_sqlite_does(cluster: Cluster, tmp_path: Path) -> None:
    answers = []
    for number, storage in enumerate((sqlite(tmp_path / "r.db"), postgres(cluster.dsn))):
        (tmp_path / str(number)).mkdir()
        answers.append(await story(storage, tmp_path / str(number)))
        storage.close()
    assert answers[0] == answers[1]
    assert len(answers[0][12]["results"]) == 2


async def test_nobody_hides_a_model_on_postgresql_either(cluster: Cluster, tmp_path: Path) -> None:
    storage = postgres(cluster.dsn)
    clock = [float(NOW)]
    deps = Deps(storage, clock=lambda: clock[0])
    model = Model(gguf_file(tmp_path / "hidden-1M-Q4_K_M.gguf", 7))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build_app(deps)), base_url="http://r") as client:
        served = Served(client, deps, clock)
        await served.publish(Author(3), model)
        for crowd in CROWDS:
            await anyio.to_thread.run_sync(partial(gather, storage, crowd, sound=False))
        served.pass_days(2)
        for sort in ("trust", "new"):
            rows = await served.search("tiny 1m base", sort=sort)
            assert model.infohash in [row["infohash"] for row in rows]
    storage.close()


async def test_a_restarted_database_is_used_again(cluster: Cluster) -> None:
    storage = postgres(cluster.dsn)
    deps = Deps(storage)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(build_app(deps)), base_url="http://r") as client:
        assert (await client.get("/health")).status_code == 200
        await anyio.to_thread.run_sync(cluster.stop)
        assert (await client.get("/health")).status_code == 503
        await anyio.to_thread.run_sync(cluster.start)
        assert (await client.get("/health")).status_code == 200
    storage.close()


def test_a_server_on_postgresql_starts_twice_on_one_database(cluster: Cluster, tmp_path: Path) -> None:
    for _ in range(2):
        with registry(tmp_path / "server", "--dsn", cluster.dsn) as server:
            assert server.get("/health").json()["status"] == "ok"


def test_a_database_that_is_not_there_is_told_in_one_line(cluster: Cluster) -> None:
    with pytest.raises(ConfigError, match="cannot use the PostgreSQL database"):
        postgres(cluster.dsn.replace("/registry", "/nosuch"))

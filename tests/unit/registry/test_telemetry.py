"""Telemetry sends what `hali telemetry status` prints, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hali.cli.main import main
from hali.config import identity
from hali.config.load import load
from hali.config.paths import Paths
from hali.model.errors import Cancelled, HaliError, NoSpace, TransferFailed, VerificationFailed
from hali.registry import telemetry
from hali.registry.documents import Report
from hali.registry.local import LocalRegistry
from hali.registry.signing import unseal
from hali.share.base import Listing
from hali.share.job import Job, JobSpec
from hali.store.database import Database
from tests.unit.registry.conftest import Model, key

pytestmark = pytest.mark.blocking_ok  # SQLite, in the test's own loop

REGISTRY = "https://registry.example"


def told(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    with pytest.raises(SystemExit) as caught:
        main([*args, "--json"])
    assert caught.value.code == 0
    return json.loads(capsys.readouterr().out)


def shape(value: Any) -> Any:
    return {name: shape(inner) for name, inner in value.items()} if isinstance(value, dict) else None


def local(home: Path, **flags: str) -> tuple[LocalRegistry, Database]:
    paths = Paths(home)
    paths.create()
    flags = {name.replace("__", "."): text for name, text in flags.items()}
    settings = load(paths.config, {}, {"registry.url": REGISTRY, **flags}).settings
    database = Database(paths.database)
    return LocalRegistry(paths, settings, identity.load_or_create(paths.identity), database, list), database


def bodies(part: LocalRegistry) -> list[bytes]:
    return [event.body for event in part.outbox.events() if event.kind == "report"]


async def ended(part: LocalRegistry, database: Database, spec: JobSpec, outcome: dict[str, Any] | HaliError) -> None:
    job = Job(spec)
    job.fail(outcome) if isinstance(outcome, HaliError) else job.finish(outcome)
    database.add_job(spec.id, spec.kind, "{}")
    with database.transaction() as db:
        part.job_ended(job, db)


async def test_what_is_sent_is_what_telemetry_status_prints(
    home: Path, capsys: pytest.CaptureFixture[str], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALI_REGISTRY_URL", REGISTRY)
    printed = told(capsys, "telemetry", "status")
    assert (printed["telemetry"], printed["request"]) == (False, "POST /report")
    ((url, body),) = [(row["registry"], row["body"]) for row in printed["reports"]]
    part, database = local(home, telemetry="on")
    result = {
        "sha256": "0" * 64,
        "infohash_v2": model.infohash,
        "from_store": False,
        "path": "/secret",
        "hf_repo": "o/r",
    }
    await ended(part, database, JobSpec("pull", "secret name"), result)
    (sent,) = bodies(part)
    document = json.loads(sent)["document"]
    assert (url, shape(body)) == (REGISTRY, shape(json.loads(sent)))
    for name, value in body["document"].items():
        assert value.startswith("<") or document[name] == value
    assert set(document) - {n for n, v in body["document"].items() if v.startswith("<")} == {"type", "reporter"}
    assert unseal(sent, Report).infohash_v2 == model.infohash
    assert b"secret" not in sent and b"o/r" not in sent
    database.close()


def test_telemetry_is_off_until_switched_on(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "telemetry", "status")["telemetry"] is False
    told(capsys, "telemetry", "on")
    assert told(capsys, "telemetry", "status")["telemetry"] is True
    told(capsys, "telemetry", "off")
    assert told(capsys, "telemetry", "status")["telemetry"] is False


def test_a_reporter_is_another_one_at_every_registry_and_never_the_node(tmp_path: Path) -> None:
    me = key(1)
    names = [
        telemetry.reporter(me, url).public_key for url in ("https://a.example", "https://b.example", "http://a.example")
    ]
    assert len({*names, me.public_key}) == 4
    assert telemetry.reporter(me, "https://A.example:443/path").public_key == names[0]
    assert telemetry.reporter(key(2), "https://a.example").public_key != names[0]


LISTED = Listing("a:1m:base:q8_0", "1" * 64, "a.gguf", 1, b"", "2" * 64, REGISTRY, 50.0)


@pytest.mark.parametrize(
    ("kind", "outcome", "expected"),
    [
        ("pull", {"sha256": "0" * 64, "infohash_v2": "3" * 64, "from_store": True}, []),  # nothing was downloaded
        ("add", {"sha256": "0" * 64, "infohash_v2": "3" * 64, "from_store": False}, []),
        ("pull", {"sha256": "0" * 64, "infohash_v2": "3" * 64, "from_store": False}, ["ok"]),
        ("pull", VerificationFailed("x"), ["failed"]),
        ("pull", TransferFailed("x"), ["failed"]),
        ("pull", Cancelled("x"), []),
        ("pull", NoSpace("x"), []),
    ],
)
async def test_only_pulls_that_ended_by_themselves_are_reported(
    kind: Any, outcome: dict[str, Any] | HaliError, expected: list[str], tmp_path: Path, model: Model
) -> None:
    part, database = local(tmp_path, telemetry="on")
    part.finder._remember("listed", msgspec.structs.replace(LISTED, torrent=model.torrent))
    await ended(part, database, JobSpec(kind, "Listed"), outcome)
    assert [unseal(body, Report).outcome for body in bodies(part)] == expected
    database.close()


@pytest.mark.parametrize("outcome", [{"infohash_v2": "3" * 64, "from_store": False}, VerificationFailed("x")])
async def test_a_part_of_a_model_is_neither_published_nor_reported(
    outcome: dict[str, Any] | HaliError, tmp_path: Path, model: Model
) -> None:
    part, database = local(tmp_path, telemetry="on", registry__publish="on")
    part.finder._remember("listed", msgspec.structs.replace(LISTED, torrent=model.torrent))
    await ended(part, database, JobSpec("pull", "Listed", layers="0-2"), outcome)
    assert part.outbox.events() == []
    database.close()


async def test_a_failure_of_something_that_no_registry_listed_is_nobodys_business(tmp_path: Path) -> None:
    part, database = local(tmp_path, telemetry="on")
    await ended(part, database, JobSpec("pull", "unlisted"), VerificationFailed("x"))
    assert part.outbox.events() == []
    database.close()


async def test_without_telemetry_nothing_is_even_written_down(tmp_path: Path) -> None:
    part, database = local(tmp_path)
    await ended(
        part, database, JobSpec("pull", "x"), {"sha256": "0" * 64, "infohash_v2": "3" * 64, "from_store": False}
    )
    assert part.outbox.events() == []
    database.close()


FILE = {"name": "a-00001-of-00002.gguf", "size": 1, "sha256": "4" * 64, "blake3": "5" * 64}
TWO = [FILE, FILE | {"name": "a-00002-of-00002.gguf"}]


def described(model: Model, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The result of a pull of these files."""
    hashes = {"sha256": "4" * 64, "blake3": "5" * 64, "infohash_v1": model.hashes.v1, "infohash_v2": model.infohash}
    about = {"model_id": "a:1m:base:q8_0", "size": len(parts), "downloaded_at": "2026-01-01T00:00:00Z"}
    return {**hashes, **about, "files": [each["name"] for each in parts], "parts": parts, "from_store": False}


@pytest.mark.parametrize(
    ("parts", "told"),
    [([FILE | {"hf_path": "in/a/folder/a.gguf"}], ["publish", "report"]), (TWO, ["report"])],
)
async def test_a_model_of_several_files_is_reported_and_one_of_a_subfolder_published_too(
    parts: list[dict[str, Any]], told: list[str], tmp_path: Path, model: Model
) -> None:
    part, database = local(tmp_path, telemetry="on", registry__publish="on")
    await ended(part, database, JobSpec("pull", "a"), described(model, parts))
    assert [event.kind for event in part.outbox.events()] == told
    database.close()


@pytest.mark.parametrize("strange", [{"hf_repo": "no repository", "hf_revision": "6" * 40}, {"model_id": None}])
async def test_what_cannot_be_published_is_reported_all_the_same(
    strange: dict[str, Any], tmp_path: Path, model: Model
) -> None:
    part, database = local(tmp_path, telemetry="on", registry__publish="on")
    await ended(part, database, JobSpec("pull", "a"), {**described(model, [FILE]), **strange})
    assert [event.kind for event in part.outbox.events()] == ["report"]
    database.close()

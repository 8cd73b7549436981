"""Static registries: what is written is read, and nothing that was changed, is older, or is by another key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from hali.config.registries import parse
from hali.model.errors import HaliError, NotFound, UsageError
from hali.registry import folder
from hali.registry.documents import Index, Manifest
from hali.registry.folder import Item, Seen
from hali.registry.signing import seal, unseal
from hali.registry.sources import FolderSource
from hali.store.database import Database
from tests.fakes.scripted_http import Reply, ScriptedServer
from tests.unit.registry.conftest import Author, Model

pytestmark = pytest.mark.blocking_ok  # the test writes the folder in its own loop


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "hali.db")
    yield made
    made.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "a folder"


def write(root: Path, author: Author, *models: Model, closings: tuple[bytes, ...] = ()) -> None:
    items = [
        Item(author.manifest(model, model_id=f"m{number}:1m:base:q8_0"), model.torrent)
        for number, model in enumerate(models)
    ]
    index = seal(Index(**author.signed(), entries=[folder.entry_of(item) for item in items]), author.identity)
    assert folder.write(root, index, items, closings) == len(models)


def reader(root: Path, author: Author, database: Database) -> FolderSource:
    return FolderSource(parse(f"{root.as_uri()}#ed25519:{author.name}"), database)


async def fails(source: FolderSource, name: str) -> str:
    with pytest.raises(HaliError) as caught:
        await source.listing(name)
    return caught.value.code


async def test_an_id_is_found_among_any_number_of_ids_that_hold_its_words(
    root: Path, alice: Author, model: Model, database: Database
) -> None:
    longer = [f"m-{number}:1m:base:q8_0" for number in range(150)]
    entries = [
        msgspec.structs.replace(folder.entry_of(Item(alice.manifest(model), model.torrent)), model_id=model_id)
        for model_id in (*longer, "m:1m:base:q8_0")
    ]
    index = seal(Index(**alice.signed(), entries=entries), alice.identity)
    folder.write(root, index, [Item(alice.manifest(model), model.torrent)], ())
    for name in ("m:1m:base:q8_0", "m", "m:1m"):
        found = await reader(root, alice, database).candidates(name, 100, untrusted=True)
        assert len(found) == 100
        assert found[0].model_id == "m:1m:base:q8_0"


async def test_a_folder_lists_what_was_written(
    root: Path, alice: Author, model: Model, other: Model, database: Database
) -> None:
    write(root, alice, model, other)
    source = reader(root, alice, database)
    assert [each.model_id for each in await source.candidates("1m q8_0", 10, untrusted=False)] == [
        "m0:1m:base:q8_0",
        "m1:1m:base:q8_0",
    ]
    assert [each.model_id for each in await source.candidates("m1:1m", 10, untrusted=False)] == ["m1:1m:base:q8_0"]
    for name in (other.infohash, other.hashes.v1, other.digests.sha256.hex()):
        assert name is not None
        found = await source.listing(name)
        assert (found.model_id, found.trust, found.torrent) == ("m1:1m:base:q8_0", None, other.torrent)
    with pytest.raises(NotFound):
        await source.listing("0" * 64)


def test_a_manifest_stays_as_long_as_its_publisher_says_the_same(
    root: Path, alice: Author, bob: Author, model: Model
) -> None:
    def says(author: Author, model_id: str = "m0:1m:base:q8_0") -> bytes | None:
        return folder.kept(root, unseal(author.manifest(model, model_id=model_id), Manifest))

    assert says(alice) is None
    write(root, alice, model)
    place = root / folder.manifest_path(model.infohash)
    assert says(alice) == place.read_bytes()
    assert says(alice, "other:1m:base:q8_0") is None
    assert says(bob) is None
    place.write_bytes(place.read_bytes().replace(b"m0:1m", b"m1:1m"))
    assert says(alice, "m1:1m:base:q8_0") is None


async def test_a_place_where_no_folder_can_be_is_told_with_what_to_do(root: Path, alice: Author, model: Model) -> None:
    root.touch()
    for place in (root, root / "below"):
        with pytest.raises(UsageError, match="cannot write a registry to"):
            write(place, alice, model)


async def test_a_web_server_serves_it_as_well(root: Path, alice: Author, model: Model, database: Database) -> None:
    write(root, alice, model)
    names = [folder.KEYS, folder.INDEX, folder.manifest_path(model.infohash), folder.torrent_path(model.infohash)]
    with ScriptedServer(*(Reply(body=(root / name).read_bytes()) for name in names)) as server:
        source = FolderSource(parse(f"{server.url}/sub/#ed25519:{alice.name}"), database)
        assert (await source.listing(model.infohash)).sha256 == model.digests.sha256.hex()
    assert [sent.path for sent in server.sent] == [f"/sub/{name}" for name in names]


async def test_an_index_by_another_key_is_refused(
    root: Path, alice: Author, bob: Author, model: Model, database: Database
) -> None:
    write(root, bob, model)
    source = reader(root, alice, database)
    assert await fails(source, model.infohash) == "wrong_key"
    with pytest.raises(HaliError, match="not by the pinned key"):
        await source.candidates("", 10, untrusted=True)


def _other_torrent(root: Path, model: Model, other: Model) -> None:
    (root / folder.torrent_path(model.infohash)).write_bytes(other.torrent)


def _other_manifest(root: Path, model: Model, other: Model) -> None:
    path = root / folder.manifest_path(model.infohash)
    path.write_bytes((root / folder.manifest_path(other.infohash)).read_bytes())


def _later_index(root: Path, model: Model, other: Model) -> None:
    index = json.loads((root / folder.INDEX).read_bytes())
    index["document"]["sequence"] += 1
    (root / folder.INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("tamper", "code"), [(_other_torrent, "changed"), (_other_manifest, "changed"), (_later_index, "bad_signature")]
)
async def test_what_was_changed_is_refused(
    tamper: Callable[[Path, Model, Model], None],
    code: str,
    root: Path,
    alice: Author,
    model: Model,
    other: Model,
    database: Database,
) -> None:
    write(root, alice, model, other)
    tamper(root, model, other)
    assert await fails(reader(root, alice, database), model.infohash) == code


async def test_an_older_index_than_one_seen_is_refused_also_after_a_restart(
    root: Path, alice: Author, model: Model, database: Database
) -> None:
    write(root, alice, model)
    old = (root / folder.INDEX).read_bytes()
    write(root, alice, model)
    await reader(root, alice, database).listing(model.infohash)
    (root / folder.INDEX).write_bytes(old)
    assert await fails(reader(root, alice, database), model.infohash) == "rollback"


async def test_a_slower_question_does_not_forget_what_a_faster_one_saw(
    root: Path, alice: Author, model: Model, database: Database
) -> None:
    source = reader(root, alice, database)
    for sequence in (5, 9, 7):
        source._remember(Seen(alice.name, sequence))
    assert source._seen() == Seen(alice.name, 9)


async def test_a_manifest_of_a_publisher_who_is_not_pinned_is_refused(
    root: Path, alice: Author, bob: Author, model: Model, database: Database
) -> None:
    item = Item(bob.manifest(model), model.torrent)
    index = seal(Index(**alice.signed(), entries=[folder.entry_of(item)]), alice.identity)
    folder.write(root, index, [item], [])
    assert await fails(reader(root, alice, database), model.infohash) == "wrong_key"


async def test_readers_follow_a_rotation_from_the_pinned_key_and_never_go_back(
    root: Path, alice: Author, bob: Author, model: Model, other: Model, database: Database
) -> None:
    item = Item(alice.manifest(other), other.torrent)  # signed while the old key was in force
    rotation = alice.rotation(bob)
    late = Item(alice.manifest(model), model.torrent)
    index = Index(**bob.signed(), entries=[folder.entry_of(item), folder.entry_of(late)])
    folder.write(root, seal(index, bob.identity), [item, late], [rotation])
    source = reader(root, alice, database)
    for _ in range(2):  # who has followed the rotation takes what a new reader takes
        assert (await source.listing(other.infohash)).publisher == alice.name
        assert await fails(source, model.infohash) == "wrong_key"  # signed after the key was closed
    # A thief of the old key hides the rotation and signs a later index: whoever has seen the new key is not taken in.
    for _ in range(5):
        alice.signed()
    for closings in ((), (alice.rotation(Author(3)),)):  # or puts another one in its place
        write(root, alice if not closings else Author(3), model, closings=closings)
        assert await fails(source, model.infohash) == "rollback"


async def test_a_revoked_key_ends_the_registry(root: Path, alice: Author, model: Model, database: Database) -> None:
    write(root, alice, model, closings=(alice.revocation(),))
    assert await fails(reader(root, alice, database), model.infohash) == "key_revoked"


async def test_a_rotation_forged_by_somebody_else_is_refused(
    root: Path, alice: Author, bob: Author, model: Model, database: Database
) -> None:
    forged = json.loads(bob.rotation(Author(3)))
    forged["document"]["publisher"] = alice.name
    write(root, bob, model, closings=(json.dumps(forged).encode(),))
    assert await fails(reader(root, alice, database), model.infohash) == "bad_signature"


async def test_a_folder_that_is_not_there_or_damaged_is_told(
    root: Path, alice: Author, model: Model, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await fails(reader(root, alice, database), model.infohash) == "registry_unavailable"
    write(root, alice, model)
    (root / folder.KEYS).write_bytes(msgspec.json.encode({"no": "list"}))
    assert await fails(reader(root, alice, database), model.infohash) == "protocol"
    write(root, alice, model)
    monkeypatch.setattr(folder, "MAX_INDEX", 100)
    assert await fails(reader(root, alice, database), model.infohash) == "protocol"

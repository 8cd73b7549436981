"""Each way in for names, paths and URLs has a guard, and what is bad was thrown at it: nothing gets out of the store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import libtorrent as lt
import msgspec
import pytest

from hali.api import ApiDeps, build_app
from hali.daemon.catalog import LibraryCatalog
from hali.model.errors import HaliError, NotFound, Refused, StoreDamaged, UsageError
from hali.model.filenames import unsafe
from hali.model.names import ModelId, derive, parse
from hali.share.importing import NOTE, bring_in, examine
from hali.share.incoming import JOURNAL, METAINFO, IncomingFile
from hali.share.library import Library
from hali.share.targets import RepoTarget, parse_target
from hali.store.journal import Journal
from hali.store.models import METADATA, Metadata, ModelStore, the_one
from hali.transfer import magnet, metainfo
from hali.transfer.hub_choice import choose_model
from hali.transfer.hub_models import RepoFile, RepoListing
from hali.wire import lan, lan_v1
from tests.entry_points import TABLE, found, resolves
from tests.fakes.attacks import BAD_NAMES, odd_links
from tests.named_tests import is_test

BAD = pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES.keys())
GOOD = "Good-1B-Q8_0.gguf"


def test_every_entry_point_has_a_row_and_every_row_an_entry_point() -> None:
    points = found()
    assert points - set(TABLE) == set(), "give each a guard, a test that attacks it, and a row in tests/entry_points.py"
    assert set(TABLE) - points == set(), "these are gone: remove their rows"


@pytest.mark.parametrize("point", TABLE)
def test_the_guard_and_the_attack_that_a_row_names_exist(point: str) -> None:
    guard, attack = TABLE[point]
    if guard.startswith("ours: "):
        assert attack == ""
    else:
        assert resolves(guard), f"{guard} is gone"
        assert is_test(attack), f"{attack} is gone"


# ---- names


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ModelStore]:
    """A store with one model in a folder that has neighbours; nothing may happen to them."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    made = ModelStore(tmp_path / "home" / "models")
    source = made.incoming("ab" * 32) / GOOD
    source.write_bytes(b"good")
    made.place(source, derive(GOOD), meta())
    made.discard_incoming("ab" * 32)
    (tmp_path / "home" / "torrents").mkdir()
    yield made
    assert {path.name for path in tmp_path.iterdir()} == {"home", "outside"}
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"precious": b"precious"}


def meta(**changes: Any) -> Metadata:
    right = Metadata(
        model_id=str(derive(GOOD)),
        sha256="ab" * 32,
        blake3="cd" * 32,
        infohash_v1="ab" * 20,
        infohash_v2="cd" * 32,
        files=[GOOD],
        size=4,
        downloaded_at="2026-01-01T00:00:00Z",
        mtime_ns=0,
    )
    return msgspec.structs.replace(right, **changes)


def info_of(name: str, *, form: str) -> bytes:
    """A bencoded info dictionary of one file of 5 bytes."""
    raw = name.encode(errors="surrogatepass")
    info: dict[bytes, Any] = {b"name": raw, b"piece length": 16384}
    if form != "v2":
        info |= {b"length": 5, b"pieces": bytes(20)}
    if form != "v1":
        info |= {b"meta version": 2, b"file tree": {raw: {b"": {b"length": 5, b"pieces root": b"r" * 32}}}}
    return bytes(lt.bencode(info))


@BAD
@pytest.mark.parametrize("form", ["v1", "v2", "hybrid"])
def test_no_name_of_a_link_or_torrent_becomes_a_path(name: str, form: str) -> None:
    """`.torrent` files and the metadata that peers send are read by one parser; a magnet's name is dropped."""
    with pytest.raises(HaliError):
        metainfo.parse(metainfo.of_info(info_of(name, form=form)))
    assert metainfo.parse(metainfo.of_info(info_of(GOOD, form=form))).name == GOOD
    assert magnet.parse(magnet.build(metainfo.InfoHashes("ab" * 20, None), name)).name is None


@BAD
def test_what_is_pulled_is_no_path_out_and_no_url_inside(name: str) -> None:
    for what in (
        name,
        f"hali://model/owner/repo?file={quote(name, safe='')}",
        f"owner/repo/{name}",
        f"owner/repo@main/{name}",
        f"https://huggingface.co/o/r/resolve/main/{name}",
    ):
        try:
            target = parse_target(what)
        except UsageError:
            continue
        if isinstance(target, RepoTarget):  # "owner/repo" and an empty rest, or what is left without its trailing space
            assert target.file is None or not any(unsafe(part) for part in target.file.split("/"))


@pytest.mark.parametrize("link", [link for link in odd_links(4321) if "://" in link])
def test_a_url_of_an_odd_form_is_not_taken_even_from_the_user(link: str) -> None:
    with pytest.raises(UsageError):
        parse_target(link + ".torrent")


@BAD
def test_a_quant_is_compared_and_never_opened(name: str) -> None:
    listing = RepoListing("o/r", "a" * 40, (RepoFile(GOOD, 4, "ab" * 32),))
    with pytest.raises(NotFound):
        choose_model(listing, quant=name or "x")
    with pytest.raises(NotFound):
        choose_model(listing, file=name)


@BAD
def test_names_of_models_are_compared_and_never_opened(store: ModelStore, name: str) -> None:
    with pytest.raises(NotFound):
        the_one(store.records(), name)


@BAD
async def test_names_in_http_paths_are_compared_and_never_opened(store: ModelStore, name: str) -> None:
    library = Library(store, store.root.parent / "torrents", lambda records: None)
    library.scan()
    catalog = LibraryCatalog(library)
    with pytest.raises(NotFound):
        catalog.find(name)
    app = build_app(ApiDeps(catalog=catalog, router=None))  # type: ignore[arg-type]  # it answers no question of these
    path = httpx.URL("http://127.0.0.1:1").copy_with(raw_path=b"/v1/models/" + _escaped(name))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
        answer = await client.get(path)
    assert answer.status_code == 404 or (name == "" and answer.status_code == 200), answer.text


def _escaped(name: str) -> bytes:
    return "".join(f"%{byte:02X}" for byte in name.encode()).encode()


@BAD
def test_a_file_of_a_bad_name_is_not_imported(tmp_path: Path, name: str) -> None:
    if "/" in name or "\0" in name or len(name) > 255 or name in ("", ".", ".."):
        with pytest.raises(HaliError):
            examine(path := Path(f"{tmp_path}/{name}".replace("\0", "")) / "gone", path)
        return
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UsageError):
        examine(tmp_path / name, tmp_path / name)


@pytest.mark.parametrize("name", [JOURNAL, "JOURNAL", f"{JOURNAL}.new", METAINFO, METADATA, NOTE])
async def test_no_file_takes_the_name_of_one_of_ours(store: ModelStore, name: str) -> None:
    folder = store.incoming("ef" * 32)
    with pytest.raises(Refused):
        await IncomingFile.open(folder, name, 4)
    assert list(folder.iterdir()) == []


@BAD
def test_metadata_names_no_file_outside_its_folder(store: ModelStore, name: str) -> None:
    (record,) = store.records()
    for field in ("files", "model_id", "infohash_v1", "infohash_v2", "sha256", "also_torrents"):
        value: Any = [name] if field in ("files", "also_torrents") else name
        (record.directory / METADATA).write_bytes(msgspec.json.encode(meta(**{field: value})))
        assert store.records() == []
        with pytest.raises(StoreDamaged):
            store._read(record.directory / METADATA)
    assert (record.directory / GOOD).read_bytes() == b"good"


@BAD
def test_words_of_a_gguf_header_become_no_path(store: ModelStore, name: str) -> None:
    for model in (derive(name), derive("x.gguf", size_label=name, quant_hint=name)):
        assert model == derive_again(model)
        directory = store._directory_for(model, meta(), store.root)
        assert directory.resolve().is_relative_to(store.root) and len(directory.relative_to(store.root).parts) == 3


def derive_again(model: ModelId) -> ModelId | None:
    return parse(str(model))


@BAD
def test_names_of_lan_packets_are_for_showing_only(name: str) -> None:
    """No path is made of them, so the one rule is that they cannot write to a terminal."""
    good = lan_v1.ModelV1("good", "ab" * 20)
    bad = lan_v1._sound(lan_v1.ModelV1(name, "ab" * 20))
    assert bad is None or bad.id.isprintable()
    assert lan_v1._sound(good) == good and lan_v1._sound(lan_v1.ModelV1("good", name)) is None
    packet = lan.Packet(kind=0, key=bytes(32), session=bytes(16), epoch=1, sequence=1, time=1)
    model = lan.Model(bytes(16), bytes(32), b"", name, 1)
    assert name.isprintable() or not lan._is_sound(msgspec.structs.replace(packet, models=(model,)))


# ---- symbolic links


@pytest.mark.parametrize("at", [".incoming", f".incoming/{'ef' * 32}", "new", "new/1b-base", "new/1b-base/q8_0"])
def test_a_symbolic_link_leads_nothing_out_of_the_store(store: ModelStore, tmp_path: Path, at: str) -> None:
    link = store.root / at
    if at == ".incoming":
        link.rmdir()
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "outside", target_is_directory=True)
    if at.startswith(".incoming"):
        with pytest.raises(Refused):
            store.incoming("ef" * 32)
        store.discard_incoming("ef" * 32)
    else:
        source = store.incoming("ef" * 32) / "New-1B-Q8_0.gguf"
        source.write_bytes(b"new")
        with pytest.raises(Refused):
            store.place(source, derive(source.name), meta(sha256="ef" * 32, files=[source.name]))
        assert source.read_bytes() == b"new"


def test_a_model_folder_that_is_a_link_is_not_emptied_at_its_end(store: ModelStore, tmp_path: Path) -> None:
    (record,) = store.records()
    moved = tmp_path / "home" / "elsewhere"
    os.rename(record.directory, moved)
    record.directory.symlink_to(moved, target_is_directory=True)
    (record,) = store.records()  # reading follows: a user may keep a model on another disk
    with pytest.raises(Refused):
        store.remove(record)
    assert (moved / GOOD).read_bytes() == b"good"


@pytest.mark.parametrize("name", ["New-1B-Q8_0.gguf", JOURNAL, "journal.new", NOTE])
async def test_a_link_in_place_of_a_file_on_its_way_in_is_not_written_through(
    store: ModelStore, tmp_path: Path, name: str
) -> None:
    precious, folder = tmp_path / "outside" / "precious", store.incoming("ef" * 32)
    if name == JOURNAL:
        Journal.open(folder / "true", 8, name="precious", sha256=None, tag=None).close()
        os.replace(folder / "true", tmp_path / "home" / "journal")
        precious = tmp_path / "home" / "journal"
    before = precious.read_bytes()
    (folder / name).symlink_to(precious)
    if name == NOTE:
        (tmp_path / "home" / "given.gguf").write_bytes(b"given")
        bring_in(tmp_path / "home" / "given.gguf", folder / "given.gguf", link=False, tag="1")
    else:
        await _write_all(folder, "precious" if name == JOURNAL else "New-1B-Q8_0.gguf")
    assert precious.read_bytes() == before


async def _write_all(folder: Path, name: str) -> None:
    try:
        incoming = await IncomingFile.open(folder, name, 8)
    except (HaliError, OSError):
        return
    with incoming:
        await incoming.write_piece(0, memoryview(b"12345678"))


def test_a_key_of_a_folder_is_a_name(store: ModelStore) -> None:
    for name in BAD_NAMES.values():
        with pytest.raises(HaliError):
            store.incoming(name)

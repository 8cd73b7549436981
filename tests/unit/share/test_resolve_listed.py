"""Names that neither store nor LAN know are looked up in the registries, and a listing becomes a plan that trusts nobody."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import libtorrent as lt
import msgspec
import pytest

from hali.hashing import hash_file
from hali.model.errors import NotFound, TransferFailed, UsageError
from hali.model.ids import InfoHashes
from hali.share.base import Listing, Offer
from hali.share.library import Library
from hali.share.resolve import Resolver
from hali.share.targets import parse_target
from hali.store.models import ModelStore
from hali.transfer import metainfo
from hali.transfer.hub import RepoFile, RepoListing

ID = "tiny:1b:base:q8_0"


class Lan:
    def __init__(self, *offers: Offer) -> None:
        self.offers, self.alone = offers, not offers
        self.asked: list[str] = []

    async def ask(self, name: str) -> tuple[Offer, ...]:
        self.asked.append(name)
        return self.offers


class Registry:
    """Knows one listing under any name, and remembers what it was asked."""

    def __init__(self, listing: Listing | None) -> None:
        self.listing = listing
        self.asked: list[tuple[str, bool]] = []

    async def locate(self, name: str, *, allow_untrusted: bool = False) -> Listing | None:
        self.asked.append((name, allow_untrusted))
        return self.listing


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    path = tmp_path / "Tiny-1B-Q8_0.gguf"
    path.write_bytes(b"x" * 1000)
    digests = hash_file(path)
    torrent = metainfo.build(digests, path.name)
    return Listing(ID, digests.sha256.hex(), path.name, 1000, torrent, "a" * 64, "http://r", 50.0)


class Repository:
    """The hub, with one file in one repository; nothing when it is down."""

    def __init__(self, *files: RepoFile) -> None:
        self.files = files

    async def resolve(self, repo: str, revision: str | None = None) -> RepoListing:
        if not self.files:
            raise TransferFailed("down")
        return RepoListing(repo, revision or "", self.files)


def resolver(tmp_path: Path, lan: Lan, registry: Registry, hub: Repository | None = None) -> Resolver:
    async def no_metainfo(url: str) -> bytes:
        raise NotFound(url)

    library = Library(ModelStore(tmp_path / "models"), tmp_path / "torrents", lambda records: None)
    return Resolver(library, lan, hub or Repository(), fetch_metainfo=no_metainfo, directory=registry)


async def test_a_name_is_asked_of_the_registries_only_when_the_lan_does_not_know_it(
    tmp_path: Path, listing: Listing
) -> None:
    registry = Registry(listing)
    offer = Offer(ID, "b" * 32, InfoHashes("c" * 40, "d" * 64), (("192.0.2.1", 1),))
    await resolver(tmp_path, Lan(offer), registry).plan(parse_target("tiny"))
    assert registry.asked == []
    plan = await resolver(tmp_path, Lan(), registry).plan(parse_target("tiny"), allow_untrusted=True)
    assert registry.asked == [("tiny", True)]
    assert (plan.name, plan.key, plan.sha256_prefix, plan.ref) == (ID, listing.sha256, listing.sha256, None)
    assert plan.torrent is not None and plan.torrent.infohashes == metainfo.parse(listing.torrent).infohashes
    with pytest.raises(NotFound, match="in a registry"):
        await resolver(tmp_path, Lan(), Registry(None)).plan(parse_target("tiny"))


async def test_a_bare_infohash_and_a_sha256_are_asked_for_too(tmp_path: Path, listing: Listing) -> None:
    for name in (listing.sha256, "c" * 40):
        registry = Registry(listing)
        plan = await resolver(tmp_path, Lan(), registry).plan(parse_target(name))
        assert (registry.asked, plan.sha256_prefix) == ([(name, False)], listing.sha256)
    registry = Registry(listing)
    await resolver(tmp_path, Lan(), registry).plan(parse_target(f"magnet:?xt=urn:btih:{'c' * 40}&x.pe=192.0.2.1:1"))
    assert registry.asked == []  # the link itself says where


async def test_a_repository_that_the_publisher_names_is_a_source_only_when_the_hub_says_the_same(
    tmp_path: Path, listing: Listing
) -> None:
    registry = Registry(msgspec.structs.replace(listing, repo="owner/repo", revision="ab" * 20))
    same = RepoFile(f"sub/{listing.file}", 1000, listing.sha256)
    plan = await resolver(tmp_path, Lan(), registry, Repository(same)).plan(parse_target("tiny"))
    assert plan.ref is not None
    assert (plan.ref.sha256, plan.ref.repo, plan.ref.revision) == (listing.sha256, "owner/repo", "ab" * 20)
    assert (plan.repo_path, plan.ref.file, plan.ref.size) == (same.name, listing.file, 1000)
    other = RepoFile(listing.file, 1000, "0" * 64)
    for hub in (Repository(other), Repository()):
        plan = await resolver(tmp_path, Lan(), registry, hub).plan(parse_target("tiny"))
        assert (plan.ref, plan.sha256_prefix, plan.torrent is not None) == (None, listing.sha256, True)


async def test_web_seeds_that_a_stranger_may_not_name_are_dropped(tmp_path: Path, listing: Listing) -> None:
    bad = [
        "http://1.1.1.1/f",
        "https://127.0.0.1/f",
        "https://[::1]/f",
        "https://10.0.0.1/f",
        "https://169.254.169.254/f",
    ]
    torrent: dict[bytes, Any] = lt.bdecode(listing.torrent)
    torrent[b"url-list"] = [url.encode() for url in [*bad, "ftp://1.1.1.1/f", "https://1.1.1.1/f"]]
    listed = msgspec.structs.replace(listing, torrent=bytes(lt.bencode(torrent)))
    plan = await resolver(tmp_path, Lan(), Registry(listed)).plan(parse_target("tiny"))
    assert isinstance(plan.torrent, metainfo.Metainfo)
    assert plan.torrent.webseeds == ("https://1.1.1.1/f",)


async def test_a_pull_of_a_repository_asks_the_lan_first_only_if_anybody_there_has_anything(
    tmp_path: Path, listing: Listing
) -> None:
    file = RepoFile(listing.file, 1000, listing.sha256)
    target = parse_target("owner/repo")
    nobody, somebody = Lan(), Lan(Offer(ID, listing.sha256, InfoHashes("c" * 40, "d" * 64), (("192.0.2.1", 1),)))
    for lan, asked, peers in ((nobody, [], ()), (somebody, [listing.sha256], (("192.0.2.1", 1),))):
        plan = await resolver(tmp_path, lan, Registry(None), Repository(file)).plan(target)
        assert (lan.asked, plan.peers, plan.ref is not None) == (asked, peers, True)


async def test_an_empty_file_of_a_repository_is_refused_by_name_before_anything_is_fetched(tmp_path: Path) -> None:
    hub = Repository(RepoFile("sub/Nothing-Q8_0.gguf", 0, "e3" * 32))
    with pytest.raises(UsageError, match=r"owner/repo: sub/Nothing-Q8_0\.gguf is empty"):
        await resolver(tmp_path, Lan(), Registry(None), hub).plan(parse_target("owner/repo"))


async def test_a_torrent_is_a_file_and_nothing_that_has_to_be_waited_for(tmp_path: Path, listing: Listing) -> None:
    found = resolver(tmp_path, Lan(), Registry(None))
    path = tmp_path / "x.torrent"
    os.mkfifo(path)
    with pytest.raises(UsageError, match="is not a file"):
        await found.plan(parse_target(str(path)))
    path.unlink()
    with pytest.raises(NotFound, match="cannot read"):
        await found.plan(parse_target(str(path)))
    path.write_bytes(bytes(metainfo.MAX_BYTES + 1))
    with pytest.raises(TransferFailed, match="too large"):
        await found.plan(parse_target(str(path)))
    path.write_bytes(listing.torrent)
    assert (await found.plan(parse_target(str(path)))).name == listing.file


async def test_a_folder_called_like_a_torrent_leaves_nothing_open(tmp_path: Path) -> None:
    found = resolver(tmp_path, Lan(), Registry(None))
    (tmp_path / "x.torrent").mkdir()
    ask = parse_target(str(tmp_path / "x.torrent"))
    with pytest.raises(NotFound, match="Is a directory"):  # also starts the thread that reads
        await found.plan(ask)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(NotFound, match="Is a directory"):
        await found.plan(ask)
    assert len(os.listdir("/proc/self/fd")) == len(before)

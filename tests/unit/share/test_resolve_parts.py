"""Nodes that hold parts of a model help a pull, and are never all that it relies on."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hali.daemon.neighbours import lan_part
from hali.model.errors import NotFound
from hali.model.ids import InfoHashes
from hali.share.base import Offer
from hali.share.library import Library
from hali.share.partials import PartialEntry
from hali.share.resolve import Resolver
from hali.share.targets import parse_target
from hali.store.models import ModelStore
from hali.store.partials import PartialRecord
from hali.transfer.hub import Hub
from hali.transfer.lan_packets import to_wire
from hali.wire.lan import Flag
from tests.unit.store.test_partials import GOOD

pytestmark = pytest.mark.anyio

HASHES = InfoHashes("c" * 40, "d" * 64)
PART = Offer("tiny:1b:base:q8_0", "b" * 32, HASHES, (("192.0.2.1", 1),), complete=False)
WHOLE = msgspec.structs.replace(PART, peers=(("192.0.2.2", 2),), complete=True)


class Lan:
    alone = False

    def __init__(self, *offers: Offer) -> None:
        self.offers = offers

    async def ask(self, name: str) -> tuple[Offer, ...]:
        return self.offers


def resolver(tmp_path: Path, *offers: Offer) -> Resolver:
    async def no_metainfo(url: str) -> bytes:
        raise NotFound(url)

    library = Library(ModelStore(tmp_path / "models"), tmp_path / "torrents", lambda records: None)
    return Resolver(library, Lan(*offers), Hub("http://127.0.0.1:9"), fetch_metainfo=no_metainfo)


async def test_a_name_that_only_parts_have_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await resolver(tmp_path, PART).plan(parse_target("tiny"))


@pytest.mark.parametrize("offers", [(PART, WHOLE), (WHOLE, PART)], ids=["part first", "whole first"])
async def test_parts_are_peers_beside_a_whole(tmp_path: Path, offers: tuple[Offer, ...]) -> None:
    plan = await resolver(tmp_path, *offers).plan(parse_target("tiny"))
    assert set(plan.peers) == {("192.0.2.1", 1), ("192.0.2.2", 2)}


async def test_who_pulls_by_infohash_meets_parts_too_and_learns_the_promised_sha256(tmp_path: Path) -> None:
    found = resolver(tmp_path, PART)
    assert await found.peers(HASHES) == [("192.0.2.1", 1)]
    assert await found.sha256_prefix(HASHES) == "b" * 32
    other = msgspec.structs.replace(PART, sha256_prefix="e" * 32)
    assert await resolver(tmp_path, PART, other).sha256_prefix(HASHES) is None
    assert await resolver(tmp_path).sha256_prefix(HASHES) is None


@pytest.mark.parametrize("digits", [32, 64])
def test_a_part_is_announced_as_a_part(digits: int) -> None:
    meta = msgspec.structs.replace(GOOD, sha256="c" * digits)
    model = lan_part(PartialEntry(PartialRecord(meta, Path("x")), seeded=True))
    assert model is not None
    (packed,) = to_wire([model])
    assert (packed.flags, packed.sha256, packed.size) == (Flag.PARTIAL, b"\xcc" * 16, GOOD.size)


def test_a_part_that_is_not_served_or_of_a_file_without_a_promise_is_not_announced() -> None:
    assert lan_part(PartialEntry(PartialRecord(GOOD, Path("x")))) is None
    nameless = msgspec.structs.replace(GOOD, sha256=None)
    assert lan_part(PartialEntry(PartialRecord(nameless, Path("x")), seeded=True)) is None

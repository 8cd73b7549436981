"""Which of the models that nodes of the LAN tell of a name means: the same as it would in the store."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hali.model.errors import AmbiguousName, NotFound
from hali.model.ids import InfoHashes
from hali.share.base import Offer
from hali.share.targets import of_quant, parse_target
from hali.transfer.lan_match import matcher, wants_for
from tests.unit.share.test_resolve_parts import resolver

pytestmark = pytest.mark.anyio


def offer(model_id: str, digit: str) -> Offer:
    hashes = InfoHashes(v1="c" + digit * 39, v2="d" + digit * 63)
    return Offer(model_id, "b" + digit * 31, hashes, (("192.0.2.1", 1),), size=7)


LLAMA = offer("llama:7b:instruct:q4_0", "1")
OTHERS = (
    offer("codellama:7b:instruct:q4_0_4_4", "2"),
    offer("llama:7b:instruct:q4_0_4_4", "3"),
    offer("llama:70b:instruct:q4_0", "4"),
)


def heard(text: str, *offers: Offer) -> list[Offer]:
    """Those that nodes would tell of, asked for `text`."""
    fits = matcher(wants_for(text))
    raw = ((o, o.sha256_prefix, o.infohashes.v2 or "", o.infohashes.v1 or "") for o in offers)
    return [o for o, *hashes in raw if fits(o.model_id, *map(bytes.fromhex, hashes))]


@pytest.mark.parametrize("what", [LLAMA.model_id, f"hali://model/{LLAMA.model_id}"])
async def test_an_id_means_itself_and_never_one_that_contains_it(tmp_path: Path, what: str) -> None:
    near = heard(LLAMA.model_id, LLAMA, *OTHERS)
    assert len(near) == 3  # nodes tell of more than is meant
    assert (await resolver(tmp_path, *near).plan(parse_target(what))).name == LLAMA.model_id
    with pytest.raises(NotFound, match="on the LAN is codellama"):
        await resolver(tmp_path, *OTHERS[:1]).plan(parse_target(what))


@pytest.mark.parametrize(
    ("name", "quant"),
    [("llama:7b", "Q4_0"), ("llama:7b:q4_0", None), ("llama:q4_0_4_4", None), ("llama:70b", None)],
)
async def test_parts_of_an_id_are_enough(tmp_path: Path, name: str, quant: str | None) -> None:
    target = of_quant(parse_target(name), quant)
    near = heard(target.name, LLAMA, *OTHERS)
    wanted = {"llama:q4_0_4_4": OTHERS[1], "llama:70b": OTHERS[2]}.get(name, LLAMA)
    assert (await resolver(tmp_path, *near).plan(target)).name == wanted.model_id


async def test_what_means_several_is_for_the_person_to_choose(tmp_path: Path) -> None:
    with pytest.raises(AmbiguousName, match="3 models"):
        await resolver(tmp_path, LLAMA, *OTHERS).plan(parse_target("llama"))
    twin = msgspec.structs.replace(offer(LLAMA.model_id, "5"), peers=(("192.0.2.2", 1),))
    with pytest.raises(AmbiguousName, match="2 models"):
        await resolver(tmp_path, LLAMA, twin).plan(parse_target(LLAMA.model_id))


@pytest.mark.parametrize("digits", ["d" + "1" * 63, "d" + "1" * 11, "b" + "1" * 63, "b" + "1" * 31, "b" + "1" * 11])
async def test_a_hash_promises_only_the_file_that_it_is_of(tmp_path: Path, digits: str) -> None:
    """A v2 infohash has as many digits as a SHA-256, which would be promised of a file whose SHA-256 is another one."""
    near = heard(digits, LLAMA, *OTHERS)
    plan = await resolver(tmp_path, *near).plan(parse_target(digits))
    assert plan.torrent is not None
    assert plan.torrent.infohashes == LLAMA.infohashes
    assert plan.sha256_prefix == (digits if digits == "b" + "1" * 63 else LLAMA.sha256_prefix)

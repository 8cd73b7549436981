"""What is being fetched is announced as a part, and only as long."""

from __future__ import annotations

import msgspec

from hali.daemon.neighbours import lan_fetch
from hali.model.ids import InfoHashes
from hali.share.base import Offer
from hali.share.underway import Underway
from hali.transfer.lan_packets import to_wire
from hali.wire.lan import Flag

V2 = "d" * 64
OFFER = Offer("tiny:1b:base:q8_0", "b" * 32, InfoHashes("c" * 40, V2), (("192.0.2.1", 1),), size=7)


def test_a_fetch_is_announced_once_while_it_runs() -> None:
    announced: list[int] = []
    underway = Underway(lambda: announced.append(len(underway.offers(()))))
    with underway.place() as tell:
        assert not underway.offers(())
        tell(OFFER)
        tell(msgspec.structs.replace(OFFER, peers=()))
        assert underway.offers(()) == [OFFER]
        assert underway.offers({V2}) == [], "what we have already is announced as a whole"
    assert not underway.offers(())
    assert announced == [1, 0]


def test_a_fetch_that_nobody_offers_is_not_announced() -> None:
    announced: list[None] = []
    underway = Underway(lambda: announced.append(None))
    with underway.place():
        pass
    assert not announced


def test_it_is_announced_as_a_part_under_the_name_and_hashes_that_others_give_it() -> None:
    made = lan_fetch(OFFER)
    assert made is not None
    (model,) = to_wire([made])
    assert (model.id, model.size, model.flags) == (OFFER.model_id, 7, Flag.PARTIAL)
    assert (model.sha256.hex(), model.v2.hex()) == (OFFER.sha256_prefix, V2)


def test_what_lacks_a_hash_or_size_cannot_be_announced() -> None:
    for lacking in (
        msgspec.structs.replace(OFFER, sha256_prefix=""),
        msgspec.structs.replace(OFFER, infohashes=InfoHashes("c" * 40)),
        msgspec.structs.replace(OFFER, size=None),
    ):
        assert lan_fetch(lacking) is None

"""The publisher's key: sequences that grow, and a change of the key that survives a crash at every step."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.config.identity import load_or_create
from hali.config.paths import Paths
from hali.registry.documents import Profile, Revocation, Rotation
from hali.registry.publisher import SEQUENCE, Publisher, closing_of
from hali.registry.signing import unseal
from hali.store.database import Database


class Home:
    def __init__(self, path: Path) -> None:
        self.paths = Paths(path)
        self.paths.create()
        self.database = Database(self.paths.database)

    def publisher(self) -> Publisher:
        """As after a restart."""
        return Publisher(self.paths, self.database)


@pytest.fixture
def place(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def sequence(place: Home, publisher: Publisher) -> int:
    with place.database.transaction() as db:
        return unseal(publisher.sign_profile(db, {"display_name": "A"}), Profile).sequence


def test_sequences_grow_across_restarts_and_clocks_set_back(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [2_000_000_000.0]
    monkeypatch.setattr("hali.registry.publisher.time.time", lambda: clock[0])
    first = sequence(place, place.publisher())
    clock[0] = 1_000_000_000.0
    second = sequence(place, place.publisher())
    assert (first, second) == (2_000_000_000, 2_000_000_001)
    assert place.database.get_state(SEQUENCE) == str(second)
    place.database.close()


def test_a_rotation_is_signed_by_both_keys_and_the_old_one_is_put_aside(place: Home) -> None:
    publisher = place.publisher()
    old = publisher.key
    with place.database.transaction() as db:
        envelope, new = publisher.rotate(db)
    assert publisher.key == old  # until the commit was seen
    publisher.finish_change()
    assert publisher.key == new == place.publisher().key
    document = unseal(envelope, Rotation)
    assert (document.publisher, document.successor) == (old, new)
    (kept,) = place.paths.home.glob("publisher.key.*.closed")
    assert load_or_create(kept).public_key.hex() == old
    place.database.close()


def die_before_the_commit(place: Home, publisher: Publisher) -> None:
    with place.database.transaction() as db:
        publisher.rotate(db)
        raise KeyError


def test_a_crash_before_the_commit_leaves_the_old_key_and_after_it_the_new_one(place: Home) -> None:
    publisher = place.publisher()
    old = publisher.key
    with pytest.raises(KeyError):
        die_before_the_commit(place, publisher)
    assert place.publisher().key == old
    assert not list(place.paths.home.glob("publisher.key.*"))
    with place.database.transaction() as db:
        _, new = publisher.rotate(db)
    assert place.publisher().key == new  # the daemon died before `finish_change`
    with place.database.transaction() as db:
        _, newer = place.publisher().rotate(db)
    key = place.paths.publisher_key
    key.rename(key.with_name("elsewhere"))  # … or between the two renames
    assert place.publisher().key == newer
    place.database.close()


def test_who_signs_before_a_change_of_the_key_is_finished_signs_with_the_new_one(place: Home) -> None:
    publisher = place.publisher()
    with place.database.transaction() as db:
        _, second = publisher.rotate(db)
    with place.database.transaction() as db:  # two rotations at once: nobody has called `finish_change` yet
        envelope, third = publisher.rotate(db)
    assert unseal(envelope, Rotation).publisher == second  # else two keys would be the successor of one
    with place.database.transaction() as db:
        assert unseal(publisher.sign_profile(db, {"display_name": "A"}), Profile).publisher == third
    publisher.finish_change()
    publisher.finish_change()
    assert publisher.key == third == place.publisher().key
    place.database.close()


def test_a_revoked_key_is_replaced_by_one_that_it_does_not_name(place: Home) -> None:
    publisher = place.publisher()
    old = publisher.key
    with place.database.transaction() as db:
        envelope = publisher.revoke(db, "stolen")
    publisher.finish_change()
    document = closing_of(envelope)
    assert isinstance(document, Revocation)
    assert (document.publisher, document.reason) == (old, "stolen")
    assert publisher.key != old
    assert publisher.closings() == [envelope]
    place.database.close()


def test_the_key_is_not_the_nodes_and_only_its_owner_can_read_it(place: Home) -> None:
    publisher = place.publisher()
    assert load_or_create(place.paths.identity).public_key.hex() != publisher.key
    assert place.paths.publisher_key.stat().st_mode & 0o777 == 0o600
    place.database.close()

"""Keys of the HTTP API: what is told, what is kept, and what cannot be."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hali.api.budget import Limits
from hali.api.keys import KeyRing
from hali.daemon.keys import KeyMethods, fill
from hali.model.errors import NotFound, UsageError
from hali.store.api_keys import KeyStore
from hali.store.database import Database

pytestmark = pytest.mark.blocking_ok  # the tests themselves look into the database


class Desk:
    """The methods, without a daemon around them."""

    def __init__(self, path: Path) -> None:
        self.path, self.database = path, Database(path)
        self.ring, self.store = KeyRing(Limits(requests_per_minute=7)), KeyStore(self.database)
        self._table = KeyMethods(self.store, self.ring).table()

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        async def emit(event: dict[str, Any]) -> None:
            raise AssertionError(event)

        return dict(await self._table[method](params, emit))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "hali.db")
    yield made
    made.database.close()


async def test_a_key_is_told_once_and_only_its_digest_is_kept(desk: Desk) -> None:
    made = await desk.call("keys_create", name="ci", scopes=["metrics", "inference"], rpm=3, tpm=0, weight=2.5)
    secret = made.pop("key")
    listed = (await desk.call("keys"))["keys"]
    assert listed == [made] and made["scopes"] == ["inference", "metrics"]
    desk.database.close()
    everything = b"".join(path.read_bytes() for path in desk.path.parent.iterdir())
    assert b"inference" in everything and secret.encode() not in everything
    desk.database = Database(desk.path)


async def test_a_key_is_valid_at_once_after_a_restart_too_and_no_more_when_revoked(desk: Desk) -> None:
    secret = (await desk.call("keys_create", name="ci", rpm=3, tpm=0))["key"].encode()
    restarted = KeyRing()
    fill(restarted, desk.store.all())
    for ring in (desk.ring, restarted):
        key = ring.find(secret)
        assert key is not None
        assert (key.owner, key.scopes, key.limits) == ("ci", {"inference", "models"}, Limits(3, 0, None))
        assert key.secret == ""
    assert await desk.call("keys_revoke", name="ci") == {"name": "ci"}
    assert desk.ring.find(secret) is None and desk.store.all() == []
    assert (await desk.call("keys_create", name="ci"))["key"].encode() != secret


async def test_a_key_is_valid_until_its_time_is_over(desk: Desk) -> None:
    made = await desk.call("keys_create", name="guest", expires_s=3600.0)
    assert made["expires_at"] == pytest.approx(time.time() + 3600, abs=60)
    for clock, valid in ((made["expires_at"] - 1, True), (made["expires_at"], False)):
        ring = KeyRing(clock=lambda now=clock: now)
        fill(ring, desk.store.all())
        assert (ring.find(made["key"].encode()) is not None) is valid


@pytest.mark.parametrize(
    "wish",
    [
        {},
        {"name": ""},
        {"name": "owner"},
        {"name": "../x"},
        {"name": "a b"},
        {"name": "a\n"},
        {"name": "x" * 65},
        {"name": "a", "scopes": []},
        {"name": "a", "scopes": ["root"]},
        {"name": "a", "weight": 0},
        {"name": "a", "weight": 1e9},
        {"name": "a", "rpm": -1},
        {"name": "a", "tpm": 1.5},
        {"name": "a", "tpd": 10**10},
        {"name": "a", "expires_s": 0},
        {"name": "taken"},
    ],
    ids=str,
)
async def test_what_cannot_be_is_refused(desk: Desk, wish: dict[str, Any]) -> None:
    await desk.call("keys_create", name="taken")
    with pytest.raises(UsageError):
        await desk.call("keys_create", **wish)
    assert [key.name for key in desk.store.all()] == ["taken"]


async def test_a_name_that_cannot_be_is_told_in_words(desk: Desk) -> None:
    with pytest.raises(UsageError, match="named 'my key'") as refused:
        await desk.call("keys_create", name="my key")
    assert "regex" not in str(refused.value)


async def test_who_revokes_what_is_not_there_is_told(desk: Desk) -> None:
    with pytest.raises(NotFound, match="no key called ci"):
        await desk.call("keys_revoke", name="ci")


async def test_limits_that_a_key_has_not_are_those_of_the_configuration(desk: Desk) -> None:
    for name, wish, limit in (("a", {}, 7), ("b", {"rpm": 0}, 0), ("c", {"rpm": 2}, 2)):
        secret = (await desk.call("keys_create", name=name, **wish))["key"]
        assert desk.ring.budget(desk.ring.find(secret.encode())).limits.requests_per_minute == limit
    assert desk.ring.budget(None).limits.requests_per_minute == 7

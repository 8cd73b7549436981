"""Finding models in registries that are honest, down, forged or too helpful."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from hali.config.registries import parse
from hali.model.errors import AmbiguousName, NotFound, Refused, TransferFailed, VerificationFailed
from hali.registry import inquiry
from hali.registry.client import RegistryUnavailable
from hali.registry.finder import RegistryFinder
from hali.registry.listing import Candidate, candidate_of
from hali.registry.sources import ServerSource
from hali.share.base import Listing
from hali.transfer import metainfo
from tests.fakes.scripted_http import Reply, ScriptedServer
from tests.unit.registry.conftest import Author, Model

NAME = "tiny:1m:base:q4_k_m"
WICKED = "wicked:9b:base:q4_k_m"
ALICE, BOB = "a" * 64, "b" * 64  # publishers


def answer(author: Author, model: Model, *, score: float = 50, closing: bytes | None = None, **changes: Any) -> Reply:
    """What `GET /model/…` gives."""
    publisher = {"key": author.name} | ({} if closing is None else {"closing": json.loads(closing)})
    manifest = json.loads(author.manifest(model, **changes))
    return Reply(body=json.dumps({"manifest": manifest, "publisher": publisher, "trust": {"score": score}}).encode())


async def listing(*script: Reply, name: str) -> Listing:
    with ScriptedServer(*script) as server:
        return await ServerSource(parse(server.url)).listing(name)


async def test_a_listing_carries_what_a_pull_needs(alice: Author, model: Model) -> None:
    repo = {"hf_repo": "owner/repo", "hf_revision": "ab" * 20}
    found = await listing(answer(alice, model, **repo), Reply(body=model.torrent), name=model.infohash)
    assert (found.model_id, found.sha256, found.file) == (NAME, model.digests.sha256.hex(), model.path.name)
    assert (found.size, found.trust, found.publisher) == (model.digests.length, 50, alice.name)
    assert (found.repo, found.revision) == ("owner/repo", "ab" * 20)
    assert metainfo.parse(found.torrent).infohashes == model.hashes


async def test_a_forged_signature_is_found_out(alice: Author, bob: Author, model: Model) -> None:
    forged = json.loads(answer(alice, model).body)
    forged["manifest"]["document"]["publisher"] = bob.name
    with pytest.raises(VerificationFailed) as caught:
        await listing(Reply(body=json.dumps(forged).encode()), name=model.infohash)
    assert caught.value.code == "bad_signature"


async def test_a_registry_that_answers_with_another_model_is_not_believed(
    alice: Author, model: Model, other: Model
) -> None:
    with pytest.raises(VerificationFailed) as caught:
        await listing(answer(alice, other), Reply(body=other.torrent), name=model.infohash)
    assert caught.value.code == "other_model"
    with pytest.raises(VerificationFailed) as caught:
        await listing(answer(alice, model), Reply(body=other.torrent), name=model.infohash)
    assert caught.value.code == "torrent_disagrees"


async def test_the_publisher_whose_line_was_chosen_is_asked_for(alice: Author, model: Model) -> None:
    with ScriptedServer(answer(alice, model), Reply(body=model.torrent)) as server:
        assert await ServerSource(parse(server.url)).listing(model.infohash, alice.name)
        assert server.sent[0].path == f"/model/{model.infohash}?publisher={alice.name}"


async def test_what_a_key_signed_after_it_was_closed_is_refused_and_before_is_not(alice: Author, model: Model) -> None:
    early = answer(alice, model)
    closing = alice.revocation()
    late = answer(alice, model, closing=closing)
    body = json.loads(early.body)
    body["publisher"]["closing"] = json.loads(closing)
    assert await listing(Reply(body=json.dumps(body).encode()), Reply(body=model.torrent), name=model.infohash)
    with pytest.raises(Refused) as caught:
        await listing(late, name=model.infohash)
    assert caught.value.code == "key_revoked"


def test_rows_that_cannot_be_are_left_out() -> None:
    line = {"model_id": NAME, "sha256": "0" * 64, "infohash": "1" * 64, "size": 1, "trust": {"score": 40}, "more": 1}
    assert candidate_of(line) == Candidate(NAME, "0" * 64, "1" * 64, 1, 40)
    wrong: list[dict[str, Any]] = [{"model_id": "\x1b[31m"}, {"sha256": "x"}, {"infohash": "2"}, {"trust": 1}]
    for changes in (*wrong, {"size": "1"}, {"publisher": "x"}):
        assert candidate_of(line | changes) is None
    assert candidate_of(None) is None


# ---- several registries


class Given:
    """A registry that lists what it was given; `rows` are the lines of its search, where they say something else."""

    def __init__(
        self, *listings: Listing, rows: Sequence[Candidate] | None = None, error: Exception | None = None
    ) -> None:
        self._listings, self._error = listings, error
        self._rows = [row(each) for each in listings] if rows is None else list(rows)

    async def candidates(self, text: str, limit: int, *, untrusted: bool) -> list[Candidate]:
        if self._error is not None:
            raise self._error
        return self._rows

    async def listing(self, name: str, publisher: str | None = None) -> Listing:
        if self._error is not None:
            raise self._error
        for each in self._listings:
            if each.sha256 == name and publisher in (None, each.publisher):
                return each
        raise NotFound("not listed")


class Silent(Given):
    """Takes a question and says nothing."""

    asked = 0

    async def candidates(self, text: str, limit: int, *, untrusted: bool) -> list[Candidate]:
        self.asked += 1
        await anyio.sleep_forever()
        raise AssertionError

    async def listing(self, name: str, publisher: str | None = None) -> Listing:
        self.asked += 1
        await anyio.sleep_forever()
        raise AssertionError


class SlowToList(Silent):
    """Searches, and is silent then."""

    async def candidates(self, text: str, limit: int, *, untrusted: bool) -> list[Candidate]:
        return self._rows


def one(number: int, model_id: str = NAME, trust: float | None = 50.0, publisher: str = ALICE) -> Listing:
    return Listing(model_id, str(number) * 64, "f.gguf", 1, b"", publisher, "http://r", trust)


def row(of: Listing, model_id: str | None = None) -> Candidate:
    """The line of a search for a listing; the models here have an infohash like their SHA-256."""
    name = of.model_id if model_id is None else model_id
    return Candidate(name, of.sha256, of.sha256, None, of.trust, of.publisher, published_at=int(of.sha256[0]))


def finder(*sources: Given) -> RegistryFinder:
    return RegistryFinder({f"http://r{number}": source for number, source in enumerate(sources)})


@pytest.mark.parametrize("name", [NAME, "tiny", "tiny:1m", "tiny:q4_k_m", "1" * 64])
async def test_a_model_is_found_by_its_id_a_part_of_it_or_its_hash(name: str) -> None:
    assert await finder(Given(one(1))).locate(name) == one(1)


@pytest.mark.parametrize("name", ["tin", "q4_k_m", "tiny:7b", "2" * 64])
async def test_what_is_something_else_is_not_found(name: str) -> None:
    assert await finder(Given(one(1))).locate(name) is None


async def test_registries_that_are_down_are_left_out() -> None:
    down = Given(error=RegistryUnavailable("down"))
    assert await finder(down, Given(one(1))).locate("tiny") == one(1)
    assert await finder(down, down).locate("tiny") is None
    assert await finder().locate("tiny") is None


async def test_a_registry_that_falls_silent_costs_a_pull_its_patience_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiry, "LOOK_S", 0.2)
    silent = Silent(one(1))
    began = time.monotonic()
    for registries in ((silent,), (silent, Given(one(2))), (Given(one(2)), silent)):
        silent.asked = 0
        assert await finder(*registries).locate("tiny") in (None, one(2))
        assert silent.asked == 1
    assert time.monotonic() - began < 3 * 0.4
    assert await finder(SlowToList(one(1)), Given(one(2))).locate("tiny") == one(2)
    assert await finder(silent).locate("1" * 64) is None


async def test_a_forger_hinders_nobody_but_is_told_when_he_is_alone() -> None:
    forger = Given(error=VerificationFailed("forged"))
    assert await finder(forger, Given(one(1))).locate("tiny") == one(1)
    with pytest.raises(VerificationFailed, match="forged"):
        await finder(forger).locate("tiny")


async def test_a_registry_that_answers_a_name_with_another_model_is_not_believed_and_hinders_no_honest_one() -> None:
    wicked = one(2, WICKED, trust=90.0)
    liar = Given(wicked, rows=[row(wicked, NAME)])
    for name in (NAME, "tiny", "tiny:q4_k_m"):
        with pytest.raises(VerificationFailed, match=f"asked for {name}, .* answered with {WICKED}") as caught:
            await finder(liar).locate(name)
        assert caught.value.code == "other_model"
        assert await finder(liar, Given(one(1))).locate(name) == one(1)
    assert await finder(liar).locate(WICKED) is None
    assert await finder(liar).locate("2" * 64) == wicked


async def test_a_file_that_two_publishers_name_differently_is_found_under_both_names() -> None:
    mine, theirs = one(1, trust=40.0), one(1, "small:1m:base:q4_k_m", trust=80.0, publisher=BOB)
    assert await finder(Given(theirs, mine)).locate("tiny") == mine
    assert await finder(Given(theirs, mine)).locate("small") == theirs
    assert await finder(Given(theirs), Given(mine)).locate("tiny") == mine


async def test_two_files_of_one_name_are_asked_about_but_a_trusted_one_beats_the_others() -> None:
    with pytest.raises(AmbiguousName) as caught:
        await finder(Given(one(1), one(2))).locate("tiny")
    assert len(caught.value.choices) == 2
    poor = one(2, trust=10.0)
    assert await finder(Given(one(1)), Given(poor)).locate("tiny") == one(1)
    with pytest.raises(AmbiguousName):
        await finder(Given(one(1)), Given(poor)).locate("tiny", allow_untrusted=True)


async def test_below_the_threshold_is_refused_unless_allowed_and_a_pinned_publisher_never_is() -> None:
    poor = one(1, trust=29.9)
    with pytest.raises(Refused) as caught:
        await finder(Given(poor)).locate("tiny")
    assert (caught.value.code, caught.value.details["trust"]) == ("untrusted", 29.9)
    assert await finder(Given(poor)).locate("tiny", allow_untrusted=True) == poor
    assert await finder(Given(one(1, trust=30.0))).locate("tiny") == one(1, trust=30.0)
    assert await finder(Given(one(1, trust=None))).locate("tiny") == one(1, trust=None)


async def test_a_search_shows_each_file_once_in_the_order_asked_for() -> None:
    old, new, again = (
        one(1, "old:1b:base:q8_0", 90.0),
        one(2, "new:1b:base:q8_0", 40.0),
        one(2, "new:1b:base:q8_0", 60.0),
    )
    searched = finder(Given(old, new), Given(again))
    found = await searched.search("1b", limit=10, sort="downloads")
    assert [(each.name, each.provider, each.downloads) for each in found] == [
        ("old:1b:base:q8_0", "registries", None),
        ("new:1b:base:q8_0", "registries", None),
    ]
    latest = await searched.search("1b", limit=1, sort="updated")
    assert [(each.name, each.updated) for each in latest] == [("new:1b:base:q8_0", "1970-01-01T00:00:02Z")]


async def test_a_search_fails_only_when_no_registry_answers() -> None:
    down = Given(error=RegistryUnavailable("down"))
    assert len(await finder(down, Given(one(1))).search("tiny", limit=10, sort="downloads")) == 1
    with pytest.raises(TransferFailed, match="down"):
        await finder(down, down).search("tiny", limit=10, sort="downloads")


async def test_what_was_found_is_remembered_for_a_while() -> None:
    searched = finder(Given(one(1)))
    await searched.locate("tiny")
    assert searched.recall(" Tiny ") == searched.recall("1" * 64) == one(1)
    assert searched.recall("other") is None
    for number in range(300):
        searched._remember(str(number), msgspec.structs.replace(one(1), sha256=f"{number:064}"))
    assert searched.recall("tiny") is None


async def test_an_answer_that_is_no_registrys_or_endless_is_no_answer(tmp_path: Path) -> None:
    for reply in (
        Reply(body=b"<html>"),
        Reply(body=b"[]"),
        Reply(body=b"{}"),
        Reply(body=b"x" * 5_000_000),
        Reply(302),  # not followed
        Reply(401),
        Reply(403, body=b"<html>"),  # of a proxy
    ):
        with ScriptedServer(reply, reply) as server:
            source = ServerSource(parse(server.url))
            assert await RegistryFinder({server.url: source}).locate("1" * 64) is None

"""What the registry takes, refuses and shows."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import libtorrent as lt
import pytest

from hali.registry.bounds import Bounds
from hali.registry.documents import FileEntry, Profile, Rotation
from hali.registry.limits import Rate
from hali.registry.signing import seal
from hali.transfer import metainfo
from tests.unit.registry.conftest import JSON, NOW, Author, Model, Served, report
from tests.unit.registry.crowds import CROWDS, Crowd, gather, of_one_file


def changed(envelope: bytes, **fields: Any) -> bytes:
    """An envelope whose document was altered after it was signed."""
    parts = json.loads(envelope)
    parts["document"].update(fields)
    return json.dumps(parts).encode()


async def test_a_manifest_and_its_torrent_are_shown_as_they_were_signed(
    served: Served, alice: Author, model: Model
) -> None:
    manifest = alice.manifest(model)
    assert (await served.post("/publish", manifest))["checks"] == {"torrent": False, "layers": False, "header": False}
    assert (await served.client.head(f"/ingest/{model.infohash}")).status_code == 404
    checks = (await served.post("/ingest", alice.ingest(model)))["checks"]
    assert checks == {"torrent": True, "layers": True, "header": True}
    assert (await served.client.head(f"/ingest/{model.infohash}")).status_code == 200
    for name in (model.infohash, model.hashes.v1, model.digests.sha256.hex()):
        shown = await served.get(f"/model/{name}")
        assert shown["manifest"] == json.loads(manifest)
        assert (shown["torrent"], shown["hidden"], shown["others"]) == (True, False, [])
    for name in (model.infohash, model.hashes.v1):
        answer = await served.client.get(f"/torrent/{name}")
        assert (answer.content, answer.headers["content-type"]) == (model.torrent, "application/x-bittorrent")
    assert [row["model_id"] for row in await served.search("TINY q4")] == ["tiny:1m:base:q4_k_m"]
    assert await served.search("tiny nothing") == []


async def test_a_tampered_manifest_is_refused(served: Served, alice: Author, model: Model) -> None:
    manifest = alice.manifest(model)
    for fields in ({"model_id": "evil:1m:base:q4_k_m"}, {"sequence": 99}, {"infohash_v2": "0" * 64}):
        await served.post("/publish", changed(manifest, **fields), 422, "bad_signature")
    assert await served.search("", untrusted="1") == []


async def test_a_manifest_signed_with_another_key_is_refused(
    served: Served, alice: Author, bob: Author, model: Model
) -> None:
    await served.post("/publish", changed(alice.manifest(model), publisher=bob.name), 422, "bad_signature")


async def test_a_signature_of_one_kind_is_no_signature_of_another(served: Served, alice: Author, model: Model) -> None:
    await served.post("/revoke", alice.manifest(model), 400, "invalid_document")
    await served.post("/profile", alice.revocation(), 400, "invalid_document")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_document"),
        (b"[]", "invalid_document"),
        (b'{"document":{},"signature":""}', "invalid_document"),
        (b"[" * 200_000, "invalid_document"),
        (b'{"document":{},"document":{},"signature":""}', "invalid_document"),
    ],
)
async def test_what_is_no_signed_document_is_refused(body: bytes, code: str, served: Served) -> None:
    for path in ("/publish", "/profile", "/rotate", "/revoke", "/report", "/ingest"):
        await served.post(path, body, 400, code)


@pytest.mark.parametrize(
    "fields",
    [
        {"model_id": "no id"},
        {"hf_repo": "../etc", "hf_revision": "0" * 40},
        {"hf_repo": "a/b"},
        {"infohash_v1": "0" * 39},
        {"sequence": 0},
        {"time": -1},
        {"unknown": 1},
        {"files": []},
        {"files": [{"name": "../x.gguf", "size": 1, "sha256": "0" * 64, "blake3": "0" * 64}]},
        {"files": [{"name": "x.gguf", "size": 0, "sha256": "0" * 64, "blake3": "0" * 64}]},
    ],
)
async def test_every_field_of_a_manifest_is_bounded(
    fields: dict[str, Any], served: Served, alice: Author, model: Model
) -> None:
    await served.post("/publish", changed(alice.manifest(model), **fields), 400, "invalid_document")


async def test_a_replayed_or_older_manifest_is_refused_and_a_newer_one_replaces_it(
    served: Served, alice: Author, model: Model
) -> None:
    first = alice.manifest(model, model_id="tiny:1m:old:q4_k_m")
    second = alice.manifest(model, model_id="tiny:1m:new:q4_k_m")
    await served.post("/publish", second)
    await served.post("/publish", second, 409, "replayed")
    await served.post("/publish", first, 409, "replayed")
    assert [row["model_id"] for row in await served.search("tiny", untrusted="1")] == ["tiny:1m:new:q4_k_m"]
    await served.post("/publish", alice.manifest(model, model_id="tiny:1m:newer:q4_k_m"))
    assert [row["model_id"] for row in await served.search("tiny", untrusted="1")] == ["tiny:1m:newer:q4_k_m"]


async def test_a_document_from_the_future_is_refused(served: Served, alice: Author, model: Model) -> None:
    await served.post("/publish", alice.manifest(model, time=NOW + 2 * 86_400), 400, "clock")


async def test_a_torrent_of_something_else_is_refused(
    served: Served, alice: Author, model: Model, other: Model
) -> None:
    await served.post("/ingest", alice.ingest(model), 409, "no_manifest")
    await served.post("/publish", alice.manifest(model))
    await served.post("/ingest", alice.ingest(model, torrent=other.torrent), 422, "torrent_disagrees")
    swapped = json.loads(alice.ingest(model))
    swapped["torrent"] = json.loads(alice.ingest(other))["torrent"]
    await served.post("/ingest", json.dumps(swapped).encode(), 400, "torrent_changed")
    assert (await served.client.get(f"/torrent/{model.infohash}")).status_code == 404


async def test_anybody_may_hand_over_the_torrent_of_a_manifest(
    served: Served, alice: Author, bob: Author, model: Model
) -> None:
    await served.post("/publish", alice.manifest(model))
    await served.post("/rotate", alice.rotation(bob))  # before the torrent of what the old key had published went out
    await served.post("/ingest", bob.ingest(model))
    found = await served.get(f"/model/{model.infohash}")
    assert (found["manifest"]["document"]["publisher"], found["trust"]["parts"]["format"]) == (alice.name, 30)


async def test_a_torrent_without_or_with_a_false_head_takes_nothing_away(
    served: Served, alice: Author, bob: Author, model: Model, other: Model
) -> None:
    await served.publish(alice, model)
    false = json.loads(bob.ingest(model))
    false["head"] = json.loads(bob.ingest(other))["head"]
    for body in (bob.ingest(model, with_head=False), json.dumps(false).encode()):
        checks = (await served.post("/ingest", body))["checks"]
        assert checks == {"torrent": True, "layers": True, "header": True}
    assert (await served.get(f"/model/{model.infohash}"))["trust"]["parts"]["format"] == 30


async def test_a_manifest_that_lies_about_the_size_is_refused_once_the_torrent_is_known(
    served: Served, alice: Author, bob: Author, model: Model
) -> None:
    lie = [FileEntry(name=model.path.name, size=1, sha256="0" * 64, blake3="0" * 64)]
    early = Author(3)
    await served.post("/publish", early.manifest(model, files=lie))
    await served.publish(alice, model)  # not hindered by the liar
    await served.post("/publish", bob.manifest(model, files=lie), 422, "torrent_disagrees")
    shown = await served.get(f"/model/{model.infohash}")
    assert shown["manifest"]["document"]["publisher"] == alice.name
    assert [each["publisher"] for each in shown["others"]] == [early.name]
    assert (await served.get(f"/model/{model.infohash}", publisher=early.name))["trust"]["parts"]["format"] == 0


async def test_a_header_that_contradicts_the_name_earns_no_points(served: Served, alice: Author, model: Model) -> None:
    await served.publish(alice, model, model_id="tiny:1m:base:q8_0")
    facts = (await served.get(f"/model/{model.infohash}"))["trust"]["inputs"]
    assert (facts["torrent"], facts["layers"], facts["header"]) == (True, True, False)
    await served.post("/publish", alice.manifest(model, model_id="tiny:1m:base:q4_k_m"))
    assert (await served.get(f"/model/{model.infohash}"))["trust"]["inputs"]["header"] is True


async def test_an_entry_below_30_is_hidden_unless_asked_for(served: Served, alice: Author, model: Model) -> None:
    await served.post("/publish", alice.manifest(model))
    await served.post("/ingest", alice.ingest(model, with_head=False))
    assert await served.search("tiny") == []
    assert (await served.get("/search", q="tiny"))["hidden"] == 1
    (row,) = await served.search("tiny", untrusted="1")
    assert row["trust"]["score"] == 20
    assert (await served.get(f"/model/{model.infohash}"))["hidden"] is True
    await served.post("/ingest", alice.ingest(model))
    assert len(await served.search("tiny")) == 1


async def test_reports_of_distinct_reporters_raise_the_score_and_repeating_one_does_not(
    served: Served, alice: Author, model: Model, other: Model
) -> None:
    await served.post("/report", report(9, model), 404, "not_listed")
    await served.publish(alice, model)
    await served.publish(alice, other)
    for number in (10, 11, 12, 10, 10):
        await served.post("/report", report(number, model))
    await served.post("/report", report(13, model, "failed"))
    inputs = (await served.get(f"/model/{model.infohash}"))["trust"]["inputs"]
    assert (inputs["ok"], inputs["reports"]) == (3, 4)
    assert (inputs["publisher_ok"], inputs["publisher_reports"]) == (0, 0)  # an entry does not vouch for itself twice
    neighbour = (await served.get(f"/model/{other.infohash}"))["trust"]["inputs"]
    assert (neighbour["ok"], neighbour["publisher_ok"], neighbour["publisher_reports"]) == (0, 3, 4)
    await served.post("/report", report(13, model, "ok"))  # the latest word counts
    assert (await served.get(f"/model/{model.infohash}"))["trust"]["inputs"]["ok"] == 4


async def test_the_score_can_be_computed_by_hand_from_the_inputs_of_the_reply(
    served: Served, alice: Author, model: Model, other: Model
) -> None:
    await served.publish(alice, model)
    await served.publish(alice, other)
    for number in range(10, 20):
        await served.post("/report", report(number, model, "failed" if number == 10 else "ok"))
    for number in range(10, 15):
        await served.post("/report", report(number, other))
    served.pass_days(45)
    found = (await served.get(f"/model/{model.infohash}"))["trust"]
    assert found["inputs"] == {
        "torrent": True,
        "layers": True,
        "header": True,
        "publisher_days": 45.0,
        "publisher_ok": 5,
        "publisher_reports": 5,
        "ok": 9,
        "reports": 10,
        "days": 45.0,
    }
    # By hand: wilson(5, 5) = 5 / (5 + 1.96²) = 0.56552; wilson(9, 10) = 0.59585, a textbook value.
    assert found["parts"] == {
        "format": 30.0,
        "reputation": round(25 * (0.4 * 0.5 + 0.6 * 0.56552), 2),
        "success": round(30 * 0.59585, 2),
        "maturity": 15.0,
    }
    assert found["score"] == pytest.approx(30 + 13.4828 + 17.8755 + 15, abs=0.01)
    (row, _) = await served.search("tiny")
    assert row["trust"] == found
    assert (found["version"], "wilson" in found["formula"]) == ("hali/trust1", True)


@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize("crowd", CROWDS)
async def test_nobody_hides_a_model_behind_a_crowd_of_others(
    served: Served, alice: Author, model: Model, crowd: Crowd, sound: bool
) -> None:
    await served.publish(alice, model)
    await anyio.to_thread.run_sync(partial(gather, served.deps.storage, crowd, sound=sound))
    served.pass_days(2)
    for words in ("tiny", "tiny 1m", "tiny 1m base q4_k_m", "1m q4_k"):
        for untrusted in ("0", "1"):
            found = await served.search(words, limit="100", untrusted=untrusted)
            assert model.infohash in [row["infohash"] for row in found], (words, untrusted)


async def test_nobody_hides_a_manifest_behind_a_crowd_of_others_of_the_same_file(
    served: Served, alice: Author, bob: Author, model: Model
) -> None:
    sha256 = model.digests.sha256.hex()
    await anyio.to_thread.run_sync(partial(gather, served.deps.storage, partial(of_one_file, sha256), sound=False))
    served.pass_days(3)
    await served.publish(alice, model)
    await served.post("/publish", bob.manifest(model, model_id="mine:1m:base:q8_0"))
    assert (await served.get(f"/model/{sha256}"))["publisher"]["key"] == alice.name
    assert (await served.get(f"/model/{sha256}", publisher=bob.name))["publisher"]["key"] == bob.name
    assert (await served.get(f"/model/{sha256}", 404, publisher="\0"))["error"]["code"] == "not_listed"


async def test_what_is_called_as_the_words_say_comes_before_what_is_more_trusted(
    served: Served, alice: Author, bob: Author, model: Model, other: Model
) -> None:
    await served.publish(alice, model, model_id="m-2:1m:base:q4_k_m")
    served.pass_days(1)
    await served.publish(bob, other, model_id="m:1m:base:q4_k_m")
    for words in ("m", "m 1m", "m 1m base q4_k_m", "m q4_k_m"):
        assert [row["model_id"][:3] for row in await served.search(words)] == ["m:1", "m-2"]
        assert [row["model_id"][:3] for row in await served.search(words, limit="1")] == ["m:1"]
    assert [row["model_id"][:3] for row in await served.search("1m")] == ["m-2", "m:1"]


async def test_a_torrent_of_two_names_is_listed_under_the_one_asked_for(
    served: Served, alice: Author, bob: Author, model: Model
) -> None:
    await served.publish(alice, model, model_id="a:1m:base:q4_k_m")
    served.pass_days(1)
    await served.publish(bob, model, model_id="tiny:1m:base:q4_k_m")
    assert [row["model_id"] for row in await served.search("tiny")] == ["tiny:1m:base:q4_k_m"]
    assert [row["model_id"] for row in await served.search("1m")] == ["a:1m:base:q4_k_m"]


async def test_search_sorts_limits_and_refuses_nonsense(
    served: Served, alice: Author, bob: Author, model: Model, other: Model
) -> None:
    await served.publish(alice, model, model_id="b:1m:base:q4_k_m")
    served.pass_days(1)
    await served.publish(bob, other, model_id="a:1m:base:q4_k_m")
    names = {
        sort: [row["model_id"][0] for row in await served.search("1m", sort=sort)] for sort in ("new", "name", "trust")
    }
    assert names == {"new": ["a", "b"], "name": ["a", "b"], "trust": ["b", "a"]}  # the older one is more mature
    assert len(await served.search("", limit="1")) == 1
    assert len(await served.search("q4_k")) == 2
    assert await served.search("q4%k") == await served.search("tiny_1m") == await served.search("!") == []
    for limit in ("0", "101", "x", "000199999", "1" * 5000):  # Python makes no number of more than 4300 digits
        assert (await served.get("/search", 400, limit=limit))["error"]["code"] == "invalid_query"
    for params in ({"sort": "size"}, {"q": "x" * 201}, {"q": "\n"}):
        assert (await served.get("/search", 400, **params))["error"]["code"] == "invalid_query"
    for path in ("/model/x", "/torrent/x", "/publisher/x", "/model/" + "g" * 64):
        assert (await served.get(path, 400))["error"]["code"] == "invalid_name"
    for path in (f"/model/{'0' * 64}", f"/torrent/{'0' * 40}", f"/publisher/{'0' * 64}", "/nothing"):
        assert (await served.get(path, 404))["error"]["code"] in ("not_listed", "no_endpoint")


async def test_a_rotated_key_signs_no_more_and_its_successor_inherits(
    served: Served, alice: Author, bob: Author, model: Model, other: Model
) -> None:
    await served.publish(alice, model)
    await served.post("/report", report(10, model))
    late = alice.manifest(other)
    served.pass_days(9)
    await served.post("/rotate", alice.rotation(bob))
    await served.post("/publish", late, 403, "key_rotated")
    await served.post("/revoke", alice.revocation(), 403, "key_rotated")  # the first closing counts
    assert (await served.get(f"/model/{model.infohash}"))["manifest"]["document"]["publisher"] == alice.name
    await served.publish(bob, other)
    inputs = (await served.get(f"/model/{other.infohash}"))["trust"]["inputs"]
    assert (inputs["publisher_days"], inputs["publisher_ok"], inputs["days"]) == (9.0, 1, 0.0)
    for author in (alice, bob):
        assert (await served.get(f"/publisher/{author.name}"))["keys"] == [alice.name, bob.name]


async def test_nobody_becomes_a_successor_without_signing_too(
    served: Served, alice: Author, bob: Author, model: Model
) -> None:
    await served.publish(bob, model)
    alone = seal(Rotation(**alice.signed(), successor=bob.name), alice.identity)
    await served.post("/rotate", alone, 422, "bad_signature")
    forged = seal(Rotation(**alice.signed(), successor=bob.name), alice.identity, alice.identity)
    await served.post("/rotate", forged, 422, "bad_signature")
    await served.post("/rotate", alice.rotation(bob))
    carol = Author(3)
    await served.post("/rotate", carol.rotation(bob), 403, "bad_successor")  # one predecessor
    await served.post("/rotate", bob.rotation(alice), 403, "bad_successor")  # no circle
    await served.post("/rotate", carol.rotation(carol), 403, "bad_successor")  # nor a key after itself


async def test_a_revoked_key_signs_no_more_and_what_it_signed_before_stays(
    served: Served, alice: Author, model: Model, other: Model
) -> None:
    await served.publish(alice, model)
    early, revocation, late = alice.manifest(other), alice.revocation(), alice.manifest(other)
    await served.post("/revoke", revocation)
    for envelope in (early, late):
        await served.post("/publish", envelope, 403, "key_revoked")
    await served.post("/ingest", alice.ingest(model), 403, "key_revoked")
    shown = await served.get(f"/model/{model.infohash}")
    assert shown["publisher"]["closing"] == json.loads(revocation)


async def test_a_revocation_older_than_what_was_published_is_refused(
    served: Served, alice: Author, model: Model
) -> None:
    revocation = alice.revocation()
    await served.post("/publish", alice.manifest(model))
    await served.post("/revoke", revocation, 409, "replayed")


async def test_profiles_are_replaced_by_newer_ones_only(served: Served, alice: Author) -> None:
    def profile(name: str, **more: Any) -> bytes:
        return seal(Profile(**alice.signed(), display_name=name, **more), alice.identity)

    first, second = profile("First"), profile("Second", website="https://a.example")
    await served.post("/profile", second)
    await served.post("/profile", first, 409, "replayed")
    assert (await served.get(f"/publisher/{alice.name}"))["profile"]["document"]["display_name"] == "Second"
    for fields in ({"display_name": "a\nb"}, {"display_name": ""}, {"website": "javascript:1"}, {"contact": "x" * 501}):
        await served.post("/profile", changed(first, **fields), 400, "invalid_document")


@pytest.mark.parametrize("text", ["\\ud800", "\\u0000", "\\u001b[31m", "\\u202e"])
async def test_texts_that_are_no_printable_line_are_refused(text: str, served: Served, alice: Author) -> None:
    await served.post("/revoke", alice.revocation().replace(b"lost", text.encode()), 400, "invalid_document")


async def test_white_space_is_not_kept(served: Served, alice: Author, model: Model) -> None:
    manifest = alice.manifest(model)
    await served.post("/publish", b" " * 100_000 + manifest.replace(b":", b" :  ", 1))
    text = (await served.client.get(f"/model/{model.infohash}")).text
    assert manifest.decode() in text


async def test_nothing_allows_other_origins_and_bodies_must_be_json(
    served: Served, alice: Author, model: Model
) -> None:
    origin = {"origin": "https://evil.example"}
    for answer in (
        await served.client.get("/search", headers=origin),
        await served.client.options("/publish", headers={**origin, "access-control-request-method": "POST"}),
        await served.client.post("/publish", content=b"", headers={**JSON, **origin}),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    plain = await served.client.post("/publish", content=alice.manifest(model), headers={"content-type": "text/plain"})
    assert (plain.status_code, plain.json()["error"]["code"]) == (415, "media_type")


async def test_bodies_are_bounded_also_without_a_declared_length(served: Served) -> None:
    async def endless() -> Any:
        for _ in range(100):  # 6.5 MB: enough to be refused, not enough to hurt when it is not
            yield bytes(65_536)

    big = bytes(Bounds().body + 1)
    await served.post("/publish", big, 413, "body_too_large")
    answer = await served.client.post("/publish", content=endless(), headers=JSON)
    assert answer.status_code == 413


class TestBusy:
    @pytest.fixture
    def bounds(self) -> Bounds:
        return Bounds(reads=Rate(3, 0.001), writes=Rate(8, 0.001), by_key=Rate(2, 0.001), reports=Rate(1, 0.001))

    async def test_who_asks_too_often_is_told_when_to_come_back(self, served: Served) -> None:
        answers = [await served.client.get("/health") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[3].json()["error"]["code"] == "rate_limit"
        assert 900 < int(answers[3].headers["retry-after"]) <= 1000

    async def test_a_key_and_a_network_of_reporters_have_limits_of_their_own(
        self, served: Served, alice: Author, bob: Author, model: Model
    ) -> None:
        await served.publish(alice, model)
        await served.post("/publish", alice.manifest(model), 429, "rate_limit")
        await served.post("/publish", bob.manifest(model))
        await served.post("/report", report(10, model))
        await served.post("/report", report(11, model), 429, "rate_limit")


class TestVolume:
    @pytest.fixture
    def bounds(self) -> Bounds:
        return Bounds(volume=Rate(30_000, 1.0))

    async def test_one_network_fills_no_disk(self, served: Served, alice: Author, bob: Author, model: Model) -> None:
        await served.post("/publish", alice.manifest(model))
        await served.post("/ingest", alice.ingest(model))  # with its 16 KiB in base64
        answer = await served.client.post("/ingest", content=bob.ingest(model), headers=JSON)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit")
        assert int(answer.headers["retry-after"]) > 10_000
        assert len(await served.search("tiny")) == 1  # reading is free


class TestFull:
    @pytest.fixture
    def bounds(self) -> Bounds:
        return Bounds(torrents=1)

    async def test_so_many_torrents_are_in_memory_at_once_and_no_more(
        self, served: Served, alice: Author, model: Model
    ) -> None:
        await served.post("/publish", alice.manifest(model))
        body = alice.ingest(model)
        with served.deps.gate.torrent():
            answer = await served.client.post("/ingest", content=body, headers=JSON)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        await served.post("/ingest", body)


@pytest.mark.blocking_ok
async def test_on_a_full_disk_writes_are_put_off_and_reading_goes_on(
    served: Served, alice: Author, bob: Author, model: Model, other: Model
) -> None:
    await served.publish(alice, model)
    connection = served.deps.storage._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own way to say that there is no more room
    await served.post("/publish", bob.manifest(other))  # still fits the last page
    await served.post("/ingest", bob.ingest(other), 503, "no_space")
    assert len(await served.search("tiny")) == 1
    connection.execute("PRAGMA max_page_count = 100000")
    await served.post("/ingest", bob.ingest(other))


async def test_metrics_count_requests_and_rows(served: Served, alice: Author, model: Model) -> None:
    await served.publish(alice, model)
    await served.post("/publish", b"{}", 400, "invalid_document")
    text = (await served.client.get("/metrics")).text
    assert 'hali_registry_requests_total{route="/publish",status="200"} 1.0' in text
    assert 'hali_registry_requests_total{route="/publish",status="400"} 1.0' in text
    assert 'hali_registry_rows{kind="entry"} 1.0' in text


async def test_a_torrent_of_other_pieces_than_halis_is_refused(served: Served, alice: Author, model: Model) -> None:
    creator = lt.create_torrent(lt.list_files(str(model.path)), 64 * 1024)
    lt.set_piece_hashes(creator, str(model.path.parent))
    small: Any = lt.bencode(creator.generate())
    foreign = Model(model.path)
    foreign.torrent, foreign.hashes = bytes(small), metainfo.parse(bytes(small)).infohashes
    await served.post("/publish", alice.manifest(foreign))
    await served.post("/ingest", alice.ingest(foreign), 422, "torrent_disagrees")


async def test_a_torrent_that_cannot_be_read_is_refused(served: Served, alice: Author, model: Model) -> None:
    await served.post("/publish", alice.manifest(model))
    for torrent in (b"", b"d4:infode", b"d" * 100_000, model.torrent[:-1]):
        await served.post("/ingest", alice.ingest(model, torrent=torrent), 422, "bad_torrent")

"""Resolving repositories through the real huggingface_hub against a fake hub."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from hali.model.errors import HaliError, NotFound, ProtocolError, Refused, TransferFailed, UsageError
from hali.transfer.http import RangeSource
from hali.transfer.http_retry import HttpPolicy
from hali.transfer.hub import Hub, choose_model
from tests.fakes.attacks import BAD_NAMES, bad_links
from tests.fakes.canary import Canary
from tests.fakes.hf_server import FakeHub

FAST = HttpPolicy(attempts=3, backoff_first=0.01, backoff_cap=0.05)
FILES = {"m-Q8_0.gguf": b"8" * 3000, "m-Q4_K_M.gguf": b"4" * 2000, "mmproj-m-f16.gguf": b"p", "README.md": b"hi"}


@pytest.fixture(autouse=True)
def no_token_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_STORED_TOKENS_PATH", str(tmp_path / "tokens"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub() as running:
        running.add("o/r-GGUF", dict(FILES))
        running.add("o/gated", dict(FILES), gated=True)
        running.add("o/private", dict(FILES), private=True)
        yield running


async def failure(hub: Hub, repo: str, revision: str | None = None) -> HaliError:
    with pytest.raises(HaliError) as caught, anyio.fail_after(20):
        await hub.resolve(repo, revision)
    return caught.value


async def test_a_repository_is_listed_at_its_commit_models_first_smallest_first(fake: FakeHub) -> None:
    listing = await Hub(fake.url).resolve("o/r-GGUF")
    assert listing.commit == fake.repos["o/r-GGUF"].sha
    assert [f.name for f in listing.files] == ["m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m-f16.gguf", "README.md"]
    (best,) = choose_model(listing).files
    assert (best.size, best.sha256) == (2000, hashlib.sha256(FILES["m-Q4_K_M.gguf"]).hexdigest())
    assert listing.files[-1].sha256 is None


async def test_a_resolved_file_can_be_fetched_and_has_the_promised_hash(fake: FakeHub) -> None:
    hub = Hub(fake.url, token=FakeHub.TOKEN)
    listing = await hub.resolve("o/gated")
    (best,) = choose_model(listing).files
    where = await hub.file_source(listing.repo, listing.commit, best.name)
    got = bytearray()

    async def sink(index: int, view: memoryview) -> None:
        got.extend(view)

    options = {"headers": where.headers, "size": best.size, "etag": best.sha256}
    async with RangeSource(where.url, trusted=True, **options) as source:
        await source.pieces([0], sink)
    assert hashlib.sha256(got).hexdigest() == best.sha256


async def test_a_revision_is_resolved_to_itself(fake: FakeHub) -> None:
    sha = fake.repos["o/r-GGUF"].sha
    assert (await Hub(fake.url).resolve("o/r-GGUF", sha)).commit == sha


async def test_what_does_not_exist_is_not_found(fake: FakeHub) -> None:
    assert isinstance(await failure(Hub(fake.url), "o/nope"), NotFound)
    assert isinstance(await failure(Hub(fake.url, token=FakeHub.TOKEN), "o/nope"), NotFound)
    assert "revision" in str(await failure(Hub(fake.url), "o/r-GGUF", "nope"))


async def test_a_private_repository_looks_missing_and_the_hint_names_the_token(fake: FakeHub) -> None:
    error = await failure(Hub(fake.url), "o/private")
    assert isinstance(error, NotFound)
    assert "HF_TOKEN" in str(error.hint)
    assert (await Hub(fake.url, token=FakeHub.TOKEN).resolve("o/private")).models


async def test_a_token_with_letters_that_no_header_can_have_is_told_as_such(fake: FakeHub) -> None:
    error = await failure(Hub(fake.url, token="hf_ü"), "o/r-GGUF")
    assert isinstance(error, UsageError) and "token" in error.message and "ü" not in str(error)


async def test_a_wrong_token_is_refused_and_not_retried(fake: FakeHub) -> None:
    error = await failure(Hub(fake.url, token="hf_wrong"), "o/r-GGUF")
    assert isinstance(error, Refused)
    assert len(fake.requests) == 1


async def test_a_bad_name_is_a_usage_error_without_a_request(fake: FakeHub) -> None:
    assert isinstance(await failure(Hub(fake.url), "not a name"), UsageError)
    assert fake.requests == []


async def test_a_busy_hub_is_asked_again_when_it_says_so(fake: FakeHub) -> None:
    fake.faults.api_busy, fake.faults.retry_after = 2, "0"
    assert (await Hub(fake.url, policy=FAST).resolve("o/r-GGUF")).models
    fake.faults.api_busy = 99
    error = await failure(Hub(fake.url, policy=FAST), "o/r-GGUF")
    assert isinstance(error, TransferFailed)
    assert "429" in str(error)


async def test_a_hub_that_wants_to_be_left_alone_for_longer_than_a_person_waits_is_told_at_once(fake: FakeHub) -> None:
    fake.faults.api_busy, fake.faults.retry_after = 1, "4000"
    error = await failure(Hub(fake.url), "o/r-GGUF")
    assert isinstance(error, TransferFailed) and error.retryable and "429" in str(error)
    assert error.hint == "it asks to be asked again in 1h6m40s"
    assert len(fake.requests) == 1


async def test_a_hub_that_is_not_there_is_a_failed_transfer() -> None:
    with FakeHub() as gone:
        url = gone.url
    assert isinstance(await failure(Hub(url, policy=FAST), "o/r"), TransferFailed)


async def test_offline_mode_is_named(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = await failure(Hub(fake.url), "o/r-GGUF")
    assert "HF_HUB_OFFLINE" in str(error.hint)


async def test_names_that_leave_a_folder_and_impossible_sizes_are_left_out(fake: FakeHub) -> None:
    fake.add("o/evil", {"../../x.gguf": b"1", "a/../b.gguf": b"2", "ok.gguf": b"3"})
    assert [f.name for f in (await Hub(fake.url).resolve("o/evil")).files] == ["ok.gguf"]
    fake.faults.size_lie = -5
    assert (await Hub(fake.url).resolve("o/evil")).files == ()


async def test_an_answer_without_a_commit_is_a_broken_protocol(fake: FakeHub) -> None:
    fake.repos["o/r-GGUF"].sha = "main"
    assert isinstance(await failure(Hub(fake.url), "o/r-GGUF"), ProtocolError)


async def test_a_mirror_that_tells_no_sizes_is_asked_for_the_tree(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.faults.no_blobs = True
    listing = await Hub(fake.url).resolve("o/r-GGUF")
    assert choose_model(listing).size == 2000
    assert choose_model(listing).files[0].sha256 == hashlib.sha256(FILES["m-Q4_K_M.gguf"]).hexdigest()


async def test_a_tree_of_several_pages_is_read_whole(fake: FakeHub) -> None:
    fake.faults.no_blobs, fake.faults.page_size = True, 2
    listing = await Hub(fake.url).resolve("o/r-GGUF")
    assert {f.name for f in listing.files} == set(FILES)


async def test_pages_without_end_and_pages_of_another_host_are_not_followed(fake: FakeHub) -> None:
    fake.faults.no_blobs, fake.faults.page_size = True, 2
    fake.faults.next_page = f"{fake.url}/api/models/o/r-GGUF/tree/main"  # the first page again
    assert isinstance(await failure(Hub(fake.url), "o/r-GGUF"), ProtocolError)
    with Canary() as canary:
        fake.faults.next_page = f"http://127.0.0.1:{canary.port}/page2"
        assert isinstance(await failure(Hub(fake.url), "o/r-GGUF"), Refused)
        assert not canary.touched


ASKING = """
import sys, anyio
from hali.transfer.hub import Hub
anyio.run(Hub(sys.argv[1]).resolve, "o/r-GGUF")
"""


def test_nobody_but_the_hub_of_the_settings_is_asked(fake: FakeHub, tmp_path: Path) -> None:
    with Canary() as canary:  # where huggingface_hub would ask by itself, the first time in a process
        theirs = {"HF_ENDPOINT": f"http://127.0.0.1:{canary.port}", "HF_HOME": str(tmp_path)}
        subprocess.run([sys.executable, "-c", ASKING, fake.url], env=os.environ | theirs, check=True, timeout=60)
        assert not canary.touched
    assert {request.path for request in fake.requests} == {"/api/models/o/r-GGUF"}
    assert not list(tmp_path.iterdir())


async def test_search_finds_repositories_with_gguf_files(fake: FakeHub) -> None:
    fake.add("o/other-GGUF", {"x.safetensors": b"1"})
    fake.add("o/\x1b[2J-GGUF", {"x.gguf": b"1"})  # not a name: must not reach a terminal
    hits = await Hub(fake.url).search("gguf", 5)
    assert [h.repo for h in hits] == ["o/r-GGUF"]
    assert await Hub(fake.url).search("nothing like it") == []


async def test_search_results_have_counts_and_times_and_come_in_the_order_asked_for(fake: FakeHub) -> None:
    first, second = fake.repos["o/r-GGUF"], fake.add("o/Other-GGUF", dict(FILES), gated=True)
    first.downloads, first.likes, first.updated = 5, 9, "2025-06-01T00:00:00.000Z"
    second.downloads, second.likes, second.updated = 6, 8, "2025-05-01T00:00:00.000Z"
    hits = await Hub(fake.url).search("-gguf o")
    assert [(h.repo, h.downloads, h.likes, h.updated, h.gated) for h in hits] == [
        ("o/Other-GGUF", 6, 8, "2025-05-01T00:00:00.000Z", True),
        ("o/r-GGUF", 5, 9, "2025-06-01T00:00:00.000Z", False),
    ]
    for sort in ("likes", "lastModified"):
        assert (await Hub(fake.url).search("GGUF o", sort=sort))[0].repo == "o/r-GGUF"
    assert len(await Hub(fake.url).search("GGUF o", 1)) == 1


async def test_a_time_that_is_none_is_not_shown(fake: FakeHub) -> None:
    fake.repos["o/r-GGUF"].updated = "\x1b[2J"
    assert [h.updated for h in await Hub(fake.url).search("r-gguf")] == [None]


async def test_the_endpoint_comes_from_huggingface_hub_when_none_is_given(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", fake.url)
    assert (await Hub().resolve("o/r-GGUF")).models


async def test_a_token_is_not_sent_over_plain_http_to_other_machines() -> None:
    where = await Hub("http://mirror.example", token="hf_x").file_source("o/r", "main", "m.gguf")
    assert "authorization" not in where.headers
    where = await Hub("https://mirror.example", token="hf_x").file_source("o/r", "main", "m.gguf")
    assert where.headers["authorization"] == "Bearer hf_x"


def test_an_endpoint_that_is_no_web_address_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        Hub("ftp://x")


async def test_the_fake_satisfies_the_librarys_own_search(fake: FakeHub) -> None:
    from huggingface_hub import HfApi

    def search() -> list[str]:
        found = HfApi(endpoint=fake.url).list_models(
            search="r", filter="gguf", sort="downloads", expand=["downloads"], limit=1
        )
        return [f"{model.id} {model.downloads} {model.likes}" for model in found]

    assert await anyio.to_thread.run_sync(search) == ["o/r-GGUF 7 None"]


async def test_the_fake_satisfies_the_librarys_own_download(fake: FakeHub, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    def download() -> bytes:
        path = HfApi(endpoint=fake.url).hf_hub_download("o/r-GGUF", "m-Q8_0.gguf", cache_dir=tmp_path)
        return Path(path).read_bytes()

    assert await anyio.to_thread.run_sync(download) == FILES["m-Q8_0.gguf"]


async def test_a_renamed_repository_is_followed_on_the_same_host(fake: FakeHub) -> None:
    fake.renamed["o/old"] = "o/r-GGUF"
    assert (await Hub(fake.url).resolve("o/old")).commit == fake.repos["o/r-GGUF"].sha


async def test_the_api_is_not_asked_elsewhere_because_a_redirect_says_so(fake: FakeHub) -> None:
    with Canary() as canary:
        here = f"127.0.0.1:{canary.port}"
        links = [*bad_links(canary.port), f"http://{here}/api", fake.cdn_url, "https://hub.example/api/models/o/r"]
        for link in links:
            fake.faults.api_redirect = link.encode().decode("latin-1")
            error = await failure(Hub(fake.url, token=FakeHub.TOKEN, policy=FAST), "o/r-GGUF")
            stays = link in ("http:///x", "http://")
            assert isinstance(error, Refused) or stays, link
            assert FakeHub.TOKEN not in str(error)
        assert not canary.touched
    assert {r.server for r in fake.requests} == {"hub"}


async def test_a_circle_of_redirects_of_the_api_ends(fake: FakeHub) -> None:
    fake.renamed |= {"o/a": "o/b", "o/b": "o/a"}
    assert "redirects more than" in str(await failure(Hub(fake.url), "o/a"))


COMMIT = b'{"sha": "' + b"a" * 40 + b'", "siblings": '
NONSENSE = [b"", b"<html>Sign in</html>", b"[]", b'"x"', b'{"sha": 5}', COMMIT + b"[1]}", b"[" * 100_000, b"\xff\xfe"]


@pytest.mark.parametrize("answer", [*NONSENSE, COMMIT + b'{"rfilename": {}}}'])
async def test_nonsense_from_the_api_is_a_broken_protocol(fake: FakeHub, answer: bytes) -> None:
    fake.faults.api_body = answer
    assert isinstance(await failure(Hub(fake.url), "o/r-GGUF"), ProtocolError)


async def test_an_endless_answer_of_the_api_is_not_read_to_its_end(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hali.transfer.hub_api.MAX_ANSWER", 100_000)
    fake.faults.api_body = b" " * 5_000_000
    assert "100000 bytes" in str(await failure(Hub(fake.url), "o/r-GGUF"))


async def test_no_path_of_a_link_leads_the_token_elsewhere_on_the_hub() -> None:
    for file in ("../../api/whoami-v2", "a/../../x.gguf", "/x.gguf", "..\\x.gguf"):
        with pytest.raises(UsageError):
            await Hub("https://hub.example", token="hf_x").file_source("o/r", "main", file)


@pytest.mark.parametrize("kind", BAD_NAMES)
async def test_names_that_cannot_be_files_everywhere_are_left_out(fake: FakeHub, kind: str) -> None:
    fake.add("o/evil", {BAD_NAMES[kind]: b"1", "ok-Q8_0.gguf": b"3"})
    for no_blobs in (False, True):  # told by the model's info, or by the tree
        fake.faults.no_blobs = no_blobs
        assert [f.name for f in (await Hub(fake.url).resolve("o/evil")).files] == ["ok-Q8_0.gguf"]


async def test_words_of_a_server_reach_no_terminal_unseen(fake: FakeHub) -> None:
    fake.add("o/gated2", dict(FILES), gated=True)
    fake.faults.api_refuse = "\x9b2J\xe9 no"  # as latin-1 on the wire; ESC itself is no header
    error = await failure(Hub(fake.url), "o/gated2")
    assert isinstance(error, Refused) and "?2J" in str(error)

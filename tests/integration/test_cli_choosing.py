"""Searching, and choosing among what was found: with a real daemon, a real terminal, and huggingface_hub against the fake hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.hf_server import FakeHub
from tests.nodes import TestNode, node
from tests.terminal import hali

CODER, PLAIN = "bart/Qwen2.5-Coder-7B-GGUF", "bart/Qwen2.5-7B-GGUF"


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with FakeHub() as running:
        split = {f"coder-Q8_0-0000{n}-of-00002.gguf": bytes([n]) * 3000 for n in (1, 2)}
        running.add(CODER, {"coder-Q4_K_M.gguf": b"4" * 3000, "coder-Q2_K.gguf": b"2" * 2000, **split}).downloads = 9
        running.add(PLAIN, {"plain-Q6_K.gguf": b"6" * 4000, "plain-Q5_0.gguf": b"5" * 3000})
        yield running


@pytest.fixture(scope="module")
def one(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    with node(tmp_path_factory.mktemp("one"), lan_enabled="off", hf_endpoint=hub.url) as made:
        made.start()
        yield made


@pytest.fixture(autouse=True)
def no_idle_connections(hub: FakeHub) -> Iterator[None]:
    yield
    hub.hang_up()


def test_search_lists_repositories_the_most_downloaded_first(one: TestNode) -> None:
    found = one.ok("search", "qwen2.5", "7b")
    assert [item["name"] for item in found] == [CODER, PLAIN]
    assert set(found[0]) == {"name", "provider", "downloads", "likes", "updated", "gated"}
    assert len(one.ok("search", "qwen2.5", "--limit", "1", "--sort", "updated")) == 1
    shown = one.hali("search", "coder").stdout.splitlines()
    assert shown[0].split() == ["NAME", "DOWNLOADS", "LIKES", "UPDATED", "FROM"]
    assert shown[1].split() == [CODER, "9", "1", "2025-01-02", "Hugging", "Face"]
    assert one.hali("search", "nothing like it").stdout == "Nothing found. Fewer words find more.\n"


@pytest.mark.parametrize("args", [("x", "--limit", "0"), ("x", "--sort", "size"), (), (" ",)])
def test_a_search_that_makes_no_sense_is_a_usage_error(one: TestNode, args: tuple[str, ...]) -> None:
    one.fails("search", *args, code=2)


def test_words_lead_over_repositories_and_quants_to_a_model(one: TestNode) -> None:
    with hali(one, "pull", "qwen2.5", columns=120) as pull:
        pull.until("Which one?")
        assert f"1  {CODER}" in pull.text
        pull.type("1\n")
        pull.until(lambda text: text.count("Which one?") == 2)
        rows = [line.split() for line in pull.text.splitlines() if line.startswith(("  1  Q", "  2  Q", "  3  Q"))]
        assert [row[1:] for row in rows] == [
            ["Q2_K", "2.0", "kB", "fits"],
            ["Q4_K_M", "3.0", "kB", "fits"],
            ["Q8_0", "6.0", "kB", "2", "files", "fits"],
        ]
        pull.type("1\n")
        assert pull.end() == 0
    assert one.ok("info", "coder-Q2_K.gguf")["hf_repo"] == CODER


def test_a_quant_of_two_files_is_asked_about_and_the_chosen_file_is_pulled(one: TestNode, hub: FakeHub) -> None:
    hub.add("bart/Twins-GGUF", {"one-Q4_0.gguf": b"1" * 3000, "two-Q4_0.gguf": b"2" * 3000})
    with hali(one, "pull", "bart/Twins-GGUF", "--quant", "q4_0", columns=120) as pull:
        pull.until("Which one?")
        pull.type("2\n")
        assert pull.end() == 0
    assert one.ok("info", "two-Q4_0.gguf")["state"] == "seeding"


def test_a_quant_is_pulled_beside_another_of_the_repository(one: TestNode, hub: FakeHub) -> None:
    """By repository and by name: what is here in another quantization is no answer."""
    hub.add(
        "bart/Pair-1B-GGUF",
        {"Pair-1B-Q4_K_M.gguf": b"pair of four " * 300, "Pair-1B-Q8_0.gguf": b"pair of eight" * 300},
    )
    assert one.ok("pull", "bart/Pair-1B-GGUF", "--quant", "q4_k_m")["files"] == ["Pair-1B-Q4_K_M.gguf"]
    assert "Q9" in one.fails("pull", "bart/Pair-1B-GGUF", "--quant", "Q9", code=3)
    searched = one.hali("pull", "pair:1b", "--quant", "Q8_0")  # it is not here, and nobody can choose
    assert (searched.returncode, searched.stderr.splitlines()[-1].strip()) == (2, "bart/Pair-1B-GGUF")
    assert one.ok("pull", "bart/Pair-1B-GGUF", "--quant", "Q8_0")["files"] == ["Pair-1B-Q8_0.gguf"]
    for what in ("pair", "pair:1b", "pair:1b:q4_k_m"):
        assert one.ok("pull", what, "--quant", "Q4_K_M")["files"] == ["Pair-1B-Q4_K_M.gguf"]


def test_without_a_terminal_words_are_answered_with_candidates(one: TestNode) -> None:
    done = one.hali("pull", "qwen2.5", "--json")
    assert done.returncode == 2
    error = json.loads(done.stdout.splitlines()[-1])["error"]
    assert (error["code"], error["details"]["choices"]) == ("ambiguous", [CODER, PLAIN])
    one.fails("pull", "nosuchmodel", code=3)


def test_without_a_terminal_a_repository_gives_q4_k_m_or_the_list(one: TestNode) -> None:
    done = one.hali("pull", CODER + "@main", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[-1])["files"] == ["coder-Q4_K_M.gguf"]
    assert done.stderr == f"hali: {CODER}: taking Q4_K_M of 3 models; --quant chooses another\n"
    done = one.hali("pull", PLAIN, "--json")
    assert done.returncode == 2
    details = json.loads(done.stdout.splitlines()[-1])["error"]["details"]
    assert details["choices"] == [f"{PLAIN}/plain-Q5_0.gguf", f"{PLAIN}/plain-Q6_K.gguf"]
    assert [(m["quant"], m["size"], m["fits"]) for m in details["models"]] == [
        ("Q5_0", 3000, "ram"),
        ("Q6_K", 4000, "ram"),
    ]


def test_a_link_pulls_what_it_names_and_a_bad_one_starts_no_daemon(one: TestNode, tmp_path: Path) -> None:
    assert one.ok("pull", f"hali://model/{PLAIN}:Q5_0")["files"] == ["plain-Q5_0.gguf"]
    with node(tmp_path / "idle", lan_enabled="off") as idle:
        assert "cannot follow" in idle.fails("pull", "hali://model/o/r?x.pe=127.0.0.1:80", code=2)
        idle.fails("daemon", "status", code=4)


def test_what_only_the_repository_says_is_in_the_name_of_the_stored_model(one: TestNode, hub: FakeHub) -> None:
    hub.add("google/gemma-3-4b-it-qat-q4_0-gguf", {"gemma-3-4b-it-q4_0.gguf": b"q" * 3000})
    assert one.ok("pull", "google/gemma-3-4b-it-qat-q4_0-gguf")["model_id"] == "gemma-3:4b:it-qat:q4_0"
    hub.add("o/Folders-GGUF", {"Q6_K/m-7b.gguf": b"6" * 3000, "Q8_0/m-7b.gguf": b"8" * 3000})
    assert one.ok("pull", "o/Folders-GGUF:Q6_K")["model_id"] == "m:7b:base:q6_k"


def test_a_split_is_one_choice_and_comes_whole(one: TestNode) -> None:
    pulled = one.ok("pull", f"{CODER}:Q8_0")
    assert pulled["files"] == [f"coder-Q8_0-0000{part}-of-00002.gguf" for part in (1, 2)]
    listed = one.call("choices", what=CODER)["models"]
    assert [model["here"] for model in listed if model["quant"] == "Q8_0"] == [True]


def test_a_repository_that_is_here_needs_no_hub(one: TestNode, hub: FakeHub) -> None:
    one.ok("pull", f"{PLAIN}:Q5_0")
    asked = len(hub.requests)
    assert one.ok("pull", PLAIN)["from_store"]
    assert len(hub.requests) == asked


def test_a_search_that_nobody_answers_fails_in_one_line(one: TestNode, hub: FakeHub) -> None:
    hub.faults.api_busy, hub.faults.retry_after = 99, "0"
    try:
        assert "HTTP 429" in one.fails("search", "qwen", code=1)
        assert "HTTP 429" in one.fails("pull", "nosuchmodel", code=3)
    finally:
        hub.faults.api_busy = 0


def test_a_server_that_wants_to_be_left_alone_is_told_while_it_is_waited_for(one: TestNode, hub: FakeHub) -> None:
    hub.add("o/Patience-1B-GGUF", {"patience-1b-Q8_0.gguf": b"p" * 3000})
    hub.faults.busy, hub.faults.retry_after = 1, "4"
    done = one.hali("pull", "o/Patience-1B-GGUF")
    assert done.returncode == 0
    assert re.search(r"the server asks to wait [1-4]s", done.stderr)  # told once, in whole seconds of what is left

"""What a pull offers when it was not told exactly."""

from __future__ import annotations

import io
from typing import Any

import pytest

from hali.cli.offers import elsewhere, lines, of_repository, words_for
from hali.cli.output import Output
from hali.cli.search import format_count
from hali.model.errors import AmbiguousName, Cancelled, NotFound, TransferFailed

REPO = "o/M-7B-GGUF"


def model(quant: str, gb: float, *, parts: int = 1, fits: str | None = "ram", **other: Any) -> dict[str, Any]:
    files = [
        f"m-7b-{quant}-{n:05}-of-{parts:05}.gguf" if parts > 1 else f"m-7b-{quant}.gguf" for n in range(1, parts + 1)
    ]
    row = {"id": "m:7b:base", "quant": quant, "size": round(gb * 10**9), "files": files, "mmproj": []}
    return row | {"missing": None, "fits": fits, "here": False} | other


MODELS = [model("Q2_K", 3.0, here=True), model("Q4_K_M", 4.7), model("F16", 15.2, parts=2, fits="no")]


class Daemon:
    """Answers every request with `answer`, or fails with it, and remembers what it was asked."""

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self._answer = answer
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One request."""
        self.asked.append((method, params))
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def repository(models: list[dict[str, Any]], **other: Any) -> Any:
    found = {"stored": False, "repo": REPO, "commit": "c" * 40, "models": models, "default": None}
    return Daemon(found | {"memory": {"ram": 8 * 10**9, "gpu": None}} | other)


def found_by_search(*names: str, warnings: tuple[str, ...] = ()) -> Any:
    results = [{"name": name, "provider": "Hugging Face", "downloads": 2_100_000} for name in names]
    return Daemon({"results": results, "warnings": list(warnings)})


def out(monkeypatch: pytest.MonkeyPatch, typed: str | None = None) -> Output:
    """At a terminal where `typed` is typed, or without one."""
    made = Output()
    made.interactive = typed is not None
    monkeypatch.setattr("sys.stdin", io.StringIO(typed or ""))
    return made


def test_a_person_chooses_a_model_of_a_repository_from_a_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = of_repository(out(monkeypatch, "3\n"), repository(MODELS), REPO + "@v1", None)
    assert chosen == f"{REPO}@v1/m-7b-F16-00001-of-00002.gguf"
    assert capsys.readouterr().err.splitlines()[:4] == [
        f"{REPO} has 3 models (8.0 GB of RAM free):",
        "  1  Q2_K    3.0 GB            here",
        "  2  Q4_K_M  4.7 GB            fits",
        "  3  F16     15.2 GB  2 files  too large for this machine",
    ]


def test_choosing_nothing_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Cancelled):
        of_repository(out(monkeypatch, "\n"), repository(MODELS), REPO, None)


@pytest.mark.parametrize("what", [f"{REPO}:Q8_0", f"{REPO}/m.gguf", "smollm2", f"hali://model/{REPO}:Q8_0"])
def test_who_has_said_what_he_wants_is_not_asked(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = repository(MODELS)
    assert of_repository(out(monkeypatch, "1\n"), daemon, what, None) == what
    assert of_repository(out(monkeypatch, "1\n"), daemon, REPO, "Q8_0") == REPO
    assert daemon.asked == []


def test_a_repository_with_one_model_needs_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert of_repository(out(monkeypatch, ""), repository(MODELS[:1]), REPO, None) == REPO
    assert of_repository(out(monkeypatch, ""), repository([], stored=True), REPO, None) == REPO


@pytest.mark.parametrize("flags", [{}, {"as_json": True}])
def test_without_a_terminal_the_usual_quant_is_taken_and_said_on_standard_error(
    flags: dict[str, bool], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Output(**flags)
    made.interactive = False
    assert of_repository(made, repository(MODELS, default="m-7b-Q4_K_M.gguf"), REPO, None) == REPO
    shown = capsys.readouterr()
    assert "taking Q4_K_M of 3 models" in shown.err
    assert not shown.out


def test_without_a_terminal_and_without_the_usual_quant_the_models_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AmbiguousName) as caught:
        of_repository(out(monkeypatch), repository(MODELS), REPO, None)
    assert caught.value.choices == [f"{REPO}/{m['files'][0]}" for m in MODELS]
    assert caught.value.details["models"] == MODELS
    assert caught.value.exit_code == 2


def test_quiet_says_nothing_of_the_usual_quant(capsys: pytest.CaptureFixture[str]) -> None:
    made = Output(quiet=True)
    made.interactive = True
    assert of_repository(made, repository(MODELS, default="m-7b-Q4_K_M.gguf"), REPO, None) == REPO
    assert capsys.readouterr().err == ""


def test_models_of_one_quant_are_told_apart_by_their_files() -> None:
    twins = [model("Q4_0", 4, files=["a-Q4_0.gguf"], fits=None), model("Q4_0", 4, files=["b-Q4_0.gguf"], fits=None)]
    assert lines(twins) == ["a-Q4_0.gguf  4.0 GB", "b-Q4_0.gguf  4.0 GB"]


def test_a_model_that_lacks_a_part_says_so() -> None:
    assert lines([model("Q8_0", 4, parts=2, missing="m-00002-of-00002.gguf", fits=None)]) == [
        "Q8_0  4.0 GB  incomplete"
    ]


HERE = NotFound("no model 'qwen coder' in the store or on the LAN", hint="give owner/repo")


def test_a_person_chooses_from_what_a_search_finds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = found_by_search("o/one", "o/two", warnings=("registry: down",))
    assert elsewhere(out(monkeypatch, "2\n"), daemon, "qwen coder", HERE) == ("o/two", None)
    assert daemon.asked == [("search", {"text": "qwen coder", "limit": 10})]
    err = capsys.readouterr().err
    assert "hali: warning: registry: down\n" in err
    assert "  2  o/two  2.1M downloads  Hugging Face\n" in err


def test_the_quant_of_an_id_is_remembered_when_its_repository_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = elsewhere(out(monkeypatch, "1\n"), found_by_search("o/one"), "smollm2:135m:instruct:q4_1", HERE)
    assert wanted == ("o/one", "q4_1")


def test_nobody_to_ask_gets_the_findings_as_an_ambiguous_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AmbiguousName) as caught:
        elsewhere(out(monkeypatch), found_by_search("o/one", "o/two"), "qwen coder", HERE)
    assert caught.value.choices == ["o/one", "o/two"]


def test_what_no_search_finds_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound) as caught:
        elsewhere(out(monkeypatch, "1\n"), found_by_search(), "qwen coder", HERE)
    assert caught.value is HERE


def test_a_search_that_cannot_be_made_leaves_the_name_not_found_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    offline: Any = Daemon(TransferFailed("the hub cannot be reached"))
    with pytest.raises(NotFound, match="qwen coder") as caught:
        elsewhere(out(monkeypatch, "1\n"), offline, "qwen coder", HERE)
    assert caught.value.hint == "give owner/repo; the hub cannot be reached"


@pytest.mark.parametrize("what", ["ab" * 32, "0123abcd", "owner/repo", "magnet:?xt=urn:btih:" + "a" * 40, "x" * 201])
def test_hashes_links_and_repositories_are_not_searched_for(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = found_by_search("o/one")
    with pytest.raises(NotFound):
        elsewhere(out(monkeypatch, "1\n"), daemon, what, HERE)
    assert daemon.asked == []


@pytest.mark.parametrize(
    ("name", "words", "quant"),
    [
        ("qwen  coder 7b", "qwen coder 7b", None),
        ("qwen2.5:7b", "qwen2.5 7b", None),
        ("smollm2:135m:instruct:q4_1", "smollm2 135m instruct", "q4_1"),
        ("phi-4:unknown:base:unknown", "phi-4", None),
    ],
)
def test_a_name_becomes_words_to_search_for(name: str, words: str, quant: str | None) -> None:
    assert words_for(name) == (words, quant)


@pytest.mark.parametrize(("n", "text"), [(None, "—"), (0, "0"), (999, "999"), (1500, "1.5K"), (2_100_000, "2.1M")])
def test_counts_are_short(n: int | None, text: str) -> None:
    assert format_count(n) == text

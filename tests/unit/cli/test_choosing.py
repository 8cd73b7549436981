"""Asking which of several models is meant."""

from __future__ import annotations

import io

import pytest

from hali.cli.choosing import agreed, confirm, name_of, with_choice
from hali.cli.output import Output
from hali.model.errors import AmbiguousName, Cancelled, UsageError

CHOICES = ["smollm2:135m:instruct:q4_1 (sha256 b179c9523d0e…, a.gguf)", "owner/repo/b.gguf"]


def act(name: str) -> str:
    if name == "ambiguous":
        error = AmbiguousName("'ambiguous' fits 2", choices=CHOICES)
        error.details["sizes"] = [98_362_432, 1_000_000_000]
        raise error
    return f"did {name}"


def at_a_terminal(monkeypatch: pytest.MonkeyPatch, typed: str) -> Output:
    out = Output()
    out.interactive = True
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    return out


def test_a_person_chooses_by_number(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert with_choice(at_a_terminal(monkeypatch, "7\nx\n1\n"), "ambiguous", act) == "did b179c9523d0e"
    shown = capsys.readouterr()
    assert "1  smollm2" in shown.err
    assert "1.0 GB" in shown.err
    assert not shown.out
    assert with_choice(at_a_terminal(monkeypatch, "2\n"), "ambiguous", act) == "did owner/repo/b.gguf"


def test_choosing_nothing_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    for typed in ("\n", ""):
        with pytest.raises(Cancelled):
            with_choice(at_a_terminal(monkeypatch, typed), "ambiguous", act)


def test_nobody_is_asked_without_a_terminal() -> None:
    out = Output()
    out.interactive = False
    with pytest.raises(AmbiguousName):
        with_choice(out, "ambiguous", act)


def test_what_is_not_ambiguous_is_just_done(monkeypatch: pytest.MonkeyPatch) -> None:
    assert with_choice(at_a_terminal(monkeypatch, ""), "plain", act) == "did plain"


def test_the_hash_is_taken_out_of_a_choice_that_names_one() -> None:
    assert [name_of(choice) for choice in CHOICES] == ["b179c9523d0e", "owner/repo/b.gguf"]


@pytest.mark.parametrize(
    ("typed", "meant"), [("y\n", True), ("Yes\n", True), ("\n", False), ("", False), ("n\n", False)]
)
def test_only_yes_confirms(typed: str, meant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert confirm("Delete it?") is meant


def test_who_is_there_is_shown_what_it_is_about_and_asked_unless_yes_was_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert agreed(at_a_terminal(monkeypatch, "y\n"), "Sure?", False, about=["all of it"])
    assert capsys.readouterr().err == "all of it\nSure? [y/N] "
    assert not agreed(at_a_terminal(monkeypatch, "\n"), "Sure?", False)
    assert agreed(at_a_terminal(monkeypatch, "n\n"), "Sure?", True)


def test_nothing_is_done_unasked_when_nobody_is_there_unless_yes_was_said() -> None:
    out = Output()
    out.interactive = False
    assert agreed(out, "Sure?", True)
    with pytest.raises(UsageError) as caught:
        agreed(out, "Sure?", False)
    assert caught.value.hint == "--yes goes ahead without asking"

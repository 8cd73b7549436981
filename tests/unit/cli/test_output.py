"""What people and programs see of results and errors."""

from __future__ import annotations

import json

import pytest

from hali.cli.output import Output, table
from hali.model.errors import AmbiguousName, Failed, NotFound


def test_an_error_is_one_line_with_what_to_do_or_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    error = NotFound("no model 'x'", hint="pull it")
    assert Output().error(error) == 3
    assert capsys.readouterr().err == "hali: no model 'x' — pull it\n"
    assert Output(as_json=True).error(error) == 3
    wire = json.loads(capsys.readouterr().out)
    assert (wire["ok"], wire["error"]["code"], wire["error"]["exit_code"]) == (False, "not_found", 3)


def test_an_ambiguous_name_lists_its_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert Output().error(AmbiguousName("'x' fits 2", choices=["a", "b"])) == 2
    assert capsys.readouterr().err.splitlines() == ["hali: 'x' fits 2", "  a", "  b"]


def test_an_error_of_several_lines_becomes_one(capsys: pytest.CaptureFixture[str]) -> None:
    Output().error(Failed("first\nsecond"))
    assert capsys.readouterr().err == "hali: first second\n"


def test_results_go_to_standard_output_and_notes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.line("result")
    out.note("note")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("result\n", "note\n")


def test_quiet_prints_neither_notes_nor_confirmations_but_results(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(quiet=True)
    out.note("note")
    out.result({}, "done")
    out.line("result")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("result\n", "")


def test_json_prints_nothing_but_json(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(as_json=True)
    out.line("result")
    out.note("note")
    out.result({"größe": 1}, "done")
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"größe": 1}
    assert "größe" in shown.out
    assert not shown.err


@pytest.mark.parametrize(("value", "colors"), [("1", False), ("", True), (None, True)])
def test_no_color_counts_when_it_is_not_empty(value: str | None, colors: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if value is not None:
        monkeypatch.setenv("NO_COLOR", value)
    assert Output().color is colors
    assert not Output(no_color=True).color


def test_the_first_column_gives_way_on_a_narrow_terminal() -> None:
    rows = [("m", "1")]
    assert table(("MODEL", "N"), rows, first=42, room=100) == ["MODEL".ljust(42) + "  N", "m".ljust(42) + "  1"]
    assert table(("MODEL", "N"), rows, first=42, room=20) == ["MODEL".ljust(17) + "  N", "m".ljust(17) + "  1"]
    assert table(("MODEL", "N"), rows, first=42, room=3) == ["MODEL  N", "m      1"]


def test_a_table_without_rows_is_its_header() -> None:
    assert table(("A", "B"), [], room=80) == ["A  B"]


def test_no_escape_sequence_of_a_stranger_gets_out_with_an_error_or_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    evil = "a\x1b[2J\u202e\x9b"
    Output().error(AmbiguousName(evil, choices=[evil], hint=evil))
    Output().warn(evil)
    shown = capsys.readouterr().err
    assert all(line.isprintable() for line in shown.splitlines()) and shown.count(r"a\x1b[2J\u202e\x9b") == 4


def test_nor_with_a_result_which_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Output().line("a\x1b[2J\nb\r")
    Output().table(("NAME",), [("\x07",)])
    assert capsys.readouterr().out == "a\\x1b[2J\nb\\r\nNAME\n\\x07\n"

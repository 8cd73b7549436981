"""The log as people read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hali.cli.logs import readable
from hali.cli.main import main

LINE = {
    "ts": "2026-11-21T10:42:15.521Z",
    "level": "info",
    "logger": "hali.api.server",
    "event": "api.listening",
    "port": 1,
}


def test_an_event_becomes_one_line() -> None:
    text = readable(json.dumps(LINE))
    assert text.endswith("info    api.server api.listening port=1")


def test_what_a_stranger_sent_cannot_move_the_cursor() -> None:
    assert "\x1b" not in readable(json.dumps(LINE | {"peer": "\x1b[2J"}))
    assert "\x1b" not in readable("no json \x1b[2J")


def test_a_traceback_follows_its_event() -> None:
    assert readable(json.dumps(LINE | {"traceback": "Traceback\n  here"})).endswith("\nTraceback\n  here")
    assert readable(json.dumps(LINE | {"traceback": "Traceback\n\x1b[2J"})).endswith("\nTraceback\n\\x1b[2J")


@pytest.mark.parametrize("line", ["", "[]", "{}", '{"ts": 5}', "torn {", '{"ts": "yesterday"}'])
def test_a_line_that_is_no_event_is_shown_as_it_is(line: str) -> None:
    assert readable(line) == line


def test_the_last_lines_are_shown_and_json_is_left_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "logs").mkdir(parents=True)
    lines = [json.dumps(LINE | {"port": n}) for n in range(9)]
    (home / "logs" / "hali.log").write_text("\n".join(lines) + "\n")
    with pytest.raises(SystemExit):
        main(["logs", "-n", "2", "--json"])
    assert capsys.readouterr().out.splitlines() == lines[-2:]
    with pytest.raises(SystemExit):
        main(["logs", "-n", "9" * 20, "--json"])
    assert capsys.readouterr().out.splitlines() == lines


def test_no_log_yet_is_said_with_exit_code_3(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["logs"])
    assert caught.value.code == 3
    assert "first start of the daemon" in capsys.readouterr().err

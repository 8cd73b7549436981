"""How `hali events` tells an event."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from hali.cli.events import _show
from hali.cli.output import Output

EVENT: dict[str, Any] = {
    "seq": 3,
    "ts": 1_700_000_000.5,
    "kind": "pull.finished",
    "text": "o/r is\x1b[2J shared",
    "toast_level": "success",
    "fields": {"what": "o/r"},
}


def test_for_people_an_event_is_a_line_without_what_a_terminal_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    _show(Output(), EVENT)
    _show(Output(), {"missed": 7})
    clock = time.strftime("%H:%M:%S", time.localtime(EVENT["ts"]))
    assert capsys.readouterr().out == f"{clock}  pull.finished         o/r is[2J shared\n… 7 more\n"


def test_for_programs_it_is_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    _show(Output(as_json=True), EVENT)
    _show(Output(as_json=True), {"missed": 7})
    first, second = capsys.readouterr().out.splitlines()
    assert (json.loads(first), json.loads(second)) == (EVENT, {"missed": 7})

"""What is logged can be read back; where it cannot be written, that is told once."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from hali.runtime.log import configure, get_logger

FULL = Path("/dev/full")


@pytest.fixture
def _undone() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()  # `configure` closes what it finds
    yield
    configure(debug=False, stderr=False)  # closes also what cannot be flushed
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.usefixtures("_undone")
def test_a_file_name_in_another_encoding_loses_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configure(debug=False, directory=tmp_path, stderr=False)
    get_logger("hali.test").warning("store.damaged", path="/models/\udcff")
    (line,) = (tmp_path / "hali.log").read_text().splitlines()
    assert json.loads(line)["path"] == "/models/\udcff"
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not FULL.exists(), reason="NOT TESTED: this system has no /dev/full")
@pytest.mark.usefixtures("_undone")
def test_lines_that_the_disk_does_not_take_are_told_once_and_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(debug=False, directory=FULL.parent, stderr=False, file=FULL.name)
    for _ in range(3):
        get_logger("hali.test").info("something.happened")
    assert capsys.readouterr().err == "hali: /dev/full: No space left on device\n"

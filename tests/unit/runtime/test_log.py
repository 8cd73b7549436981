"""What is logged can be read back."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from hali.runtime.log import configure, get_logger


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()  # `configure` closes what it finds
    configure(debug=False, directory=tmp_path, stderr=False)
    yield tmp_path
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)


def test_a_file_name_in_another_encoding_loses_no_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    get_logger("hali.test").warning("store.damaged", path="/models/\udcff")
    (line,) = (folder / "hali.log").read_text().splitlines()
    assert json.loads(line)["path"] == "/models/\udcff"
    assert capsys.readouterr().err == ""

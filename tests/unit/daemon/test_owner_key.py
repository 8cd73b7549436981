"""The key of the HTTP API's owner, as its file has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.config.load import load
from hali.config.paths import Paths
from hali.daemon.main import _api_keys
from hali.model.errors import ConfigError


@pytest.mark.parametrize("content", [b"", b" \n", b"hali-x\nhali-y\n", b"\xff\xfe"])
def test_a_file_without_a_key_opens_nothing(tmp_path: Path, content: bytes) -> None:
    paths = Paths(tmp_path)
    paths.api_key.write_bytes(content)
    with pytest.raises(ConfigError, match="holds no key"):
        _api_keys(paths, load(paths.config, env={}))


def test_a_key_is_read_without_what_surrounds_it(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    paths.api_key.write_text("hali-x\n")
    assert [key.secret for key in _api_keys(paths, load(paths.config, env={}))] == ["hali-x"]

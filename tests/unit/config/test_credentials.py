"""Secrets from a service manager."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.config.credentials import credential
from hali.model.errors import ConfigError


def test_a_secret_is_the_line_in_its_file_and_none_where_none_was_handed_over(tmp_path: Path) -> None:
    env = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    (tmp_path / "hf_token").write_text("hf_abc\n")
    assert credential("hf_token", env) == "hf_abc"
    assert credential("api_key", env) is None
    assert credential("hf_token", {}) is None


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff\xfe", b"nul\0"])
def test_a_secret_that_cannot_be_one_is_a_matter_of_configuration_and_not_shown(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "api_key").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        credential("api_key", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert caught.value.exit_code == 78
    assert "two" not in f"{caught.value} {caught.value.hint}"

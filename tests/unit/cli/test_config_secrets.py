"""The shared secret never comes out of the command line again."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from hali.cli.main import main
from hali.config.load import load

SECRET = "ab" * 32


@pytest.mark.parametrize("source", ["file", "env"])
@pytest.mark.parametrize(
    "command",
    [
        ["config", "show"],
        ["config", "show", "--json"],
        ["config", "get", "lan.hmac_shared_secret"],
        ["config", "get", "lan.hmac_shared_secret", "--json"],
    ],
)
def test_a_secret_is_masked_wherever_it_is_set_and_shown(
    command: list[str], source: str, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if source == "env":
        monkeypatch.setenv("HALI_LAN_HMAC_SHARED_SECRET", SECRET)
    else:
        with pytest.raises(SystemExit):
            main(["config", "set", "lan.hmac_shared_secret", SECRET])
    with pytest.raises(SystemExit) as caught:
        main(command)
    told = capsys.readouterr()
    assert caught.value.code == 0
    assert SECRET not in told.out + told.err
    assert "********" in told.out


def test_a_wrong_secret_is_refused_without_repeating_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["config", "set", "lan.hmac_shared_secret", SECRET[1:]])
    told = capsys.readouterr()
    assert caught.value.code == 2
    assert SECRET[1:] not in told.out + told.err


def test_a_secret_may_come_from_a_pipe_and_is_told_to_nobody(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{SECRET}\nmore\n"))
    with pytest.raises(SystemExit) as caught:
        main(["config", "set", "lan.hmac_shared_secret", "-"])
    told = capsys.readouterr()
    assert caught.value.code == 0
    assert SECRET not in told.out + told.err
    assert load(home / "config.toml", {}).settings.lan.hmac_shared_secret == SECRET

"""Paths that commands are given: `~nobody`, and relative ones in a folder that has been deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from hali.cli import attachments, control, transcript
from hali.cli.main import main
from hali.config.paths import absolute, expanded, from_environment
from hali.model.errors import ConfigError, Failed, UsageError
from hali.share.targets import parse_target

NOBODY = "~nobody-of-this-name/x.gguf"
COMMANDS = [("add", "{}"), ("pull", "{}.torrent"), ("registry", "index", "{}"), ("demo", "{}")]


def refusal(command: tuple[str, ...], path: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and error of the command with this path."""
    with pytest.raises(SystemExit) as caught:
        main([word.format(path) for word in command])
    assert isinstance(caught.value.code, int)
    return caught.value.code, capsys.readouterr().err


@pytest.fixture
def no_daemon(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is started for what cannot be."""

    def start(*_: object, **__: object) -> None:
        raise AssertionError("a daemon was asked for")

    monkeypatch.setattr(control, "ensure", start)


@pytest.fixture
def gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder is deleted."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()


@pytest.mark.usefixtures("no_daemon")
@pytest.mark.parametrize("command", [*COMMANDS, ("hash", "{}")], ids=lambda command: command[0])
def test_the_home_of_nobody_is_one_clear_line(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, told = refusal(command, NOBODY, capsys)
    assert code == 2
    assert "the home of ~nobody-of-this-name is not known — give a full path\n" in told


def test_the_home_of_nobody_is_refused_wherever_a_path_is_read() -> None:
    for read in (
        attachments.image_url,
        attachments.response_format,
        transcript._path,
        lambda file: parse_target(f"{file}.torrent"),
    ):
        with pytest.raises(UsageError, match="is not known"):
            read(NOBODY)
    with pytest.raises(ConfigError, match=r"HALI_HOME: .* is not known"):
        from_environment({"HALI_HOME": NOBODY})


@pytest.mark.usefixtures("no_daemon", "gone")
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_current_folder_that_is_gone_is_named_as_the_reason(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = refusal(command, "x", capsys)
    assert code == 1
    assert "the current folder is gone" in told and "`cd` to a folder that is there" in told


@pytest.mark.usefixtures("gone")
def test_where_the_current_folder_is_gone_only_relative_paths_are_refused() -> None:
    with pytest.raises(Failed, match="the current folder is gone"):
        from_environment({"HALI_HOME": "x"})
    assert absolute("/x") == Path("/x")
    assert absolute("~/x") == Path.home() / "x"


def test_what_no_path_can_be_is_refused() -> None:
    with pytest.raises(UsageError, match="zero byte"):
        expanded("a\0b")

"""The command line's outer shell: flags anywhere, one line an error, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hali._version import __version__
from hali.cli import main as module
from hali.cli.main import COMMANDS, main
from hali.cli.output import Output
from hali.model.errors import AmbiguousName, NotFound


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(args)
    code = caught.value.code
    assert isinstance(code, int)
    return code


def test_the_version_is_told_without_importing_anything_heavy() -> None:
    probe = "import sys; sys.argv = ['hali', '--version']\nfrom hali.cli.main import main\ntry: main()\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    version, modules = done.stdout.splitlines()
    assert version == f"hali {__version__}"
    assert not {"typer", "click", "rich", "msgspec", "anyio", "asyncio", "httpx", "libtorrent"} & set(modules.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_takes_no_unknown_option(name: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name, "--help") == 0
    assert "Usage" in capsys.readouterr().out
    if name != "daemon":  # its commands take every configuration key
        assert run(name, "--no-such-option") == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("pul") == 2
    assert "did you mean pull" in capsys.readouterr().err


def test_flags_may_stand_anywhere_up_to_a_double_dash() -> None:
    assert module._take_flags(["--json", "list", "-q"]) == (["list"], {"as_json": True, "quiet": True})
    assert module._take_flags(["run", "--", "m", "--json"]) == (["run", "--", "m", "--json"], {})


def test_an_error_is_one_line_with_what_to_do_or_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    error = NotFound("no model 'x'", hint="pull it")
    assert Output().error(error) == 3
    assert capsys.readouterr().err == "hali: no model 'x' — pull it\n"
    assert Output(as_json=True).error(error) == 3
    wire = json.loads(capsys.readouterr().out)
    assert (wire["ok"], wire["error"]["code"], wire["error"]["exit_code"]) == (False, "not_found", 3)
    assert Output().error(AmbiguousName("'x' fits 2", choices=["a", "b"])) == 2
    assert capsys.readouterr().err.splitlines() == ["hali: 'x' fits 2", "  a", "  b"]


def test_commands_without_a_daemon_say_so_with_exit_code_4(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("daemon", "status") == 4
    assert capsys.readouterr().err == "hali: Daemon is not running. — start it with `hali daemon start`\n"
    assert run("daemon", "stop") == 0


def test_config_shows_sets_and_unsets(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "set", "max_upload_mbps", "50") == 0
    capsys.readouterr()
    assert run("config", "get", "max_upload_mbps", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["value"], row["source"], row["unit"]) == (50.0, "file", "Mbit/s")
    assert run("config", "unset", "max_upload_mbps") == 0
    assert run("config", "set", "max_uplod_mbps", "50") == 2
    assert "max_upload_mbps" in capsys.readouterr().err
    assert run("config", "path") == 0
    assert capsys.readouterr().out.strip() == str(home / "config.toml")

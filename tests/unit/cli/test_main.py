"""The command line's outer shell: commands, flags anywhere, help, one line an error, exit codes."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hali._version import __version__
from hali.cli import main as module
from hali.cli.help import EXIT_CODES
from hali.cli.main import COMMANDS, main
from hali.model.errors import ExitCode


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(args)
    code = caught.value.code
    assert isinstance(code, int)
    return code


def modules_of(*args: str) -> tuple[str, set[str]]:
    """What a real `hali ARGS` prints, and every module it has imported at its end."""
    probe = f"""import sys
from hali.cli.main import main
try: main({args!r})
except SystemExit: pass
print(*sys.modules)"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    printed, _, modules = done.stdout.rstrip("\n").rpartition("\n")
    return printed, set(modules.split())


def test_the_version_is_told_without_importing_anything_heavy() -> None:
    printed, modules = modules_of("--version")
    assert printed == f"hali {__version__}"
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    ours = {"hali", "hali._version", "hali.cli", "hali.cli.main", "hali.cli.streams"}
    assert modules - set(bare.stdout.split()) <= {"__future__", *ours}


@pytest.mark.parametrize(
    "args", [("daemon", "status"), ("ps",), ("daemon", "stop"), ("help", "pull"), ("config", "-h")]
)
def test_commands_that_only_ask_the_daemon_import_nothing_heavy(args: tuple[str, ...], home: Path) -> None:
    _, modules = modules_of(*args)
    assert "hali.cli.main" in modules
    heavy = {
        "pydantic",
        "rich",
        "anyio",
        "asyncio",
        "httpx",
        "libtorrent",
        "cryptography",
        "secrets",
        "_hashlib",
        "ctypes",
    }
    assert not heavy & modules


@pytest.mark.parametrize("args", [("list",), ("info", "nothing")])
def test_the_store_is_read_without_importing_transfers_or_engines(args: tuple[str, ...], home: Path) -> None:
    _, modules = modules_of(*args)
    assert "hali.share.library" in modules, "there is no daemon to ask"
    assert not {"httpx", "rich", "hali.share.acquire", "hali.transfer.session", "hali.engine.pool"} & modules


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_takes_no_unknown_option(
    name: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for args in ((name, "--help"), (name, "-h"), ("help", name)):
        assert run(*args) == 0
        assert f"usage: hali {name}" in capsys.readouterr().out
    assert run(name, "--no-such-option") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", ["daemon", "config"])
def test_a_group_without_a_command_lists_its_commands(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(name) == 0
    shown = capsys.readouterr()
    assert f"usage: hali {name} COMMAND" in shown.out
    assert not shown.err


def test_the_help_lists_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert set(EXIT_CODES) == set(ExitCode)


def test_the_help_fits_a_narrow_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    for args in ([], ["run", "--help"], ["daemon"]):
        assert run(*args) == 0
        lines = capsys.readouterr().out.splitlines()
        assert all(len(line) <= 50 for line in lines if not line.startswith("usage:"))


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (("pul",), "no command 'pul' — did you mean pull"),
        (("daemon", "sttus"), "no command 'sttus' — did you mean status"),
        (("--jsn",), "no option '--jsn' — `hali --help`"),
        (("pull",), "missing argument 'WHAT' — `hali pull --help` shows how"),
        (("pull", "a", "b"), "unexpected extra argument"),
        (("keys", "create", "a", "--weight", "inf"), "--weight: inf is no share — give a number above 0"),
        (("keys", "create", "a", "--weight", "nan"), "--weight: nan is no share"),
        (("prune", "--quota", "inf"), "invalid value for '--quota'"),
        (("prune", "--quota", "1e300"), "invalid value for '--quota'"),
        (("prune", "--older-than", "9" * 400 + "w"), "is no time — a number and m, h, d or w: 30d"),
        (("search", "x", "--sort", "size"), "invalid value for '--sort': 'size' is not one of"),
        (("pause", "99999d"), "'99999d' is longer than a year — `hali pause`"),
        (("pull", "o/R:Q4_0", "--quant", "F16"), "o/R: name a quant by :Q4_0 or by --quant, not both"),
        (("pull", "o/R", "--quant", " "), "--quant is empty — name a quantization"),
        (("stats", "--once", "--watch"), "--watch and --once exclude each other"),
        (("config", "set", "debug"), "missing argument 'VALUE' — `hali config set --help` shows how"),
    ],
)
def test_a_typo_gets_one_line_and_what_to_do(
    args: tuple[str, ...],
    hint: str,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("hali.cli.control.needed")  # none is worth starting a daemon
    assert run(*args) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith("hali: ")
    assert shown.err.count("\n") == 1
    assert hint in shown.err
    assert not shown.out


def test_a_pull_of_a_file_that_lies_here_is_told_of_add(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my model.gguf").touch()
    for what, hint in (("./my model.gguf", "`hali add './my model.gguf'` imports"), ("./no.gguf", "magnet links")):
        assert run("pull", what) == 2
        assert hint in capsys.readouterr().err


def test_flags_may_stand_anywhere_up_to_a_double_dash() -> None:
    assert module._take_flags(["--json", "list", "-q"]) == (["list"], {"as_json": True, "quiet": True})
    assert module._take_flags(["run", "--", "m", "--json"]) == (["run", "--", "m", "--json"], {})


def test_help_after_a_double_dash_is_an_argument(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", "--", "--help") == 3
    assert "no model '--help'" in capsys.readouterr().err


def test_the_version_is_told_as_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("version", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"version": __version__}


def test_commands_without_a_daemon_say_so_with_exit_code_4(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for args in (("daemon", "status"), ("ps",)):
        assert run(*args) == 4
        assert capsys.readouterr().err == "hali: Daemon is not running. — start it with `hali daemon start`\n"
    assert run("daemon", "stop") == 0
    assert capsys.readouterr().out == "Daemon is not running.\n"
    assert run("stop", "m", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"stopped": False}


def test_an_error_is_json_when_json_was_asked_for(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json", "info", "nosuch") == 3
    wire = json.loads(capsys.readouterr().out)
    assert (wire["ok"], wire["error"]["code"], wire["error"]["exit_code"]) == (False, "not_found", 3)


def test_config_shows_sets_and_unsets(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "set", "max_upload_mbps", "50") == 0
    capsys.readouterr()
    assert run("config", "get", "max_upload_mbps", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["value"], row["source"], row["unit"]) == (50.0, "file", "Mbit/s")
    assert run("config", "unset", "max_upload_mbps") == 0
    assert capsys.readouterr().out.startswith("Updated max_upload_mbps in ")
    assert run("config", "unset", "max_upload_mbps") == 0
    assert capsys.readouterr().out == f"max_upload_mbps is not set in {home / 'config.toml'}\n"
    assert run("config", "set", "max_uplod_mbps", "50") == 2
    assert "max_upload_mbps" in capsys.readouterr().err
    assert run("config", "path") == 0
    assert capsys.readouterr().out.strip() == str(home / "config.toml")


FULL = "hali: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize(
    ("redirected", "code", "told"),
    [
        (">/dev/full", 1, FULL),
        (">/dev/full 2>/dev/full", 1, ""),
        ("2>/dev/full", 0, ""),
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("<&- >&- 2>&-", 0, ""),
    ],
)
def test_what_was_asked_is_done_whatever_becomes_of_the_output(
    redirected: str, code: int, told: str, home: Path
) -> None:
    command = f'"$0" -m hali.cli config set max_upload_mbps 11 {redirected}'
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, told)
    assert done.stdout.startswith("Updated") is (redirected[0] == "2")
    assert (home / "config.toml").read_text() == "max_upload_mbps = 11.0\n"


def test_an_error_is_told_by_its_exit_code_also_where_no_stream_can_be_written(home: Path) -> None:
    for flag in ("", "--json"):
        command = f'"$0" -m hali.cli info nosuch {flag} >/dev/full 2>/dev/full'
        assert subprocess.run(["sh", "-c", command, sys.executable]).returncode == 3


def test_config_set_tells_when_the_environment_wins(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HALI_DEBUG", "false")
    assert run("config", "set", "debug", "true") == 0
    assert "HALI_DEBUG is set, and wins" in capsys.readouterr().err


def test_a_key_that_nobody_knows_is_taken_out_of_the_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "set", "debug", "true") == 0
    with (home / "config.toml").open("a") as file:
        file.write("[foo]\nbar = 1\n")
    assert run("config", "show") == 78
    assert "`hali config unset foo.bar` takes it out" in capsys.readouterr().err
    assert run("config", "unset", "foo.bar") == 0
    assert run("config", "get", "debug") == 0
    assert run("config", "unset", "foo.bar") == 2


def test_an_editor_that_leaves_a_broken_file_is_told(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("config", "set", "debug", "true") == 0
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "sed -i 's/debug/[/'")
    assert run("config", "edit") == 78
    assert "is not valid TOML" in capsys.readouterr().err
    monkeypatch.setenv("EDITOR", "no-such-editor")
    assert run("config", "edit") == 1
    assert "set EDITOR" in capsys.readouterr().err
    monkeypatch.setenv("EDITOR", "vim 'x")
    assert run("config", "edit") == 2
    assert (
        capsys.readouterr().err == """hali: "vim 'x" is no command for an editor: a quote is left open — set EDITOR\n"""
    )


def test_a_full_disk_or_a_foreign_file_is_one_line_wherever_it_is_met(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/full/config.toml")

    monkeypatch.setattr(module, "_dispatch", full)
    assert run("config", "set", "debug", "true") == ExitCode.NO_SPACE
    assert capsys.readouterr().err.count("\n") == 1
    assert run("config", "set", "debug", "true", "--json") == ExitCode.NO_SPACE
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "no_space"

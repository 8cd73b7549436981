"""`hali service` as a command: dry runs, what is refused, and what is said where there is no service manager."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest

from hali.cli.main import main
from hali.service import managers, survey
from hali.service.state import ServiceState
from hali.service.targets import TARGETS


@pytest.fixture(autouse=True)
def person(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for unit files that is nobody's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "systemd" / "user" / "halid.service"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["service", *arguments])
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out, said.err


def test_a_dry_run_prints_the_unit_and_the_commands_and_changes_nothing(
    person: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "install", "--user", "--dry-run")
    assert code == 0 and out.startswith(f"# write {person}\n[Unit]\n")
    assert out.rstrip().endswith("# systemctl --user restart halid.service")
    lines = [line for line in out.splitlines() if line and not line.startswith(("#", "["))]
    assert all("=" in line for line in lines), "what is printed is a unit file"
    assert not person.exists() and not home.exists()


def test_a_dry_run_for_programs_lists_the_steps(person: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "install", "registry", "--dry-run", "--json", "--", "--listen", "127.0.0.1:9")
    found = json.loads(out)
    assert code == 0 and found["dry_run"] is True
    assert [step["type"] for step in found["steps"]] == ["Write", "Run", "Run", "Run"]
    assert '"--listen" "127.0.0.1:9"' in found["steps"][0]["text"]


def test_arguments_may_follow_without_a_target(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "install", "--dry-run", "--", "--torrent-port", "51413")
    assert '"hali.daemon.main" "--service" "--torrent-port" "51413"' in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["install", "relay"], "no service 'relay'"),
        (["install", "--system", "--user"], "exclude each other"),
        (["install", "--account", "hali"], "is for --system"),
        (["install", "--", "--torrent-prot", "1"], "unknown option '--torrent-prot'"),
        (["status", "--system"], "a system service keeps its data in /var/lib/hali"),
    ],
)
def test_what_cannot_be_meant_is_one_line_with_exit_code_2(
    arguments: list[str], says: str, person: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and says in err and not person.exists()


@pytest.mark.parametrize("verb", ["install", "uninstall", "start", "status"])
def test_without_a_service_manager_it_names_the_way_that_is_left(
    verb: str, person: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(survey, "BOOTED", "/nonexistent")
    code, _, err = run(capsys, verb)
    assert code == 4 and "`hali daemon run`" in err and not person.exists()


def test_a_program_in_a_home_folder_cannot_be_a_system_service() -> None:
    with pytest.raises(survey.Refused, match="/root/venv/bin/python is in a home folder"):
        survey.must_be_readable(["/usr/bin/true", "/root/venv/bin/python"])


@pytest.mark.parametrize(
    ("state", "code"), [("running", 0), ("starting", 4), ("waiting", 4), ("failed", 4), ("absent", 4)]
)
def test_status_has_one_shape_and_is_4_unless_it_runs(
    state: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(survey, "must_answer", lambda *_: None)
    monkeypatch.setattr(survey, "linger", lambda _: False)
    monkeypatch.setattr(managers, "look", lambda *_: ServiceState(state, True, 7, 1, 3, "it said so"))  # type: ignore[arg-type]
    ended, out, _ = run(capsys, "status", "--json")
    found = json.loads(out)
    assert ended == code and found["state"] == state and found["running"] is (state == "running")
    assert set(found) == {
        *("target", "scope", "manager", "state", "running", "installed", "enabled", "pid", "restarts", "exit_code"),
        *("text", "file", "home", "log", "linger"),
    }
    ended, out, _ = run(capsys, "status")
    assert ended == code
    assert ("loginctl enable-linger" in out) == (state != "absent")


def test_the_log_of_a_service_is_the_file_of_its_own_home(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "logs").mkdir(parents=True)
    (home / "logs" / "registry.log").write_text("of the registry\n")
    (home / "logs" / "hali.log").write_text("of the daemon\n")
    assert run(capsys, "logs", "registry")[1] == "of the registry\n"
    assert run(capsys, "logs")[1] == "of the daemon\n"


def test_a_models_folder_elsewhere_needs_an_account_that_may_write_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = msgspec.structs.replace(survey.machine(), data=str(tmp_path))
    monkeypatch.delenv("HALI_HOME")
    (tmp_path / "hali").mkdir()
    (tmp_path / "hali" / "config.toml").write_text('models_dir = "/srv/models"\n')
    with pytest.raises(survey.UsageError, match="/srv/models"):
        survey.describe(here, TARGETS["daemon"], "system", [], "")
    assert survey.describe(here, TARGETS["daemon"], "system", [], "ann").writable == ("/srv/models",)


def test_a_models_folder_outside_of_the_home_is_made_writable(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('models_dir = "/srv/models"\n')
    assert survey._models_elsewhere(str(tmp_path)) == ("/srv/models",)
    (tmp_path / "config.toml").write_text('models_dir = "here"\n')
    assert survey._models_elsewhere(str(tmp_path)) == ()
    assert sys.executable in survey.programs()

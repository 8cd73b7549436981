"""What is written for each service manager, compared with files that were read by a person; and what the managers' answers mean."""

from __future__ import annotations

import plistlib
from xml.etree import ElementTree

import pytest

from hali.model.errors import UsageError
from hali.service import launchd, systemd, windows
from hali.service.managers import Machine, control, file_of, install, uninstall
from hali.service.plan import Remove, Run, Step, Write
from hali.service.state import Manager, ServiceState
from hali.service.systemd_unit import unit
from hali.service.targets import TARGETS, find_target
from tests.service_cases import AGENT, FOLDER, NEW, OLD, SYSTEM, USER, WHOLE, WINDOWS, files

DAEMON = TARGETS["daemon"]
SCHEMA = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


@pytest.mark.parametrize("name", files())
def test_each_service_is_described_as_the_kept_file_says(name: str) -> None:
    kept = (FOLDER / name).read_text(encoding="utf-8")
    assert files()[name] == kept, "if it is meant: python -m tests.service_cases, and read what changed"


def test_no_kept_file_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(files())


def test_a_target_that_is_not_built_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="relay") as caught:
        find_target("relay")
    assert caught.value.hint == "there is daemon and registry"


# ---- units


def values(text: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def test_restarts_become_slower_where_systemd_can_and_give_up_where_it_cannot() -> None:
    new, old = unit(SYSTEM, NEW), unit(SYSTEM, OLD)
    assert (values(new, "RestartSec"), values(new, "RestartSteps"), values(new, "RestartMaxDelaySec")) == (
        ["5"],
        ["2"],
        ["60"],
    )
    assert values(new, "StartLimitIntervalSec") == ["0"]
    assert values(old, "RestartSteps") == [] and values(old, "StartLimitBurst") == ["20"]
    for text in (new, old):
        assert "78" in values(text, "RestartPreventExitStatus")[0].split()


def test_no_secret_and_nothing_of_the_installers_environment_is_in_a_unit() -> None:
    for text in (unit(WHOLE, NEW), unit(USER, NEW)):
        (only,) = values(text, "Environment")
        assert only.startswith('"HALI_HOME=')
    assert values(unit(WHOLE, NEW), "LoadCredential") == ["hf_token:/etc/hali/hf_token", "api_key:/etc/hali/api_key"]


def test_a_gpu_is_let_in_by_name_and_then_machine_code_may_be_made() -> None:
    with_gpu, without = unit(WHOLE, NEW), unit(SYSTEM, NEW)
    assert len(values(with_gpu, "DeviceAllow")) == 2 and not values(with_gpu, "MemoryDenyWriteExecute")
    assert values(without, "PrivateDevices") == ["yes"] and values(without, "MemoryDenyWriteExecute") == ["yes"]


def test_launchd_starts_the_keeper_again_only_when_it_crashed() -> None:
    told = plistlib.loads(launchd.plist(AGENT).encode())
    assert told["KeepAlive"] == {"Crashed": True}
    assert told["ProgramArguments"][2:] == ["-m", "hali.service.keeper", "--home", AGENT.home, "daemon"]
    assert told["Umask"] == 0o077


def test_a_task_of_windows_has_no_time_limit_and_hands_each_argument_over_whole() -> None:
    tree = ElementTree.fromstring(windows.task(WINDOWS, "DESK\\ann").encode("utf-16"))
    assert tree.findtext(f".//{SCHEMA}ExecutionTimeLimit") == "PT0S"
    arguments = tree.findtext(f".//{SCHEMA}Arguments") or ""
    assert '"C:\\Users\\Ann & Bob\\.hali"' in arguments and arguments.endswith('"D:\\my models\\\\"')


# ---- plans


def machine(manager: Manager) -> Machine:
    return Machine(manager, "ann", 501, "/home/ann", "/home/ann/.config", "/var/lib", NEW)


def argvs(steps: list[Step]) -> list[str]:
    return [" ".join(step.argv) if isinstance(step, Run) else f"{type(step).__name__} {step.path}" for step in steps]


def test_systemd_is_told_in_this_order() -> None:
    here = machine("systemd")
    path = "/home/ann/.config/systemd/user/halid.service"
    assert argvs(install(here, USER)) == [
        f"Write {path}",
        "systemctl --user daemon-reload",
        "systemctl --user --quiet enable halid.service",
        "systemctl --user restart halid.service",
    ]
    assert argvs(uninstall(here, DAEMON, "system", SYSTEM.home)) == [
        "systemctl --quiet disable --now halid.service",
        "Remove /etc/systemd/system/halid.service",
        "systemctl daemon-reload",
        "systemctl reset-failed halid.service",
    ]
    assert argvs(control(here, "stop", DAEMON, "user")) == ["systemctl --user stop halid.service"]


def test_launchd_is_told_in_this_order() -> None:
    here = machine("launchd")
    path = "/home/ann/Library/LaunchAgents/io.hali.halid.plist"
    assert argvs(install(here, AGENT)) == [
        "launchctl bootout gui/501/io.hali.halid",
        f"Write {path}",
        "launchctl enable gui/501/io.hali.halid",
        f"launchctl bootstrap gui/501 {path}",
    ]
    assert argvs(uninstall(here, DAEMON, "user", AGENT.home)) == [
        "launchctl bootout gui/501/io.hali.halid",
        f"Remove {path}",
    ]
    assert argvs(control(here, "restart", DAEMON, "system"))[-1] == "launchctl kickstart -k system/io.hali.halid"


def test_the_task_scheduler_is_told_in_this_order() -> None:
    here = machine("task-scheduler")
    path = file_of(here, DAEMON, "user", WINDOWS.home)
    assert argvs(install(here, WINDOWS)) == [
        f"Write {path}",
        f"schtasks.exe /Create /F /TN \\hali\\halid /XML {path}",
        "schtasks.exe /End /TN \\hali\\halid",
        "schtasks.exe /Run /TN \\hali\\halid",
    ]


@pytest.mark.parametrize("manager", ["systemd", "launchd", "task-scheduler"])
def test_uninstalling_removes_the_description_that_installing_wrote_and_nothing_else(manager: Manager) -> None:
    here = machine(manager)
    written = {step.path for step in install(here, USER) if isinstance(step, Write)}
    removed = {step.path for step in uninstall(here, DAEMON, "user", USER.home) if isinstance(step, Remove)}
    assert written == removed == {file_of(here, DAEMON, "user", USER.home)}


# ---- answers


SHOWN = """LoadState=loaded
ActiveState={}
SubState={}
UnitFileState=enabled
MainPID={}
NRestarts=2
ExecMainStatus={}
ExecMainCode=1
Result={}
StatusText=9 services
"""


@pytest.mark.parametrize(
    ("shown", "means"),
    [
        (("active", "running", 7, 0, "success"), ServiceState("running", True, 7, 2, 0, "9 services")),
        (("activating", "start", 7, 0, "success"), ServiceState("starting", True, 7, 2, 0, "")),
        (("activating", "auto-restart", 0, 1, "exit-code"), ServiceState("waiting", True, None, 2, 1, "ended by exit-code")),
        (("failed", "failed", 0, 78, "exit-code"), ServiceState("failed", True, None, 2, 78, "ended by exit-code")),
        (("failed", "failed", 0, 0, "watchdog"), ServiceState("failed", True, None, 2, 0, "ended by watchdog")),
        (("inactive", "dead", 0, 0, "success"), ServiceState("stopped", True, None, 2, 0, "")),
    ],
)  # fmt: skip
def test_what_systemctl_shows_is_understood(shown: tuple[object, ...], means: ServiceState) -> None:
    assert systemd.understood(SHOWN.format(*shown)) == means


def test_a_unit_that_systemd_does_not_know_is_absent() -> None:
    assert systemd.understood("LoadState=not-found\nActiveState=inactive\n").state == "absent"
    assert systemd.understood("").state == "absent"


def test_what_launchctl_prints_is_understood() -> None:
    running = "gui/501/io.hali.halid = {\n\tactive count = 1\n\tstate = running\n\n\truns = 3\n\tpid = 812\n\tlast exit code = 0\n}"
    assert launchd.understood(running, written=True) == ServiceState("running", True, 812, 2, 0)
    ended = "io.hali.halid = {\n\tstate = not running\n\truns = 1\n\tlast exit code = 78: EX_CONFIG\n}"
    assert launchd.understood(ended, written=True) == ServiceState("failed", True, None, 0, 78)
    assert launchd.understood(None, written=True).state == "stopped"
    assert launchd.understood(None, written=False).state == "absent"


def test_what_schtasks_answers_is_understood() -> None:
    row = '"DESK","\\hali\\halid","N/A","{}","Interactive only","11/21/2026 9:00:00 AM","{}","DESK\\ann","python"\n'
    assert windows.understood(row.format("Running", 267009)) == ServiceState("running", True)
    assert windows.understood(row.format("Ready", 78)) == ServiceState("failed", True, exit_code=78)
    assert windows.understood(row.format("Ready", 0)) == ServiceState("stopped", True, exit_code=0)
    assert windows.understood(row.format("Disabled", 267011)) == ServiceState("stopped", False)
    assert windows.understood(None).state == "absent"

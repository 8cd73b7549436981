"""systemd's own judgement of the units: nothing that it does not know, and little that it finds exposed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from hali.service import systemd
from hali.service.description import Description
from hali.service.systemd_unit import STEPS_SINCE, unit
from tests.conftest import ROOT
from tests.service_cases import REGISTRY, SYSTEM, USER, WHOLE

CASES = {"daemon": SYSTEM, "daemon with everything": WHOLE, "registry": REGISTRY, "daemon of a user": USER}
EXPOSURE = 2.5  # of 10


@pytest.fixture(scope="module")
def version() -> int:
    """Of the systemd that judges."""
    done = subprocess.run([ROOT / "ci" / "apt_ensure", "systemd"], capture_output=True, text=True, check=False)
    if shutil.which("systemd-analyze") is None:
        pytest.skip(f"SKIPPED what systemd says of the units: {done.stdout.strip() or 'no systemd-analyze here'}")
    found = systemd.version_of(subprocess.run(["systemctl", "--version"], capture_output=True, text=True).stdout)
    assert found is not None
    return found


def written(folder: Path, what: Description, version: int) -> Path:
    """The unit as a file; its program must exist for `verify`."""
    path = folder / f"{what.target.unit}.service"
    path.write_text(unit(msgspec.structs.replace(what, python=sys.executable, account=""), version))
    return path


def analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", CASES)
def test_systemd_finds_nothing_wrong_with_a_unit(
    name: str, version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # judging a user's unit needs a folder for sockets
    scope = ("--user",) if CASES[name].scope == "user" else ()
    done = analyzed(*scope, "verify", "--man=no", str(written(tmp_path, CASES[name], version)))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", [name for name, what in CASES.items() if what.scope == "system"])
def test_a_system_service_is_little_exposed(name: str, version: int, tmp_path: Path) -> None:
    path = written(tmp_path, CASES[name], version)
    done = analyzed("security", "--offline=true", f"--threshold={EXPOSURE * 10:.0f}", "--no-pager", str(path))
    assert done.returncode == 0, done.stdout[-300:]
    said = re.search(r"Overall exposure level for .*: ([\d.]+)", done.stdout)
    assert said is not None and float(said.group(1)) <= EXPOSURE


def test_an_older_systemd_would_complain_of_the_settings_it_is_not_given(version: int, tmp_path: Path) -> None:
    if version >= STEPS_SINCE:
        pytest.skip(f"this is systemd {version}, which knows them all")
    done = analyzed("verify", "--man=no", str(written(tmp_path, SYSTEM, STEPS_SINCE)))
    assert "RestartSteps" in done.stderr

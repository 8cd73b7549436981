"""`hali daemon run` keeps a daemon up where no service manager does."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import psutil

from hali.model.errors import ExitCode
from tests.nodes import WAIT_S, node, until


def test_a_daemon_that_is_killed_is_back_after_the_first_wait_and_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        process = a.start_hali("daemon", "run")
        until(a.paths.address.exists, "it answers")
        first = a.pid()
        assert psutil.Process(first).ppid() == process.pid
        os.kill(first, signal.SIGKILL)
        until(lambda: a._answers() and a.pid() != first, "its successor answers")
        assert a.ok("daemon", "stop")["stopped"] is True
        _, err = process.communicate(timeout=60)
        assert process.returncode == ExitCode.OK, "who asked it to stop means it"
        assert "ended by SIGKILL; started again in 5 s" in err


def test_settings_that_became_wrong_end_it_with_code_78(tmp_path: Path) -> None:
    with node(tmp_path / "a") as a:
        process = a.start_hali("daemon", "run")
        until(a.paths.address.exists, "it answers")
        a.paths.config.write_text("daemon_port = 'no'\n")
        os.kill(a.pid(), signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        assert process.returncode == ExitCode.CONFIG and "config.toml" in err


def test_ctrl_c_while_the_daemon_is_still_being_imported_ends_it_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "anyio.py").write_text("import signal\nprint('importing', flush=True)\nsignal.pause()\n")
    with node(tmp_path / "a") as a:
        a.env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *a.env.get("PYTHONPATH", "").split(os.pathsep)])
        process = a.start_hali("daemon", "run")
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], WAIT_S)[0] and process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=WAIT_S) == ("", "")
        assert process.returncode == ExitCode.INTERRUPTED

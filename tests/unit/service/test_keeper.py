"""When a program that ended is started again, and when it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hali.model.errors import UsageError
from hali.service import keeper
from hali.service.keeper import AT_ONCE_S, STEADY_S, End, Keeper, Wait, next_step


def test_the_waits_grow_from_5_over_30_to_60_seconds_and_begin_anew_after_a_steady_run() -> None:
    waits, failures = [], 0
    for _ in range(5):
        step = next_step(-9, 1.0, failures, patient=False)
        assert isinstance(step, Wait)
        waits.append(step.seconds)
        failures = step.failures
    assert waits == [5, 30, 60, 60, 60]
    assert next_step(-9, STEADY_S, failures, patient=False) == Wait(5, 1)


@pytest.mark.parametrize("code", [0, 2, 78])
def test_an_end_that_was_asked_for_or_that_a_start_cannot_mend_is_final(code: int) -> None:
    for failures in (0, 3):
        assert next_step(code, 1000.0, failures, patient=True) == End(code)


def test_a_first_start_that_fails_at_once_is_told_to_who_waits_for_it_and_tried_again_where_nobody_does() -> None:
    assert next_step(1, AT_ONCE_S - 1, 0, patient=False) == End(1)
    assert next_step(1, AT_ONCE_S - 1, 0, patient=True) == Wait(5, 1)
    assert next_step(1, AT_ONCE_S - 1, 1, patient=False) == Wait(30, 2)
    assert next_step(1, AT_ONCE_S + 1, 0, patient=False) == Wait(5, 1)
    assert next_step(-11, 0.1, 0, patient=False) == Wait(5, 1), "a crash is nobody's mistake in what was asked"


def kept(code: str, *arguments: str, start_new_session: bool = False) -> subprocess.Popen[str]:
    """A keeper of a small Python program, with waits of milliseconds."""
    script = (
        "import sys; from hali.service import keeper; keeper.RESTART_S = (0.01, 0.01, float(sys.argv[2]));"
        "sys.exit(keeper.Keeper([sys.executable, '-c', sys.argv[1], *sys.argv[3:]], {}, patient=True).run())"
    )
    command = [sys.executable, "-c", script, code, *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=start_new_session
    )


COUNTING = """
import os, signal, sys
from pathlib import Path
runs = Path(sys.argv[1]); runs.write_text(runs.read_text() + 'x' if runs.exists() else 'x')
n = len(runs.read_text())
if n == 1: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(1 if n < 4 else 78)
"""


def test_it_is_started_again_until_its_settings_are_wrong(tmp_path: Path) -> None:
    process = kept(COUNTING, "0.01", str(tmp_path / "runs"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 78
    assert (tmp_path / "runs").read_text() == "xxxx"
    assert [line.split(";")[0] for line in err.splitlines()] == ["hali: ended by SIGKILL"] + [
        "hali: ended with exit code 1"
    ] * 2


WAITING = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.signal(signal.SIGINT, lambda *_: (os.write(1, b'interrupted\\n'), sys.exit(3)))
print('ready', flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 3)])
def test_a_signal_is_handed_on_once_and_then_it_is_not_started_again(number: signal.Signals, code: int) -> None:
    process = kept(WAITING, "0.01")
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")
    assert out == ("interrupted\n" if number == signal.SIGINT else "")


COUNTED = """
import os, signal, sys, time
seen = []
signal.signal(signal.SIGINT, lambda *_: seen.append(1))
os.write(1, b'ready\\n')
while not seen: time.sleep(0.01)
time.sleep(0.2) # for a second one, if one comes
sys.exit(10 + len(seen))
"""


def test_ctrl_c_in_a_terminal_which_signals_the_whole_group_reaches_the_program_once() -> None:
    process = kept(COUNTED, "0.01", start_new_session=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 11


def test_a_signal_ends_the_wait_for_the_next_start_too() -> None:
    process = kept("import sys; sys.exit(1)", "600")
    assert process.stderr is not None
    while "in 600 s" not in process.stderr.readline():
        pass
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_what_a_killed_program_leaves_behind_is_buried() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # it has ended, and is not buried yet
    keeper._bury()
    with pytest.raises(ChildProcessError):
        os.waitpid(child, os.WNOHANG)


def test_a_keeper_without_a_home_or_a_target_says_how_it_is_used() -> None:
    for wrong in ([], ["daemon"], ["--home", "/x"], ["--home", "/x", "nothing"]):
        with pytest.raises(UsageError):
            keeper.main(wrong)


def test_a_keeper_can_be_made_for_each_target(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], str]] = []
    monkeypatch.setattr(Keeper, "run", lambda self: seen.append((self._command, self._env["HALI_HOME"])) or 0)
    keeper.main(["--home", "/h", "registry", "--listen", "x"])
    assert seen == [([sys.executable, "-P", "-m", "hali.cli", "registry", "serve", "--service", "--listen", "x"], "/h")]

"""Why the last daemon ended: kept when it was not in order, also of one that could not say so, gone after an end in order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hali.config import last_exit
from hali.config.last_exit import DIED, KEPT, Run
from hali.config.paths import Paths
from hali.daemon.ending import on_record
from hali.model.errors import ConfigError, Failed, NoSpace, PortInUse


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path / "home")
    made.create()
    return made


def test_an_error_is_kept_until_a_daemon_ends_in_order(paths: Paths) -> None:
    with pytest.raises(PortInUse), on_record(paths):
        raise PortInUse("port 7 is taken", hint="take another", chosen=True)
    kept = last_exit.read(paths)
    assert kept is not None
    assert (kept.code, kept.exit_code, kept.message, kept.hint) == (
        "port_in_use",
        78,
        "port 7 is taken",
        "take another",
    )
    assert kept.crashes == [kept.at]
    assert paths.last_exit.stat().st_mode & 0o777 == 0o600
    with on_record(paths):
        assert last_exit.read(paths) == kept  # while the next one runs it is still there to be read
    assert last_exit.read(paths) is None


def test_a_bug_is_told_in_one_line_and_kept(paths: Paths) -> None:
    with pytest.raises(Failed, match="internal error: ZeroDivisionError: division by zero") as raised, on_record(paths):
        _ = 1 / 0
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
    kept = last_exit.read(paths)
    assert kept is not None
    assert (kept.code, kept.exit_code) == ("internal", 1)


def test_a_run_that_died_without_a_word_is_noticed_by_the_next_and_before_it(paths: Paths) -> None:
    last_exit.begin(paths, Run(4711, "boot"))  # … and then kill -9
    (paths.logs / "hali.log").touch()
    os.utime(paths.logs / "hali.log", (1000.0, 1000.0))
    seen = last_exit.latest(paths, "boot")
    assert seen is not None
    assert (seen.code, seen.exit_code, seen.at, seen.crashes) == (DIED, None, 1000.0, [1000.0])
    assert "4711" in seen.message
    assert last_exit.read(paths) is None  # looking changes nothing
    last_exit.begin(paths, Run(4712, "boot"))
    assert last_exit.read(paths) == seen
    last_exit.end(paths)
    assert last_exit.latest(paths, "boot") == seen  # nobody died since


def test_a_run_cut_by_a_reboot_is_no_crash(paths: Paths) -> None:
    last_exit.begin(paths, Run(4711, "boot"))
    assert last_exit.latest(paths, "another boot") is None
    last_exit.begin(paths, Run(1, "another boot"))
    assert last_exit.read(paths) is None


def test_a_loop_of_crashes_is_seen_by_their_times(paths: Paths) -> None:
    for number in range(KEPT + 3):
        last_exit.begin(paths, Run(number, "boot"))
        if number % 2:  # some say why, some do not
            last_exit.ended_with(paths, NoSpace("full"), 6)
            last_exit.end(paths)
    kept = last_exit.read(paths)
    assert kept is not None
    assert len(kept.crashes) == KEPT
    assert kept.crashes == sorted(kept.crashes)


def test_a_damaged_record_keeps_no_daemon_from_starting(paths: Paths) -> None:
    paths.last_exit.write_text("{")
    paths.lock.write_text("4711")
    with pytest.raises(ConfigError), on_record(paths):
        raise ConfigError("bad")
    kept = last_exit.read(paths)
    assert kept is not None and kept.code == "config"

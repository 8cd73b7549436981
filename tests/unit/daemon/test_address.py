"""A look whether a daemon runs leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

from hali.config.paths import Paths
from hali.daemon.address import exclusive, is_locked


def test_a_look_makes_no_file_and_two_looks_do_not_take_each_other_for_a_daemon(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    assert not is_locked(paths)
    assert not paths.lock.exists()
    with exclusive(paths):
        assert is_locked(paths)
    assert not is_locked(paths)
    paths.lock.chmod(0o400)
    assert not is_locked(paths)

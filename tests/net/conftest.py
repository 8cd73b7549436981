"""A lab needs root and parts of the kernel; without them its tests are skipped, loudly."""

from __future__ import annotations

import pytest

from tests.net import netns


@pytest.fixture(autouse=True, scope="session")
def lab_is_possible() -> None:
    """Skip everything here where no lab can be made."""
    lacking = netns.missing()
    if lacking is not None:
        pytest.skip(f"NO LAB on this machine, NOTHING of tests/net was tested: {lacking}")

"""The tables of `tests/weaknesses.py` are whole, and every test that they name is there."""

from __future__ import annotations

import pytest

from tests.named_tests import is_test
from tests.weaknesses import ATTACKS, HALO, WEAKNESSES, Claim

CLAIMS = {f"weakness {number}": claim for number, claim in WEAKNESSES.items()} | HALO | ATTACKS


def test_no_weakness_is_left_out() -> None:
    assert sorted(WEAKNESSES) == list(range(1, 24))


def test_each_threat_of_lan_links_and_servers_has_its_row() -> None:
    assert [name.split()[0] for name in ATTACKS] == ["S3"] * 4 + ["S4"] * 4 + ["S13"] * 3


@pytest.mark.parametrize("name", CLAIMS)
def test_each_claim_has_tests_that_exist_or_says_what_is_open(name: str) -> None:
    claim: Claim = CLAIMS[name]
    assert claim.tests or claim.open or claim.moot, "name tests, or say what is open or why it cannot apply"
    assert not (claim.moot and claim.tests), "what cannot apply needs no test"
    assert [test for test in claim.tests if not is_test(test)] == []

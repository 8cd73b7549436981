"""The owners of pieces: everybody works out the same, evenly, and few pieces move."""

from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from hali.transfer.ownership import MOST_DRAWN, owners

ids = st.sets(st.binary(min_size=20, max_size=20), min_size=1, max_size=12)


@given(ids, st.integers(1, 300))
def test_each_piece_has_one_owner_and_nobody_has_two_more_than_another(members: set[bytes], pieces: int) -> None:
    found = owners(pieces, sorted(members))
    assert len(found) == pieces
    counts = Counter(found)
    assert counts.keys() <= members
    assert max(counts.values()) - min(counts[member] for member in members) <= 1


@given(ids, st.integers(1, 300))
def test_the_owners_depend_on_who_there_is_and_not_on_who_looks(members: set[bytes], pieces: int) -> None:
    assert owners(pieces, sorted(members)) == owners(pieces, sorted(members, reverse=True))


@given(st.integers(2, 12), st.integers(50, 300))
def test_most_pieces_stay_with_their_owners_when_one_leaves(nodes: int, pieces: int) -> None:
    members = [bytes([i]) * 20 for i in range(nodes)]
    before, after = owners(pieces, members), owners(pieces, members[1:])
    staying = [i for i, owner in enumerate(before) if owner != members[0]]
    assert sum(before[i] != after[i] for i in staying) <= pieces / 3
    assert members[0] not in after


def test_of_a_large_torrent_runs_of_pieces_have_an_owner() -> None:
    members = [bytes([i]) * 20 for i in range(20)]
    found = owners(MOST_DRAWN, members)
    assert len(set(found)) == 20
    assert sum(a != b for a, b in itertools.pairwise(found)) <= MOST_DRAWN / 20

"""Whatever sequences share and let go of, the count is that of the cells somebody has."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hali.engine.cells import Cells

KEYS = st.integers(0, 4)
STEPS = st.lists(st.tuples(st.sampled_from(["resize", "share"]), KEYS, KEYS, st.integers(0, 40)), max_size=40)


@given(STEPS)
@settings(derandomize=True, max_examples=400, deadline=None)
def test_a_cell_counts_once_however_many_sequences_have_it(steps: list[tuple[str, int, int, int]]) -> None:
    cells = Cells()
    naive: dict[int, list[object]] = {key: [] for key in range(5)}
    for step, source, key, length in steps:
        if step == "resize":
            cells.resize(key, length)
            naive[key] = [*naive[key][:length], *(object() for _ in range(length - len(naive[key])))]
        elif not naive[key] and source != key:
            length = min(length, len(naive[source]))
            cells.resize(source, len(naive[source]))
            cells.share(source, key, length)
            naive[key] = naive[source][:length]
        taken = {id(cell) for held in naive.values() for cell in held}
        assert cells.used == len(taken)
        for one, held in naive.items():
            others = {id(cell) for key, more in naive.items() if key != one for cell in more}
            assert cells.own(one) == sum(id(cell) not in others for cell in held)

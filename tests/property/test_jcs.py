"""RFC 8785 for any value: it reads back, it is a fixed point, and it does not depend on how the value was written."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hali.wire import jcs

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | TEXT | st.floats(allow_nan=False, allow_infinity=False)
SCALARS |= st.integers(-jcs.EXACT, jcs.EXACT)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@given(VALUES)
def test_canonical_text_reads_back_as_the_value_and_stays_the_same(value: Any) -> None:
    text = jcs.encode(value)
    assert jcs.decode(text) == value
    assert jcs.encode(jcs.decode(text)) == text


@given(VALUES, st.randoms(use_true_random=False))
def test_the_order_of_names_and_white_space_do_not_matter(value: Any, random: Any) -> None:
    def shuffled(item: Any) -> Any:
        if isinstance(item, list):
            return [shuffled(one) for one in item]
        if isinstance(item, dict):
            names = list(item)
            random.shuffle(names)
            return {name: shuffled(item[name]) for name in names}
        return item

    again = json.dumps(shuffled(value), indent=2, ensure_ascii=random.random() < 0.5)
    assert jcs.encode(jcs.decode(again.encode())) == jcs.encode(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_reads_back_exactly_and_is_no_longer_than_pythons(value: float) -> None:
    text = jcs.number(value)
    assert float(text) == value
    digits = "".join(c for c in repr(value).partition("e")[0] if c.isdigit()).strip("0")
    assert digits in text.replace(".", "") or value == 0

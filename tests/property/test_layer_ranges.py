"""The bytes of layer ranges: every layer whole, nothing of other layers, and together the whole file."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hali.model.errors import UsageError
from hali.model.layers import format_layers, merged, parse_layers
from hali.model.units import PIECE, piece_count
from hali.wire.gguf import GgufError, GgufHeader, GgufLayout, Tensor
from hali.wire.layer_ranges import needed_spans, pieces_of

ALIGN = 32


@st.composite
def layouts(draw: st.DrawFn, tied: bool | None = None) -> GgufLayout:
    """Any order of tensors, as converters differ in it; sizes from a block to several pieces; some types are unknown (size 0)."""
    count = draw(st.integers(1, 12))
    names = [f"blk.{i}.{part}.weight" for i in range(count) for part in ("attn_q", "ffn_up")]
    names += ["token_embd.weight", "output_norm.weight", *draw(st.sampled_from([[], ["rope_freqs.weight"]]))]
    if not (draw(st.booleans()) if tied is None else tied):
        names.append("output.weight")
    tensors, at = [], 0
    for name in draw(st.permutations(names)):
        size = draw(st.integers(1, 3 * PIECE // ALIGN)) * ALIGN - draw(st.integers(0, ALIGN - 1))
        tensors.append(Tensor(name, size, at, draw(st.sampled_from([size, 0]))))
        at += -(-size // ALIGN) * ALIGN
    data = draw(st.integers(1, 2 * PIECE // ALIGN)) * ALIGN
    header = GgufHeader(3, len(tensors), 0, data, "llama", block_count=count)
    return GgufLayout(header, data, data + at, tuple(draw(st.permutations(tensors))))


def _holds(spans: list[tuple[int, int]], start: int, end: int) -> bool:
    return any(a <= start and end <= b for a, b in spans)


def _count(layout: GgufLayout) -> int:
    assert layout.header.block_count is not None
    return layout.header.block_count


@given(layouts(), st.data())
@settings(derandomize=True, max_examples=300, deadline=None)
def test_a_range_has_exactly_its_layers_and_what_belongs_to_none(layout: GgufLayout, data: st.DataObject) -> None:
    count = _count(layout)
    start = data.draw(st.integers(0, count - 1))
    end = data.draw(st.integers(start + 1, count))
    spans = needed_spans(layout, (start, end))
    assert spans == sorted(spans) and all(a < b for a, b in spans)
    assert all(b < c for (_, b), (c, _) in itertools.pairwise(spans)), "touching spans are one"
    assert _holds(spans, 0, layout.data)
    tied = all(t.name != "output.weight" for t in layout.tensors)
    for tensor in layout.tensors:
        at = layout.data + tensor.offset
        kind, _, rest = tensor.name.partition(".")
        wanted = {
            "blk": lambda rest=rest: start <= int(rest.partition(".")[0]) < end,
            "token_embd": lambda: start == 0 or (end == count and tied),
            "output": lambda: end == count,
            "output_norm": lambda: end == count,
            "rope_freqs": lambda: True,
        }[kind]()
        assert _holds(spans, at, at + tensor.elements) == wanted, tensor.name
        assert any(a <= at < b for a, b in spans) == wanted, tensor.name


@given(layouts(), st.data())
@settings(derandomize=True, max_examples=200, deadline=None)
def test_ranges_that_follow_each_other_make_up_the_whole_file(layout: GgufLayout, data: st.DataObject) -> None:
    count = _count(layout)
    cuts = sorted({0, count, *data.draw(st.lists(st.integers(0, count), max_size=4))})
    parts = [needed_spans(layout, pair) for pair in itertools.pairwise(cuts)]
    assert merged(span for part in parts for span in part) == ((0, layout.size),)
    assert frozenset().union(*map(pieces_of, parts)) == frozenset(range(piece_count(layout.size)))
    assert needed_spans(layout, (0, count)) == [(0, layout.size)]


@given(layouts(), st.data())
@settings(derandomize=True, max_examples=200, deadline=None)
def test_more_layers_never_need_fewer_pieces(layout: GgufLayout, data: st.DataObject) -> None:
    count = _count(layout)
    start = data.draw(st.integers(0, count - 1))
    end = data.draw(st.integers(start + 1, count))
    inner = pieces_of(needed_spans(layout, (start, end)))
    for wider in ((max(0, start - 1), end), (start, min(count, end + 1))):
        assert inner <= pieces_of(needed_spans(layout, wider))


@given(st.lists(st.tuples(st.integers(0, 5 * PIECE), st.integers(1, 3 * PIECE)), min_size=1, max_size=5))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_pieces_cover_their_bytes_and_none_is_there_in_vain(raw: list[tuple[int, int]]) -> None:
    spans = [(at, at + size) for at, size in raw]
    pieces = pieces_of(spans)
    for start, end in spans:
        assert {start // PIECE, (end - 1) // PIECE} <= pieces
    for index in pieces:
        assert any(start < (index + 1) * PIECE and end > index * PIECE for start, end in spans)


def test_layers_beyond_the_model_and_models_without_layers_are_refused() -> None:
    header = GgufHeader(3, 1, 0, 64, "llama", block_count=2)
    layout = GgufLayout(header, 64, 128, (Tensor("blk.0.x", 64, 0, 64),))
    with pytest.raises(UsageError, match="a model that has 2"):
        needed_spans(layout, (0, 3))
    nameless = GgufLayout(GgufHeader(3, 1, 0, 64, "clip"), 64, 128, layout.tensors)
    with pytest.raises(GgufError, match="how many layers"):
        needed_spans(nameless, (0, 1))


@pytest.mark.parametrize("text", ["", "3", "3-3", "5-2", "-1-4", "1-2-3", "a-b", "0-999999", "٠-٣"])
def test_what_is_no_range_of_layers_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="no range of layers"):
        parse_layers(text)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)).map(lambda t: (t[0], t[0] + t[1])), max_size=6))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_merged_ranges_have_the_same_layers_and_read_back(ranges: list[tuple[int, int]]) -> None:
    joined = merged(ranges)
    assert {i for a, b in joined for i in range(a, b)} == {i for a, b in ranges for i in range(a, b)}
    assert all(b < c for (_, b), (c, _) in itertools.pairwise(joined))
    assert tuple(parse_layers(text) for text in format_layers(joined).split(", ") if text) == joined

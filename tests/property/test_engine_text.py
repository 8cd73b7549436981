"""However a text is cut into tokens, the same text comes out, and never a stop string."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hali.engine.text import TextStream

STOPS = st.lists(st.text(alphabet="ab🦙é", min_size=1, max_size=4), max_size=3)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[i:j] for i, j in zip([0, *at], [*at, len(data)], strict=True)]


def _stream(stops: list[str], pieces: list[bytes]) -> tuple[str, bool]:
    stream, out = TextStream(stops), ""
    for piece in pieces:
        out += stream.push(piece)
        if stream.stopped:
            return out, True
    return out + stream.finish(), False


@given(STOPS, st.text(alphabet="abc🦙é", max_size=30), st.lists(st.integers(0, 200), max_size=12))
@settings(derandomize=True, max_examples=500, deadline=None)
def test_the_text_ends_before_the_first_stop_string(stops: list[str], text: str, cuts: list[int]) -> None:
    out, stopped = _stream(stops, _cut(text.encode(), cuts))
    ends = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    assert stopped == bool(ends)
    assert not any(stop in out for stop in stops)
    if not ends:
        assert out == text
    elif len(stops) == 1:
        assert out == text[: ends[0]], "with one stop string the cut does not depend on the tokens"
    else:
        assert text.startswith(out)


@given(st.binary(max_size=40), st.lists(st.integers(0, 200), max_size=12))
@settings(derandomize=True, max_examples=500, deadline=None)
def test_any_bytes_come_out_as_one_decode_would_give_them(data: bytes, cuts: list[int]) -> None:
    assert _stream([], _cut(data, cuts)) == (data.decode("utf-8", "ignore"), False)


@given(STOPS, st.binary(max_size=40), st.lists(st.integers(0, 200), max_size=12))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_each_part_given_out_is_whole_text(stops: list[str], data: bytes, cuts: list[int]) -> None:
    stream = TextStream(stops)
    for piece in _cut(data, cuts):
        stream.push(piece).encode("utf-8")  # no lone surrogate, no half character
        if stream.stopped:
            return
    stream.finish().encode("utf-8")

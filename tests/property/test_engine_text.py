"""However a text is cut into tokens, the same text comes out, and never a stop string."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hali.engine.text import TextStream

STOPS = st.lists(st.text(alphabet="ab🦙é", min_size=1, max_size=4), max_size=3)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[i:j] for i, j in zip([0, *at], [*at, len(data)], strict=True)]


def _stream(stops: list[str], pieces: list[bytes], unarmed: int = 0) -> tuple[str, str | None]:
    """(the text, the stop string that ended it); none may end in the first `unarmed` pieces."""
    stream, out = TextStream(stops), ""
    for at, piece in enumerate(pieces):
        out += stream.push(piece, armed=at >= unarmed)
        if stream.stopped:
            return out, stream.stop
    return out + stream.finish(), None


def _expected(stops: list[str], data: bytes, after: int) -> tuple[str, str | None]:
    """The rule itself: the stop string whose last byte comes first, but behind byte `after`; of several the longest."""
    for end in range(after + 1, len(data) + 1):
        if ending := [stop for stop in stops if data[:end].endswith(stop.encode())]:
            stop = max(ending, key=lambda text: len(text.encode()))
            return data[: end - len(stop.encode())].decode("utf-8", "ignore"), stop
    return data.decode("utf-8", "ignore"), None


@given(STOPS, st.text(alphabet="abc🦙é", max_size=30), st.lists(st.integers(0, 200), max_size=12))
@settings(derandomize=True, max_examples=500, deadline=None)
def test_the_text_ends_before_the_stop_string_that_is_whole_first(stops: list[str], text: str, cuts: list[int]) -> None:
    out, stop = _stream(stops, _cut(text.encode(), cuts))
    assert (out, stop) == _expected(stops, text.encode(), 0), "however the tokens lie"
    assert not any(stop in out for stop in stops)


@given(STOPS, st.text(alphabet="abc🦙é", max_size=30), st.lists(st.integers(0, 200), max_size=12), st.integers(0, 4))
@settings(derandomize=True, max_examples=500, deadline=None)
def test_no_stop_string_counts_that_ends_within_the_first_tokens(
    stops: list[str], text: str, cuts: list[int], unarmed: int
) -> None:
    pieces = _cut(text.encode(), cuts)
    assert _stream(stops, pieces, unarmed) == _expected(stops, text.encode(), len(b"".join(pieces[:unarmed])))


@given(STOPS, st.text(alphabet="abc🦙é", max_size=30), st.lists(st.integers(0, 200), max_size=12))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_what_is_given_out_early_is_never_taken_back(stops: list[str], text: str, cuts: list[int]) -> None:
    stream, out = TextStream(stops), ""
    whole = _expected(stops, text.encode(), 0)[0]
    for piece in _cut(text.encode(), cuts):
        out += stream.push(piece)
        assert whole.startswith(out)
        assert 0 <= stream.passed - len(out.encode()) < 4, "less than a character lies between them"
        if stream.stopped:
            return


@given(st.binary(max_size=40), st.lists(st.integers(0, 200), max_size=12))
@settings(derandomize=True, max_examples=500, deadline=None)
def test_any_bytes_come_out_as_one_decode_would_give_them(data: bytes, cuts: list[int]) -> None:
    assert _stream([], _cut(data, cuts)) == (data.decode("utf-8", "ignore"), None)


@given(STOPS, st.binary(max_size=40), st.lists(st.integers(0, 200), max_size=12))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_each_part_given_out_is_whole_text(stops: list[str], data: bytes, cuts: list[int]) -> None:
    stream = TextStream(stops)
    for piece in _cut(data, cuts):
        stream.push(piece).encode("utf-8")  # no lone surrogate, no half character
        if stream.stopped:
            return
    stream.finish().encode("utf-8")

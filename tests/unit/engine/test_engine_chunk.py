"""How much of a prompt goes beside replies."""

from __future__ import annotations

import pytest

from hali.engine.chunk import STALL_S, STEP, Chunk


def test_before_anything_was_measured_it_is_half_of_a_batch() -> None:
    assert Chunk(512).rows == 256


@pytest.mark.parametrize(
    ("row_s", "rows"),
    [(0.000_01, 512), (0.0035, 256), (0.007, 128), (0.06, STEP), (3.0, STEP)],
)
def test_a_chunk_holds_up_the_others_for_no_longer_than_it_may(row_s: float, rows: int) -> None:
    chunk = Chunk(512)
    for _ in range(3):
        chunk.measure(256, 256 * row_s)
    assert chunk.rows == rows
    assert rows == STEP or rows * row_s <= STALL_S


def test_it_follows_a_text_that_grows_slower_to_read_and_is_not_moved_by_one_bad_moment() -> None:
    chunk = Chunk(512)
    chunk.measure(256, 0.9)
    chunk.measure(256, 1.8)
    assert chunk.rows == 192
    for _ in range(20):
        chunk.measure(256, 1.8)
    assert chunk.rows == 128


def test_batches_of_replies_alone_tell_nothing() -> None:
    chunk = Chunk(512)
    chunk.measure(8, 0.2)
    assert chunk.rows == 256

"""Standard streams: what is written is written once, and all of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from hali.cli import streams


class Interrupted(streams._Messages):
    """Ctrl-C comes behind the first write, before it returns."""

    pressed = False

    def write(self, data: object, /) -> int:
        written = super().write(data)  # type: ignore[arg-type]
        if not self.pressed:
            self.pressed = True
            raise KeyboardInterrupt
        return written


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_a_question_that_ctrl_c_interrupts_is_written_once(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    with os.fdopen(writing, "w", closefd=False) as stream:
        ours = streams._over(stream, Interrupted)
        with pytest.raises(KeyboardInterrupt):
            print("Sure? [y/N] ", end="", file=ours, flush=True)
        print("hali: interrupted", file=ours, flush=True)
    assert os.read(reading, 1000) == b"Sure? [y/N] hali: interrupted\n"


def test_what_a_pipe_does_not_take_at_once_is_written_to_its_end(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    text = "x" * 1_000_000
    with os.fdopen(writing, "w", closefd=False) as stream:
        ours = streams._over(stream, streams._Results)
        writer = threading.Thread(target=print, args=(text,), kwargs={"file": ours, "flush": True})
        writer.start()
        got = b""
        while len(got) <= len(text):
            got += os.read(reading, 65536)
        writer.join()
    assert got == f"{text}\n".encode()


def test_a_stream_that_never_waits_loses_what_it_cannot_take(pipe: tuple[int, int]) -> None:
    _, writing = pipe
    os.set_blocking(writing, False)
    with os.fdopen(writing, "w", closefd=False) as stream:
        print("x" * 1_000_000, file=streams._over(stream, streams._Messages), flush=True)

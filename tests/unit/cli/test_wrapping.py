"""Streamed text on a terminal, seen through a small model of one."""

from __future__ import annotations

import re

import pytest

from hali.cli.wrapping import Wrapper, width_of

TEXT = "Among all the tantalizing stories of Zürich there is one.\n\nIt is short."


def screen(written: str) -> list[str]:
    """What a terminal shows: text, newlines, cursor left, erase to the end of the line."""
    lines = [""]
    for back, char in re.findall(r"\x1b\[(\d+)D\x1b\[K|(.|\n)", written):
        if back:
            keep = lines[-1]
            left = int(back)
            while left > 0:
                left -= width_of(keep[-1])
                keep = keep[:-1]
            lines[-1] = keep
        elif char == "\n":
            lines.append("")
        else:
            lines[-1] += char
    return lines


@pytest.mark.parametrize("columns", [12, 20, 41, 80, 200])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_words_stay_whole_and_lines_fit_whatever_the_pieces(columns: int, size: int) -> None:
    wrapper = Wrapper(columns)
    lines = screen("".join(wrapper.feed(TEXT[i : i + size]) for i in range(0, len(TEXT), size)))
    assert all(sum(map(width_of, line)) < columns for line in lines)
    longest = max(map(len, TEXT.split()))
    if longest < columns:
        assert " ".join(lines).split() == TEXT.split()


def test_a_word_longer_than_the_line_is_cut() -> None:
    assert screen(Wrapper(5).feed("abcdefghij")) == ["abcd", "efgh", "ij"]


def test_newlines_of_the_model_are_kept() -> None:
    assert screen(Wrapper(80).feed("one\n\ntwo\n")) == ["one", "", "two", ""]


def test_wide_characters_count_two_columns_and_combining_ones_none() -> None:
    assert screen(Wrapper(5).feed("中文字")) == ["中文", "字"]
    assert width_of("🎉") == 2
    assert width_of("\u0301") == 0
    assert screen(Wrapper(5).feed("e\u0301e\u0301e\u0301e\u0301")) == ["e\u0301e\u0301e\u0301e\u0301"]


def test_control_characters_of_a_model_never_reach_the_terminal() -> None:
    assert Wrapper(80).feed("a\x1b[2Jb\x07c\rd") == "a[2Jbcd"


def test_a_tab_becomes_spaces() -> None:
    assert Wrapper(80).feed("a\tb") == "a    b"

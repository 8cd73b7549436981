"""Streamed text on a terminal: words are not cut at the edge, and control characters of a model never reach it."""

from __future__ import annotations

import unicodedata

TAB = 4  # columns


class Wrapper:
    """Text comes in pieces of any size and goes out at once; a word that does not fit is taken back and put on the next line."""

    def __init__(self, columns: int) -> None:
        # One column less than there is: with the last one filled, terminals differ about where the cursor is.
        self._columns = max(columns - 1, 1)
        self._at = 0
        self._word: list[str] = []

    def feed(self, text: str) -> str:
        """What to write for `text`."""
        return "".join(self._take(char) for char in text.replace("\t", " " * TAB))

    def _take(self, char: str) -> str:
        if char == "\n":
            return self._new_line()
        if unicodedata.category(char) == "Cc":
            return ""
        if char == " ":
            self._word.clear()
            if self._at + 1 > self._columns:
                return self._new_line()
            self._at += 1
            return char
        return self._letter(char)

    def _letter(self, char: str) -> str:
        width = width_of(char)
        if self._at + width <= self._columns:
            self._at += width
            self._word.append(char)
            return char
        back = sum(map(width_of, self._word))
        if back == self._at:  # a word as long as the line has to be cut
            self._word, self._at = [char], width
            return f"\n{char}"
        self._word.append(char)
        self._at = back + width
        erase = f"\x1b[{back}D\x1b[K" if back else ""
        return f"{erase}\n{''.join(self._word)}"

    def _new_line(self) -> str:
        self._word.clear()
        self._at = 0
        return "\n"


def width_of(char: str) -> int:
    """Columns of one character: 2 for East Asian wide ones and most emoji, 0 for combining marks and joiners."""
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1

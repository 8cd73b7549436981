"""Tells tool calls from text in a reply that comes in pieces. Pure; how the reply is cut makes no difference."""

from __future__ import annotations

import re

from hali.engine.tool_bodies import Body, Call, Found, Schemas
from hali.engine.tool_formats import Format, Opening


class CallReader:
    """Text in, text and calls out, in their order. Nothing is lost but marks, and white space next to calls."""

    def __init__(self, form: Format, schemas: Schemas) -> None:
        self._form, self._schemas = form, schemas
        blank = "|".join([r"\s", *map(re.escape, form.noise)])
        blanks = f"(?:{blank})*+"
        self._blanks, self._ending = re.compile(blanks), re.compile(blanks + r"\Z")
        self._anywhere = tuple(opening for opening in form.openings if not opening.first)
        self._firsts = tuple(opening for opening in form.openings if opening.first)
        self._held = ""  # not decided yet; inside a call it begins with the mark
        self._gap = ""  # blanks that are dropped if a call follows
        self._fresh = True  # nothing but blanks since the beginning, or the last call
        self._open: tuple[Opening, Body] | None = None
        self.called = False

    def push(self, text: str) -> list[str | Call]:
        """What is decided by now."""
        self._held += text
        return self._read(final=False)

    def finish(self) -> list[str | Call]:
        """The rest, at the end of the reply: a call that is not whole is text."""
        found = self._read(final=True)
        if self._gap and not (self._fresh and self.called):
            found.append(self._gap)
        self._gap = ""
        return found

    def _read(self, final: bool) -> list[str | Call]:
        found: list[str | Call] = []
        while self._held:
            before = self._held, self._open
            if self._open is None:
                self._read_text(found, final)
            else:
                self._read_call(found, *self._open, final)
            if (self._held, self._open) == before:
                break
        return found

    # --- text

    def _read_text(self, found: list[str | Call], final: bool) -> None:
        at, opening = self._next_opening(final)
        if opening is None:
            at = len(self._held) - (0 if final else self._undecided())
        self._say(found, self._held[:at])
        self._held = self._held[at:]
        if opening is not None:
            self._open = opening, opening.body(self._schemas)

    def _next_opening(self, final: bool) -> tuple[int, Opening | None]:
        if self._fresh:
            begin = self._after_blanks()
            rest = self._held[begin:]
            for opening in self._firsts:
                if rest.startswith(opening.mark) and not self._is_mark(rest, final):
                    return begin, opening
        places = [(self._held.find(opening.mark), opening) for opening in self._anywhere]
        return min((place for place in places if place[0] >= 0), key=lambda place: place[0], default=(-1, None))

    def _is_mark(self, text: str, final: bool) -> bool:
        """Whether one of the other marks stands at the beginning, or may do so when more comes."""
        marks = [opening.mark for opening in self._anywhere]
        return text.startswith(tuple(marks)) or (not final and any(mark.startswith(text) for mark in marks))

    def _after_blanks(self) -> int:
        match = self._blanks.match(self._held)
        return match.end() if match else 0

    def _undecided(self) -> int:
        """Length of the end of the text that a mark may begin with."""
        if self._fresh:
            rest = self._held[self._after_blanks() :]
            if rest and any(opening.mark.startswith(rest) for opening in self._firsts):
                return len(rest)
        marks = (*(opening.mark for opening in self._anywhere), *self._form.noise)
        longest = max(map(len, marks), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-length:]
            if any(mark.startswith(end) and mark != end for mark in marks):
                return length
        return 0

    def _say(self, found: list[str | Call], text: str) -> None:
        """Tell a text, but hold back the blanks at its end."""
        whole = self._gap + text
        match = self._ending.search(whole)
        end = match.start() if match else len(whole)
        self._gap = whole[end:]
        if end:
            found.append(whole[:end])
            self._fresh = False

    # --- calls

    def _read_call(self, found: list[str | Call], opening: Opening, body: Body, final: bool) -> None:
        skip = 0 if opening.kept else len(opening.mark)
        outcome = body.read(self._held[skip:], final)
        if isinstance(outcome, Found):
            self._open, self._fresh, self._gap, self.called = None, True, "", True
            self._held = self._held[skip + outcome.end :]
            found.extend(outcome.calls)
        elif outcome == "wrong":
            self._open, self._fresh = None, False
            self._say(found, self._held[: len(opening.mark)])
            self._held = self._held[len(opening.mark) :]

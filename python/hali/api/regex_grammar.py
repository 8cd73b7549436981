"""Regular expressions as GBNF grammars, for what must match as a whole. Pure.

The language of Python's `re` (and so vLLM's), without what a grammar cannot say: looking around, back references, word
borders, flags. Lazy repetitions match the same texts as greedy ones.
"""

from __future__ import annotations

import re

MAX_LENGTH = 32 * 1024  # characters: each becomes up to 13 of a grammar, of which engines take 128 KiB
MAX_DEPTH = 32  # groups in groups: they are read by recursion
_CLASSES = {"d": "0-9", "w": r"A-Za-z0-9\x5F", "s": r"\x20\t\n\r\x0B\x0C"}  # of ASCII
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}
_HEX = {"x": 2, "u": 4, "U": 8}  # digits after the escape
_COUNT = re.compile(r"\{(\d{1,5})(?:(,)(\d{0,5}))?\}")
_GROUP = re.compile(r"\((?:\?:|\?P?<[A-Za-z_]\w*>)?(?!\?)", re.ASCII)
_END = re.compile(r"\$(?=\||\Z)")


def grammar_of(pattern: str) -> str:
    """A grammar of the texts that `pattern` matches as a whole; `ValueError` that says what of it there is no rule for."""
    if len(pattern) > MAX_LENGTH:
        raise ValueError(f"more than {MAX_LENGTH} characters")
    reader = _Reader(pattern)
    body = reader.alternatives(depth=0)
    if reader.rest:
        raise ValueError(f"an unexpected {reader.rest[0]!r}")
    return f"root ::= {body}"


class _Reader:
    """Recursive descent over the pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern, self._at = pattern, 0

    @property
    def rest(self) -> str:
        """What was not read yet."""
        return self._pattern[self._at :]

    def _take(self, count: int = 1) -> str:
        taken = self._pattern[self._at : self._at + count]
        if len(taken) < count:
            raise ValueError("an end in the middle of something")
        self._at += count
        return taken

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def alternatives(self, depth: int) -> str:
        """Up to the closing bracket or the end."""
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} groups in groups")
        found = [self._sequence(depth)]
        while self._peek() == "|":
            self._at += 1
            found.append(self._sequence(depth))
        return " | ".join(found)

    def _sequence(self, depth: int) -> str:
        if depth == 0 and self._peek() == "^":  # what must match as a whole begins here anyway
            self._at += 1
        items = []
        while self._peek() not in ("", "|", ")"):
            if depth == 0 and _END.match(self._pattern, self._at):
                self._at += 1
                break
            items.append(self._item(depth) + self._repetition())
        return " ".join(items) or '""'

    def _item(self, depth: int) -> str:
        first = self._take()
        if first == "(":
            return self._group(depth)
        if first == "[":
            return self._class()
        if first == "\\":
            return self._escape()
        if first == ".":
            return r"[^\n]"
        if first in "^$*+?":
            raise ValueError(f"{first!r} in a place where a grammar has no word for it")
        return f'"{spelled(first)}"'

    def _group(self, depth: int) -> str:
        head = _GROUP.match(self._pattern, self._at - 1)
        if head is None:
            raise ValueError(f"a group of the kind {self._pattern[self._at - 1 : self._at + 2]!r}")
        self._at = head.end()
        body = self.alternatives(depth + 1)
        if self._peek() != ")":
            raise ValueError("a group without an end")
        self._at += 1
        return f"({body})"

    def _repetition(self) -> str:
        found = self._pattern[self._at : self._at + 1]
        if found and found in "*+?":
            self._at += 1
        elif count := _COUNT.match(self._pattern, self._at):
            found = count.group()
            if count[3] and int(count[3]) < int(count[1]):
                raise ValueError(f"no number is within {found}")
            self._at = count.end()
        elif found == "{":
            raise ValueError("a '{' that begins no number of repetitions; write \\{")
        else:
            return ""
        if self._peek() == "?":  # lazy
            self._at += 1
        if self._peek() in ("*", "+", "{"):
            raise ValueError("a repetition of a repetition")
        return found

    def _escape(self) -> str:
        kind = self._take()
        if kind.lower() in _CLASSES:
            return f"[{'^' if kind.isupper() else ''}{_CLASSES[kind.lower()]}]"
        return f'"{spelled(self._character(kind))}"'

    def _class(self) -> str:
        negated = "^" if self._peek() == "^" else ""
        self._at += len(negated)
        parts = [self._member()]  # a bracket in the first place is a character
        while self._peek() != "]":
            parts.append(self._member())
        self._at += 1
        return f"[{negated}{''.join(parts)}]"

    def _member(self) -> str:
        first = self._take()
        if first == "\\" and self._peek() in _CLASSES:
            return _CLASSES[self._take()]
        low = self._character(self._take()) if first == "\\" else first
        if self._peek() != "-" or self._pattern[self._at + 1 : self._at + 2] in ("]", ""):
            return spelled(low)
        self._at += 1
        last = self._take()
        high = self._character(self._take()) if last == "\\" else last
        if high < low:
            raise ValueError(f"a range from {low!r} to {high!r}")
        return f"{spelled(low)}-{spelled(high)}"

    def _character(self, kind: str) -> str:
        """What stands for itself behind a backslash, or for a character that is hard to write."""
        if kind in _HEX:
            digits = self._take(_HEX[kind])
            if not re.fullmatch(r"[0-9A-Fa-f]+", digits) or int(digits, 16) > 0x10FFFF:
                raise ValueError(f"no character is called \\{kind}{digits}")
            return chr(int(digits, 16))
        if kind in _CONTROLS:
            return _CONTROLS[kind]
        if kind.isascii() and kind.isalnum():
            raise ValueError(f"the escape \\{kind}")
        return kind


def spelled(character: str) -> str:
    """As GBNF takes it in texts and classes alike; nothing of it can be mistaken for a sign of the grammar."""
    return character if character.isascii() and character.isalnum() else f"\\U{ord(character):08X}"

"""GBNF, llama.cpp's grammar language, translated to llguidance's Lark, one terminal a character. Pure.

One character, because llguidance's lexer takes the longest token: `"a" "bc" | "ab"` as whole words would refuse "abc".
llama.cpp's own interpreter is not used: it looks for left recursion in exponential time, follows ambiguous rules
likewise, and nothing can stop it inside its process.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hali.model.errors import UsageError

MAX_BYTES = 128 * 1024  # of a grammar; llama.cpp's largest example has 3 KiB
MAX_DEPTH = 64  # brackets in brackets
MAX_REPEAT = 10_000  # in {m,n}
_TOP, _SURROGATES = 0x10FFFF, (0xD800, 0xDFFF)
_HEX = {"x": 2, "u": 4, "U": 8}  # digits after the escape
_PLAIN = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
_NAME = re.compile(r"[A-Za-z0-9-]+")
_COUNT = re.compile(r"\{\s*(\d+)\s*(,?)\s*(\d*)\s*\}")
_BLANK = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")

Ranges = list[tuple[int, int]]


def to_lark(text: str) -> str:
    """The grammar in Lark. UsageError that says what is wrong, and in which line."""
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise UsageError(f"the grammar is longer than {MAX_BYTES} bytes", code="grammar")
    return _Parser(text).grammar()


@dataclass
class _Output:
    """Rules and terminals made so far. A grammar's own rules are called n…, those made for brackets g…."""

    rules: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # in the grammar → here
    terminals: dict[str, str] = field(default_factory=dict)  # regular expression → name
    groups: int = 0

    def name(self, given: str) -> str:
        return self.names.setdefault(given, f"n{len(self.names)}")

    def group(self, body: str) -> str:
        self.groups += 1
        self.rules.append(f"g{self.groups}: {body}")
        return f"g{self.groups}"

    def terminal(self, ranges: Ranges, negated: bool) -> str:
        inside = "".join(f"\\x{{{low:X}}}-\\x{{{high:X}}}" for low, high in ranges)
        return self.terminals.setdefault(f"/[{'^' if negated else ''}{inside}]/", f"T{len(self.terminals)}")


class _Parser:
    """Recursive descent over the text; the productions of llama.cpp's grammars/README.md."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0
        self._out = _Output()
        self._defined: dict[str, str] = {}  # name → body; the last definition counts, as in llama.cpp

    def grammar(self) -> str:
        self._skip(lines=True)
        while self._at < len(self._text):
            self._rule()
        if missing := [name for name in ("root", *self._out.names) if name not in self._defined]:
            raise self._error(f"no rule is called {missing[0]!r}")
        rules = [f"{self._out.name(name)}: {body}" for name, body in self._defined.items()]
        terminals = [f"{name}: {regex}" for regex, name in self._out.terminals.items()]
        return "\n".join(["%llguidance {}", f"start: {self._out.name('root')}", *rules, *self._out.rules, *terminals])

    # --- productions

    def _rule(self) -> None:
        name = self._match(_NAME, "the name of a rule").group()
        self._skip()
        self._expect("::=")
        self._skip(lines=True)
        self._defined[name] = self._alternatives(nested=False)
        self._out.name(name)
        if self._at < len(self._text) and self._peek() not in "\r\n":
            raise self._error(f"unexpected {self._peek()!r}")
        self._skip(lines=True)

    def _alternatives(self, *, nested: bool) -> str:
        found = [self._sequence(nested)]
        while self._peek() == "|":
            self._at += 1
            self._skip(lines=True)
            found.append(self._sequence(nested))
        return " | ".join(found)

    def _sequence(self, nested: bool) -> str:
        items: list[str] = []
        while (item := self._item()) is not None:
            self._skip(lines=nested)
            items += self._repeated(item, nested)
        return " ".join(items) or '""'

    def _item(self) -> list[str] | None:
        """The symbols of one item, None where there is none."""
        first = self._peek()
        if first == '"':
            return self._literal()
        if first == "[":
            return [self._class()]
        if first == "(":
            return [self._brackets()]
        if first == ".":
            self._at += 1
            return [self._terminal([(0, _TOP)])]
        if first in ("<", "!"):
            raise self._error("tokens in a grammar are not supported, only text")
        if first and _NAME.match(first):
            return [self._out.name(self._match(_NAME, "a name").group())]
        return None

    def _repeated(self, item: list[str], nested: bool) -> list[str]:
        """The item with the repetitions that follow it."""
        while self._peek() and self._peek() in "*+?{":
            if not item:
                raise self._error("there is nothing to repeat")
            symbol = item[0] if len(item) == 1 and item[0][-1] not in "*+?}" else self._out.group(" ".join(item))
            item = [symbol + self._repetition()]
            self._skip(lines=nested)
        return item

    def _repetition(self) -> str:
        if self._peek() != "{":
            self._at += 1
            return self._text[self._at - 1]
        least, comma, most = self._match(_COUNT, "{m}, {m,} or {m,n}").groups()
        if any(len(number) > 9 or int(number) > MAX_REPEAT for number in (least, most) if number):
            raise self._error(f"more than {MAX_REPEAT} repetitions")
        if most and int(most) < int(least):
            raise self._error(f"no number is at least {least} and at most {most}")
        return f"{{{int(least)},{int(most) if most else ''}}}" if comma else f"{{{int(least)},{int(least)}}}"

    def _brackets(self) -> str:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"more than {MAX_DEPTH} brackets inside each other")
        self._at += 1
        self._skip(lines=True)
        body = self._alternatives(nested=True)
        self._expect(")")
        self._depth -= 1
        return self._out.group(body)

    def _literal(self) -> list[str]:
        self._at += 1
        found = []
        while self._peek() != '"':
            code = self._character()
            found.append(self._terminal([(code, code)]))
        self._at += 1
        return found

    def _class(self) -> str:
        self._at += 1
        negated = self._peek() == "^"
        self._at += negated
        ranges: Ranges = []
        while self._peek() != "]":
            low = high = self._character()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]":
                self._at += 1
                high = self._character()
            ranges.append((low, high))
        self._at += 1
        return self._terminal(ranges, negated)

    def _terminal(self, ranges: Ranges, negated: bool = False) -> str:
        valid = _valid(ranges)
        if not valid:
            raise self._error("no character fits here")
        return self._out.terminal(valid, negated)

    # --- characters

    def _character(self) -> int:
        char = self._peek()
        if not char:
            raise self._error("the text ends inside quotes or brackets")
        self._at += 1
        if char != "\\":
            return ord(char)
        kind = self._peek()
        self._at += 1
        if kind in _HEX:
            return self._hex(_HEX[kind])
        if kind not in _PLAIN:
            raise self._error(f"there is no escape \\{kind}")
        return ord(_PLAIN[kind])

    def _hex(self, digits: int) -> int:
        text = self._text[self._at : self._at + digits]
        if not re.fullmatch(r"[0-9A-Fa-f]+", text) or len(text) < digits or int(text, 16) > _TOP:
            raise self._error(f"expected the {digits} hexadecimal digits of a character")
        self._at += digits
        return int(text, 16)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, *, lines: bool = False) -> None:
        found = (_BLANK_LINES if lines else _BLANK).match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _match(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise self._error(f"expected {what}")
        self._at = found.end()
        return found

    def _expect(self, what: str) -> None:
        if not self._text.startswith(what, self._at):
            raise self._error(f"expected {what!r}")
        self._at += len(what)

    def _error(self, what: str) -> UsageError:
        line = self._text.count("\n", 0, self._at) + 1
        return UsageError(f"the grammar cannot be used: {what} (line {line})", code="grammar")


def _valid(ranges: Ranges) -> Ranges:
    """Without surrogates, which UTF-8 cannot spell, and without ranges that are upside down."""
    low, high = _SURROGATES
    cut = [part for first, last in ranges for part in ((first, min(last, low - 1)), (max(first, high + 1), last))]
    return [(first, last) for first, last in cut if first <= last]

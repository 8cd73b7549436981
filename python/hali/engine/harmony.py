"""Replies of gpt-oss: messages, each with a channel and perhaps a recipient, told apart while they come. Pure.

The format is OpenAI's Harmony: `<|channel|>analysis<|message|>…<|end|><|start|>assistant<|channel|>final<|message|>…`; a call
is a message to `functions.NAME`. The prompt ends with `<|start|>assistant`, so a reply begins inside of a header.
"""

from __future__ import annotations

import re

from hali.engine.tool_bodies import Call, call_of

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
FINAL = f"{CHANNEL}final{MESSAGE}"  # what begins the answer
MARKS = frozenset({START, CHANNEL, MESSAGE, "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"})
SIGN = CHANNEL + "analysis"  # in the chat template
_ENDS = ("<|end|>", "<|call|>", "<|return|>", START, CHANNEL)
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT = re.compile(r"to=functions\.([\w.\-]+)")
_HEADS = (CHANNEL, START, " to=", "to=")  # what a header begins with; a reply that begins otherwise is an answer


class HarmonyReader:
    """Text in, (text, whether it is a thought) and calls out; what comes of headers is their meaning only."""

    def __init__(self, with_calls: bool) -> None:
        self._with_calls = with_calls
        self._held = ""
        self._in_header = self._first = True
        self._channel, self._recipient = "final", ""

    @property
    def thinking(self) -> bool:
        """Whether the reply is inside a thought."""
        return self._channel == "analysis" and not self._in_header

    @property
    def answer_at(self) -> int:
        """See Splitter: messages have no one place where the answer begins."""
        return 0

    @property
    def answering(self) -> bool:
        """See Splitter."""
        return self._channel != "analysis" and not self._in_header

    def push(self, text: str) -> list[tuple[str, bool] | Call]:
        """What is decided by now."""
        self._held += text
        return self._read(final=False)

    def finish(self) -> list[tuple[str, bool] | Call]:
        """The rest, at the end of the reply; a call ends there too, since its end is the model's."""
        found = self._read(final=True)
        if not self._in_header:
            self._end(found, self._held)
        self._held = ""
        return found

    def _read(self, final: bool) -> list[tuple[str, bool] | Call]:
        found: list[tuple[str, bool] | Call] = []
        while self._header(final) if self._in_header else self._body(found):
            pass
        return found

    def _header(self, final: bool) -> bool:
        """Whether a header ended: the text goes on behind it."""
        if self._first and not _may_be_header(self._held, final):
            self._in_header = self._first = False
            return True
        at = self._held.find(MESSAGE)
        if at < 0:
            return False
        channel, recipient = _CHANNEL.search(self._held, 0, at), _RECIPIENT.search(self._held, 0, at)
        self._channel = channel[1] if channel else "final"
        self._recipient = recipient[1] if recipient and self._with_calls else ""
        self._held = self._held[at + len(MESSAGE) :]
        self._in_header = self._first = False
        return True

    def _body(self, found: list[tuple[str, bool] | Call]) -> bool:
        """Whether a message ended: a header follows."""
        at, end = min(((self._held.find(end), end) for end in _ENDS if end in self._held), default=(-1, ""))
        if at >= 0:
            self._end(found, self._held[:at])
            self._held = self._held[at + (0 if end == CHANNEL else len(end)) :]
            self._in_header = True
            return True
        if not self._recipient:
            keep = _partial(self._held)
            self._say(found, self._held[: len(self._held) - keep])
            self._held = self._held[len(self._held) - keep :]
        return False

    def _end(self, found: list[tuple[str, bool] | Call], body: str) -> None:
        call = call_of(self._recipient, body) if self._recipient else None
        if call is None:
            self._say(found, body)
        else:
            found.append(call)
        self._recipient = ""

    def _say(self, found: list[tuple[str, bool] | Call], text: str) -> None:
        if text:
            found.append((text, self._channel == "analysis"))


def _may_be_header(text: str, final: bool) -> bool:
    if text.startswith(_HEADS):
        return True
    return not final and any(head.startswith(text) for head in _HEADS)


def _partial(text: str) -> int:
    """Length of the end of the text that one of the ends begins with."""
    for length in range(min(len(text), max(map(len, _ENDS)) - 1), 0, -1):
        if any(end.startswith(text[-length:]) for end in _ENDS):
            return length
    return 0

"""Tells thoughts from the answer in a reply that comes in pieces. Pure; how the reply is cut makes no difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Marks:
    """What stands around a model's thoughts."""

    begin: str
    end: str


# DeepSeek R1, Qwen 3, SmolLM3, Granite 3.3, … · Mistral's reasoning models · Command R7B and A · Seed-OSS · Gemma 4 · others
KNOWN = (
    Marks("<think>", "</think>"),
    Marks("[THINK]", "[/THINK]"),
    Marks("<|START_THINKING|>", "<|END_THINKING|>"),
    Marks("<seed:think>", "</seed:think>"),
    Marks("<|channel>thought\n", "<channel|>"),
    Marks("<thinking>", "</thinking>"),
    Marks("<reasoning>", "</reasoning>"),
)


def recognise(template: str) -> Marks | None:
    """The marks of a model's thoughts, as its chat template writes or removes them."""
    return next((marks for marks in KNOWN if marks.end in template), None)


def left_open(prompt: str, marks: Marks) -> bool:
    """Whether the template itself has begun the thoughts, so that the reply goes on inside of them."""
    return prompt.rstrip().endswith(marks.begin)


class ThoughtReader:
    """Text in, (text, whether it is a thought) out. Thoughts stand at the beginning only; white space around them is dropped."""

    def __init__(self, marks: Marks, inside: bool) -> None:
        self._marks = marks
        self._state: Literal["before", "inside", "after", "answer"] = "inside" if inside else "before"
        self._held = ""
        self._begun = False  # a thought has a character other than white space
        self._taken = 0  # bytes of text
        self.answer_at: int | None = None  # where the answer begins in them; None while it has not

    @property
    def thinking(self) -> bool:
        """Whether the next character is a thought, as far as is known."""
        return self._state == "inside"

    def push(self, text: str) -> list[tuple[str, bool]]:
        """What is decided by now."""
        self._held += text
        self._taken += len(text.encode())
        return self._read(final=False)

    def finish(self) -> list[tuple[str, bool]]:
        """The rest, at the end of the reply; thoughts that were not ended are thoughts."""
        return self._read(final=True)

    def _read(self, final: bool) -> list[tuple[str, bool]]:
        found: list[tuple[str, bool]] = []
        if self._state == "before":
            self._before(final)
        if self._state == "inside":
            self._inside(found, final)
        if self._state == "after":
            self._held = self._held.lstrip()
            if self._held:
                self._state = "answer"
        if self._state == "answer" and self.answer_at is None:
            self.answer_at = self._taken - len(self._held.encode())
        if self._state == "answer" and self._held:
            found.append((self._held, False))
            self._held = ""
        return found

    def _before(self, final: bool) -> None:
        rest = self._held.lstrip()
        if rest.startswith(self._marks.begin):
            self._held, self._state = rest[len(self._marks.begin) :], "inside"
        elif final or not self._marks.begin.startswith(rest):
            self._state = "answer"

    def _inside(self, found: list[tuple[str, bool]], final: bool) -> None:
        at = self._held.find(self._marks.end)
        if at >= 0:
            self._think(found, self._held[:at].rstrip())
            self._held, self._state = self._held[at + len(self._marks.end) :], "after"
            return
        cut = len(self._held) if final else self._undecided()
        self._think(found, self._held[:cut])
        self._held = self._held[cut:]

    def _undecided(self) -> int:
        """Where white space or a part of the end mark begins that may turn out to end the thoughts."""
        end = self._marks.end
        for length in range(min(len(end) - 1, len(self._held)), 0, -1):
            if end.startswith(self._held[-length:]):
                return len(self._held[:-length].rstrip())
        return len(self._held.rstrip())

    def _think(self, found: list[tuple[str, bool]], text: str) -> None:
        if not self._begun:
            text = text.lstrip()
        if text:
            self._begun = True
            found.append((text, True))

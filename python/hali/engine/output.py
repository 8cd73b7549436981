"""From the text of a reply to its events: thoughts, answer, calls of tools. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hali.engine import harmony
from hali.engine.call_reader import CallReader
from hali.engine.harmony import HarmonyReader
from hali.engine.reasoning import Marks, ThoughtReader
from hali.engine.telling import append
from hali.engine.tool_bodies import Call, Schemas
from hali.engine.tool_formats import Format
from hali.model.generation import Chunk, ToolCall, ToolCalled

Part = tuple[str, bool] | Call


def new_id() -> str:
    """An id for a call; clients and templates take it for opaque."""
    return f"call_{secrets.token_hex(12)}"


@dataclass(frozen=True)
class Dialect:
    """What a reply to one request may have in it besides text."""

    marks: Marks | None = None  # around thoughts
    inside: bool = False  # the prompt has opened them
    calls: Format | None = None
    schemas: Schemas | None = None
    parallel: bool = True  # more than one call is wanted
    harmony: bool = False  # gpt-oss' messages, which tell thoughts from calls themselves; `marks` is None then

    def reader(self, ident: Callable[[], str] = new_id) -> ReplyReader | None:
        """For one reply; None if it is text and nothing else."""
        plain = self.marks is None and self.calls is None and not self.harmony
        return None if plain else ReplyReader(self, ident)


class Splitter(Protocol):
    """Tells the parts of a reply apart: (text, whether it is a thought), and calls."""

    @property
    def thinking(self) -> bool:
        """Whether the reply is inside a thought, as far as is known."""

    @property
    def answer_at(self) -> int:
        """Where the answer begins, in bytes of the text; 0 where it is not known (yet)."""

    @property
    def answering(self) -> bool:
        """Whether the answer has begun, as far as is known."""

    def push(self, text: str) -> list[Part]:
        """What is decided by now."""

    def finish(self) -> list[Part]:
        """The rest, at the end of the reply."""


class MarkSplitter:
    """Thoughts between marks first, then an answer with calls between marks; each only where it is looked for."""

    def __init__(self, dialect: Dialect) -> None:
        self._thoughts = None if dialect.marks is None else ThoughtReader(dialect.marks, dialect.inside)
        self._calls = None if dialect.calls is None else CallReader(dialect.calls, dialect.schemas or {})

    @property
    def thinking(self) -> bool:
        """See Splitter."""
        return self._thoughts is not None and self._thoughts.thinking

    @property
    def answer_at(self) -> int:
        """See Splitter."""
        return 0 if self._thoughts is None else self._thoughts.answer_at or 0

    @property
    def answering(self) -> bool:
        """See Splitter."""
        return self._thoughts is None or self._thoughts.answer_at is not None

    def push(self, text: str) -> list[Part]:
        """See Splitter."""
        return self._split([(text, False)] if self._thoughts is None else self._thoughts.push(text))

    def finish(self) -> list[Part]:
        """See Splitter."""
        found = [] if self._thoughts is None else self._split(self._thoughts.finish())
        return found if self._calls is None else [*found, *map(_part, self._calls.finish())]

    def _split(self, parts: list[tuple[str, bool]]) -> list[Part]:
        found: list[Part] = []
        for text, thought in parts:
            if thought or self._calls is None:
                found.append((text, thought))
            else:
                found.extend(map(_part, self._calls.push(text)))
        return found


def _part(found: str | Call) -> Part:
    return (found, False) if isinstance(found, str) else found


class ReplyReader:
    """Final text in, events out; their `tokens` are 0, since only the session knows of tokens."""

    def __init__(self, dialect: Dialect, ident: Callable[[], str]) -> None:
        self._parallel, self._ident = dialect.parallel, ident
        self._split: Splitter = HarmonyReader(dialect.calls is not None) if dialect.harmony else MarkSplitter(dialect)
        self._special = _special(dialect)
        self._count = 0
        self.thought_tokens = 0  # those that stand inside thoughts, the marks among them

    @property
    def answer_at(self) -> int:
        """Where the answer begins, in bytes of the text: behind thoughts and their marks. 0 where it is not known (yet)."""
        return self._split.answer_at

    @property
    def called(self) -> bool:
        """A tool was called."""
        return self._count > 0

    @property
    def answering(self) -> bool:
        """What comes now belongs to the answer: it is no thought or the end of one, and no call or what stands around it."""
        return self._split.answering and not self.called

    @property
    def over(self) -> bool:
        """The one call that was wanted has come."""
        return self.called and not self._parallel

    def wants(self, spelled: str) -> bool:
        """Whether a special token that is spelled so must be pushed like text: it is a mark, or a part of one."""
        return any(spelled in mark for mark in self._special)

    def read(self, text: str, tokens: int, *, last: bool = False) -> list[Chunk | ToolCalled]:
        """What is decided by now, or all of it if this is the `last` text; `tokens` of the model made the text."""
        before = self._split.thinking
        parts = self._split.push(text)
        if before or self._split.thinking:
            self.thought_tokens += tokens
        if last:
            parts += self._split.finish()
        found: list[Chunk | ToolCalled] = []
        for part in parts:
            for event in self._told(part):
                append(found, event)
        return found

    def _told(self, part: Part) -> list[Chunk | ToolCalled]:
        if self.over:
            return []  # a second call where one was wanted, and what stands around it
        if isinstance(part, Call):
            self._count += 1
            return [ToolCalled(self._count - 1, ToolCall(self._ident(), part.name, part.arguments))]
        text, thought = part
        return [Chunk(text, 0, reasoning=thought)] if text else []


def _special(dialect: Dialect) -> frozenset[str]:
    """Special tokens that mean something in a reply."""
    if dialect.harmony:
        return harmony.MARKS
    around = () if dialect.marks is None else (dialect.marks.begin, dialect.marks.end)
    return frozenset(around) | (dialect.calls.marks if dialect.calls else frozenset())

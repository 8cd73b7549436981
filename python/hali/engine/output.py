"""From the text of a reply to its events: thoughts, answer, calls of tools. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from hali.engine.call_reader import CallReader
from hali.engine.reasoning import Marks, ThoughtReader
from hali.engine.tool_bodies import Call, Schemas
from hali.engine.tool_formats import Format
from hali.model.generation import Chunk, ToolCall, ToolCalled


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

    def reader(self, ident: Callable[[], str] = new_id) -> ReplyReader | None:
        """For one reply; None if it is text and nothing else."""
        return None if self.marks is None and self.calls is None else ReplyReader(self, ident)


class ReplyReader:
    """Final text in, events out; their `tokens` are 0, since only the session knows of tokens."""

    def __init__(self, dialect: Dialect, ident: Callable[[], str]) -> None:
        self._parallel, self._ident = dialect.parallel, ident
        self._thoughts = None if dialect.marks is None else ThoughtReader(dialect.marks, dialect.inside)
        self._calls = None if dialect.calls is None else CallReader(dialect.calls, dialect.schemas or {})
        spelled = set() if dialect.marks is None else {dialect.marks.begin, dialect.marks.end}
        self._special = frozenset(spelled | (dialect.calls.marks if dialect.calls else set()))
        self._count = 0
        self.thought_tokens = 0  # those that stand inside thoughts, the marks among them

    @property
    def called(self) -> bool:
        """A tool was called."""
        return self._count > 0

    @property
    def over(self) -> bool:
        """The one call that was wanted has come."""
        return self.called and not self._parallel

    @property
    def thinking(self) -> bool:
        """Whether the reply is inside a thought, as far as is known."""
        return self._thoughts is not None and self._thoughts.thinking

    def wants(self, spelled: str) -> bool:
        """Whether a special token that is spelled so must be pushed like text."""
        return spelled in self._special

    def read(self, text: str, tokens: int, *, last: bool = False) -> list[Chunk | ToolCalled]:
        """What is decided by now, or all of it if this is the `last` text; `tokens` of the model made the text."""
        before = self.thinking
        parts = [(text, False)] if self._thoughts is None else self._thoughts.push(text)
        if before or self.thinking:
            self.thought_tokens += tokens
        if last and self._thoughts is not None:
            parts += self._thoughts.finish()
        events = [event for part in parts for event in self._tell(*part)]
        if last and self._calls is not None:
            events += self._answers(self._calls.finish())
        return _joined(events)

    def _tell(self, text: str, thought: bool) -> list[Chunk | ToolCalled]:
        if thought:
            return [Chunk(text, 0, reasoning=True)]
        if self._calls is None:
            return [Chunk(text, 0)] if text else []
        return self._answers(self._calls.push(text))

    def _answers(self, parts: list[str | Call]) -> list[Chunk | ToolCalled]:
        events: list[Chunk | ToolCalled] = []
        for part in parts:
            if self.over:
                break
            if isinstance(part, str):
                events.append(Chunk(part, 0))
            else:
                events.append(ToolCalled(self._count, ToolCall(self._ident(), part.name, part.arguments)))
                self._count += 1
        return events


def _joined(events: list[Chunk | ToolCalled]) -> list[Chunk | ToolCalled]:
    """Neighbouring texts of one kind as one."""
    found: list[Chunk | ToolCalled] = []
    for event in events:
        before = found[-1] if found else None
        if isinstance(event, Chunk) and isinstance(before, Chunk) and event.reasoning == before.reasoning:
            found[-1] = Chunk(before.text + event.text, 0, reasoning=event.reasoning)
        else:
            found.append(event)
    return found

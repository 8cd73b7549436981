"""The chat templates of one model: which one a request needs, with which variables, and what to do when it refuses."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from hali.engine import turns as rewrite
from hali.engine.sandbox import RENDER_LIMIT_S, Template
from hali.engine.turns import Turn
from hali.model.errors import UsageError

# What files without a template are taken to speak; llama-cpp-python's choice.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_STOP = "<|im_end|>"
# What a request may not replace: they are the request itself.
RESERVED = frozenset({"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"})
_PROBE = "a_probe_of_the_template"
_PROBE_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": _PROBE, "description": "A probe.", "parameters": {"type": "object", "properties": {}}},
}


@dataclass(frozen=True)
class Sources:
    """Jinja2 sources of a file: `tokenizer.chat_template` and `….tool_use`; empty where it has none."""

    default: str = ""
    tool_use: str = ""


class ChatTemplates:
    """Renders chats for one model; `tokens` are the variables bos_token and eos_token. ModelLoadFailed for a broken template."""

    def __init__(self, sources: Sources, tokens: Mapping[str, str], now: Callable[[], datetime] = datetime.now) -> None:
        self._default = _One(sources.default or CHATML, tokens, now)
        self._tool_use = _One(sources.tool_use, tokens, now) if sources.tool_use else self._default

    def choose(self, with_tools: bool) -> _One:
        """The template for a request with tools, or without."""
        return self._tool_use if with_tools else self._default

    def render(
        self,
        turns: Sequence[Turn],
        tools: Sequence[dict[str, Any]],
        kwargs: Mapping[str, Any],
        *,
        goes_on: bool = False,
    ) -> str:
        """The prompt, up to where the reply begins; with `goes_on` that is inside of the last turn, behind its text.

        UsageError if the template takes the turns in no form we know.
        """
        wrong = sorted(RESERVED & kwargs.keys())
        if wrong:
            raise UsageError(f"a chat template's {', '.join(wrong)} cannot be set by a request", code="template_kwargs")
        template = self.choose(bool(tools))
        if not goes_on:
            return template.render(list(turns), list(tools), kwargs)
        text = template.render(list(turns), list(tools), kwargs, generation_prompt=False)
        return _up_to(text, str(turns[-1]["content"]))


class _One:
    def __init__(self, source: str, tokens: Mapping[str, str], now: Callable[[], datetime]) -> None:
        self.source = source
        self._template, self._tokens = Template(source, now), dict(tokens)

    def render(
        self,
        turns: list[Turn],
        tools: list[dict[str, Any]],
        kwargs: Mapping[str, Any],
        *,
        generation_prompt: bool = True,
    ) -> str:
        """The first form of the turns that the template takes; else UsageError with its words on the turns as they are."""
        if (tools or rewrite.uses_tools(turns)) and not self.knows_tools:
            turns, tools = rewrite.spell_tools(turns, tools), []
        refusal: UsageError | None = None
        until = time.monotonic() + RENDER_LIMIT_S  # for all attempts together
        for form in rewrite.forms(turns):
            try:
                return self._once(form, tools, {**kwargs, "add_generation_prompt": generation_prompt})
            except UsageError as error:
                if error.code != "template":
                    raise
                refusal = refusal or error
                if time.monotonic() > until:
                    break
        assert refusal is not None
        raise refusal

    def _once(self, turns: list[Turn], tools: list[dict[str, Any]], kwargs: Mapping[str, Any]) -> str:
        if self.wants_parts:
            turns = rewrite.as_parts(turns)
        return self._raw(turns, tools, kwargs)

    def _raw(self, turns: list[Turn], tools: list[dict[str, Any]], kwargs: Mapping[str, Any]) -> str:
        fixed = {"messages": turns, "tools": tools or None, "documents": None, "add_generation_prompt": True}
        return self._template.render({**self._tokens, **fixed, **kwargs})

    @cached_property
    def knows_tools(self) -> bool:
        """Whether a tool given to it appears in the prompt."""
        return self._shows([{"role": "user", "content": "?"}], [_PROBE_TOOL])

    @cached_property
    def wants_parts(self) -> bool:
        """Whether a content that is a text is lost, and one that is a list of parts is not, as with some that see images."""
        turn = {"role": "user", "content": _PROBE}
        return not self._shows([turn], []) and self._shows(rewrite.as_parts([turn]), [])

    def _shows(self, turns: list[Turn], tools: list[dict[str, Any]]) -> bool:
        try:
            return _PROBE in self._raw(turns, tools, {})
        except UsageError:
            return False


def _up_to(rendered: str, said: str) -> str:
    """`rendered` without what the template writes behind the text of the last turn; many templates take its white space away."""
    at = rendered.rfind(body := said.strip())
    if not body or at < 0:
        raise UsageError("this model's chat template cannot go on with a turn of the assistant", code="goes_on")
    return rendered[: at + len(body)] + said[len(said.rstrip()) :]

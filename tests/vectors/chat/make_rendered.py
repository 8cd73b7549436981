"""Writes rendered.json: conversations, and what Transformers' apply_chat_template makes of them with each template here.

Run `python tests/vectors/chat/make_rendered.py` where transformers and jinja2 are installed. A template that refuses a
conversation has no text for it. One that shows nothing of the tools it is given is rendered without them only.
"""

from __future__ import annotations

import datetime
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

HERE = Path(__file__).parent
NOW = "2025-03-04T05:06:07"
BOS, EOS = "<bos>", "<eos>"


def _tool(name: str, description: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _call(ident: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}


def _said(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


CITY = {"type": "string", "description": 'A city, with <brackets> & "quotes" & é.'}
TOOLS = [
    _tool("get_weather", "Tells the weather.", {"city": CITY, "days": {"type": "integer"}}, ["city"]),
    _tool("current_time", "Tells the time.", {}, []),
]
ASKED = [_said("user", "What is the weather in Zürich?")]
CALLED = [*ASKED, _said("assistant", "", tool_calls=[_call("abcdef012", "get_weather", {"city": "Zürich", "days": 2})])]
ANSWERED = [*CALLED, _said("tool", '{"sky": "blue"}', name="get_weather", tool_call_id="abcdef012")]
TURNS = [
    _said("user", "  Who are you?\n"),
    _said("assistant", "A pirate, 'arr' \"arr\"."),
    _said("user", "Où est ton bateau? 🦙 {{ x }} {% y %}"),
]
THOUGHT = [
    _said("user", "1+1?"),
    _said("assistant", "2", reasoning_content="One and one."),
    _said("user", "And 2+2?"),
]
CONVERSATIONS: dict[str, dict[str, Any]] = {
    "one turn": {"messages": [_said("user", "Hello")]},
    "with a system turn": {"messages": [_said("system", "Be kind."), *TURNS]},
    "many turns": {"messages": TURNS},
    "with thoughts": {"messages": THOUGHT},
    "thinking": {"messages": THOUGHT[:1], "template_kwargs": {"enable_thinking": True, "thinking": True}},
    "not thinking": {"messages": THOUGHT[:1], "template_kwargs": {"enable_thinking": False, "thinking": False}},
    "with a date": {"messages": THOUGHT[:1], "template_kwargs": {"date_string": "01 Jan 2024"}},
    "tools": {"messages": [_said("system", "Be brief."), *ASKED], "tools": TOOLS},
    "tools, no system turn": {"messages": ASKED, "tools": TOOLS[1:]},
    "tool answered": {"messages": ANSWERED, "tools": TOOLS},
    "tool answered after a thought": {
        "messages": [ANSWERED[0], {**ANSWERED[1], "reasoning_content": "I have to ask."}, ANSWERED[2]],
        "tools": TOOLS,
    },
    "tool answered, next turn": {
        "messages": [*ANSWERED, _said("assistant", "Blue."), _said("user", "And tomorrow?")],
        "tools": TOOLS,
    },
}


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = Tokenizer(models.WordLevel({BOS: 0, EOS: 1}, unk_token=BOS))
    return PreTrainedTokenizerFast(tokenizer_object=vocabulary, bos_token=BOS, eos_token=EOS)


def _render(tokenizer: PreTrainedTokenizerFast, template: str, conversation: dict[str, Any]) -> str | None:
    try:
        text: str = tokenizer.apply_chat_template(
            conversation["messages"],
            tools=conversation.get("tools"),
            chat_template=template,
            tokenize=False,
            add_generation_prompt=True,
            **conversation.get("template_kwargs", {}),
        )
    except (jinja2.TemplateError, TypeError):
        return None
    return text if "tools" not in conversation or conversation["tools"][0]["function"]["description"] in text else None


class _Clock(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
        return datetime.datetime.fromisoformat(NOW)


def main() -> None:
    """Write rendered.json beside this file."""
    chat_template_utils.datetime = _Clock
    tokenizer = _tokenizer()
    rendered: dict[str, dict[str, str]] = {}
    for path in sorted((HERE / "templates").glob("*.jinja")):
        texts = {name: _render(tokenizer, path.read_text(), case) for name, case in CONVERSATIONS.items()}
        rendered[path.stem] = {name: text for name, text in texts.items() if text is not None}
    made_by = {name: version(name) for name in ("transformers", "jinja2", "tokenizers")}
    fixed = {"now": NOW, "bos_token": BOS, "eos_token": EOS}
    found = {"made_by": made_by, **fixed, "conversations": CONVERSATIONS, "rendered": rendered}
    (HERE / "rendered.json").write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()

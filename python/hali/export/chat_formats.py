"""Chat formats that models were trained with, recognised by the markers in a GGUF's Jinja template.

The formats are facts about the models: what stands before and after each kind of message. BOS is not among them, because the
tokenizer of whoever runs the model adds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

Around = tuple[str, str]  # what stands before and after a message


class ChatFormat(msgspec.Struct, frozen=True):
    """How a conversation becomes one text."""

    name: str
    system: Around
    user: Around
    assistant: Around
    stops: tuple[str, ...]
    generation: str | None = None  # before the answer to be made, where that is not what stands before a given one
    folded: bool = False  # the system message stands inside the first user message

    @property
    def opening(self) -> str:
        """What the model goes on from."""
        return self.assistant[0] if self.generation is None else self.generation


def recognise(jinja: str) -> ChatFormat | None:
    """The format that this template makes; None when it is none of those known here."""
    text = jinja.replace("\\n", "\n")  # an escape in a Jinja string and a line break in it are the same
    for markers, make in _FAMILIES:
        if all(marker in text for marker in markers):
            return make(text)
    return None


def default_system(jinja: str, known: ChatFormat) -> str | None:
    """The system message that the template says when nobody gives one, where it stands there in plain words."""
    before, after = (re.escape(part.rstrip()) for part in known.system)
    if known.folded or not (before and after):  # nothing tells where it would begin or end
        return None
    found = re.search(before + r"([^{}'\"<>\[\]]+)" + after, jinja.replace("\\n", "\n"))
    return found[1].strip() or None if found else None


def _chatml(text: str) -> ChatFormat:
    end = "<|im_end|>\n" if re.search(r"<\|im_end\|>(['\"]\s*\+\s*['\"])?\n", text) else "<|im_end|>"
    return _by_role("chatml", "<|im_start|>", "\n", end, ("<|im_start|>", "<|im_end|>"))


def _by_role(name: str, before: str, between: str, end: str, stops: tuple[str, ...]) -> ChatFormat:
    """Formats that put the plain name of the role between two markers."""
    system, user, assistant = ((f"{before}{role}{between}", end) for role in ("system", "user", "assistant"))
    return ChatFormat(name, system, user, assistant, stops)


def _gemma(text: str) -> ChatFormat:
    user, model = (f"<start_of_turn>{role}\n" for role in ("user", "model"))
    end = "<end_of_turn>\n"
    return ChatFormat(
        "gemma", ("", "\n\n"), (user, end), (model, end), ("<start_of_turn>", "<end_of_turn>"), folded=True
    )


def _mistral(text: str) -> ChatFormat:
    """Mistral's versions differ in spaces only, and which ones the template itself shows."""
    before = "[INST] " if "[INST] " in text else "[INST]"
    after = " [/INST]" if " [/INST]" in text else "[/INST]"
    lead = " " if re.search(r"(\[/INST\] |['\"] ['\"]\s*\+\s*message)", text) else ""
    end = "</s> " if re.search(r"eos_token\s*\+\s*['\"] ", text) else "</s>"
    stops = ("[INST]", "[/INST]")
    if "[SYSTEM_PROMPT]" in text:
        pad = " " if "[SYSTEM_PROMPT] " in text else ""
        system = (f"[SYSTEM_PROMPT]{pad}", "[/SYSTEM_PROMPT]")
        return ChatFormat("mistral-v7", system, (before, after), (lead, end), stops, generation="")
    return ChatFormat("mistral", ("", "\n\n"), (before, after), (lead, end), stops, generation="", folded=True)


def _llama2(text: str) -> ChatFormat:
    system = ("<<SYS>>\n", "\n<</SYS>>\n\n")
    stops = ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")
    return ChatFormat("llama2", system, ("[INST] ", " [/INST]"), (" ", " </s><s>"), stops, generation="", folded=True)


def _phi3(text: str) -> ChatFormat:
    line = "\n" if re.search(r"<\|user\|>(['\"]\s*\+\s*['\"])?\n", text) else ""
    end = f"<|end|>{line}"
    return _bars("phi3", line, end, ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>"))


def _zephyr(text: str) -> ChatFormat:
    return _bars("zephyr", "\n", "</s>\n", ("<|system|>", "<|user|>", "<|assistant|>", "</s>"))


def _bars(name: str, line: str, end: str, stops: tuple[str, ...]) -> ChatFormat:
    system, user, assistant = ((f"<|{role}|>{line}", end) for role in ("system", "user", "assistant"))
    return ChatFormat(name, system, user, assistant, stops)


def _command_r(text: str) -> ChatFormat:
    end = "<|END_OF_TURN_TOKEN|>"
    system, user, bot = ((f"<|START_OF_TURN_TOKEN|><|{role}_TOKEN|>", end) for role in ("SYSTEM", "USER", "CHATBOT"))
    return ChatFormat("command-r", system, user, bot, ("<|START_OF_TURN_TOKEN|>", end))


def _deepseek(text: str) -> ChatFormat:
    end = "<｜end▁of▁sentence｜>"
    return ChatFormat("deepseek", ("", ""), ("<｜User｜>", ""), ("<｜Assistant｜>", end), ("<｜User｜>", end))


_Make = Callable[[str], ChatFormat]
# Tried in order: a family whose markers another one has too comes first.
_FAMILIES: tuple[tuple[tuple[str, ...], _Make], ...] = (
    (
        ("<|im_start|>", "<|im_sep|>"),
        lambda _: _by_role("phi4", "<|im_start|>", "<|im_sep|>", "<|im_end|>", ("<|im_end|>",)),
    ),
    (("<|im_start|>", "<|im_end|>"), _chatml),
    (
        ("<|start_header_id|>", "<|eot_id|>"),
        lambda _: _by_role(
            "llama3",
            "<|start_header_id|>",
            "<|end_header_id|>\n\n",
            "<|eot_id|>",
            ("<|eot_id|>", "<|start_header_id|>"),
        ),
    ),
    (
        ("<|header_start|>", "<|eot|>"),
        lambda _: _by_role(
            "llama4", "<|header_start|>", "<|header_end|>\n\n", "<|eot|>", ("<|eot|>", "<|header_start|>")
        ),
    ),
    (
        ("<|start_of_role|>", "<|end_of_text|>"),
        lambda _: _by_role(
            "granite",
            "<|start_of_role|>",
            "<|end_of_role|>",
            "<|end_of_text|>\n",
            ("<|start_of_role|>", "<|end_of_text|>"),
        ),
    ),
    (("<start_of_turn>", "<end_of_turn>"), _gemma),
    (("[INST]", "<<SYS>>"), _llama2),
    (("[INST]", "[/INST]"), _mistral),
    (("<|user|>", "<|assistant|>", "<|end|>"), _phi3),
    (("<|user|>", "<|assistant|>", "eos_token"), _zephyr),
    (("<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>"), _command_r),
    (("<｜User｜>", "<｜Assistant｜>"), _deepseek),
)

"""Chat formats: each is recognised, and Go's text/template makes of ours what Jinja makes of the model's own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest
from llama_cpp import llama_chat_format as formats

from hali.export.chat_formats import default_system, recognise
from hali.export.go_template import go_template
from hali.wire.gguf import read_header_file
from tests.conftest import ROOT

SYSTEM = {"role": "system", "content": "Be brief."}
TALK = [
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Because."},
    {"role": "user", "content": "But {{ why }}?"},
]


def by_role(before: str, between: str, end: str, opening: str) -> str:
    """A template as models have them, for formats that put the role's name between markers."""
    return (
        "{% for message in messages %}{{ '" + before + "' + message['role'] + '" + between + "' + message['content'] + '"
        + end + "' }}{% endfor %}{% if add_generation_prompt %}{{ '" + opening + "' }}{% endif %}"
    )  # fmt: skip


def _folded(user: str, assistant: str, system: str, opening: str = "") -> str:
    """A template that puts the system message into the first user message."""
    return (
        "{% if messages[0]['role'] == 'system' %}{% set told = " + system + " %}{% set rest = messages[1:] %}"
        "{% else %}{% set told = '' %}{% set rest = messages %}{% endif %}"
        "{% for message in rest %}{% set content = (told if loop.first else '') + message['content'] %}"
        "{% if message['role'] == 'user' %}{{ " + user + " }}{% else %}{{ " + assistant + " }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '" + opening + "' }}{% endif %}"
    )


TOLD = "messages[0]['content'] + '\\n\\n'"
TEMPLATES = {
    "chatml": formats.CHATML_CHAT_TEMPLATE,
    "llama3": formats.LLAMA3_INSTRUCT_CHAT_TEMPLATE,
    "mistral": formats.MISTRAL_INSTRUCT_CHAT_TEMPLATE,
    "mixtral": formats.MIXTRAL_INSTRUCT_CHAT_TEMPLATE,
    "mistral-v3": _folded("'[INST] ' + content + '[/INST]'", "' ' + message['content'] + eos_token", TOLD),
    "mistral-v7": (
        "{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST]' + message['content'] + '[/INST]' }}"
        "{% elif message['role'] == 'system' %}{{ '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}"
        "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
    ),
    "llama2": _folded(
        "'[INST] ' + content + ' [/INST]'",
        "' ' + content + ' ' + eos_token + bos_token",
        "'<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n'",
    ),
    "gemma": _folded(
        "'<start_of_turn>user\\n' + content + '<end_of_turn>\\n'",
        "'<start_of_turn>model\\n' + content + '<end_of_turn>\\n'",
        TOLD,
        "<start_of_turn>model\\n",
    ),
    "phi3": by_role("<|", "|>\\n", "<|end|>\\n", "<|assistant|>\\n") + "{# <|user|>\\n #}",
    "phi4-mini": by_role("<|", "|>", "<|end|>", "<|assistant|>") + "{# <|user|> #}",
    "phi4": by_role("<|im_start|>", "<|im_sep|>", "<|im_end|>", "<|im_start|>assistant<|im_sep|>"),
    "zephyr": by_role("<|", "|>\\n", "' + eos_token + '\\n", "<|assistant|>\\n") + "{# <|user|> #}",
    "llama4": by_role(
        "<|header_start|>", "<|header_end|>\\n\\n", "<|eot|>", "<|header_start|>assistant<|header_end|>\\n\\n"
    ),
    "granite": by_role(
        "<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>\\n", "<|start_of_role|>assistant<|end_of_role|>"
    ),
    "command-r": (
        "{% set names = {'system': 'SYSTEM', 'user': 'USER', 'assistant': 'CHATBOT'} %}{% for message in messages %}"
        "{{ '<|START_OF_TURN_TOKEN|><|' + names[message['role']] + '_TOKEN|>' + message['content'] + '<|END_OF_TURN_TOKEN|>' }}"
        "{% endfor %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}"
    ),
    "deepseek": (
        "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}"
        "{% elif message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}"
        "{% else %}{{ '<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
        "{{ '<｜Assistant｜>' }}"
    ),
}
NO_SYSTEM = {"mistral", "mixtral"}  # these templates refuse a system message


def by_jinja(template: str, messages: list[dict[str, str]]) -> str:
    """What the model's own template makes; without the BOS that the tokenizer adds."""
    rendered = jinja2.Environment().from_string(template).render(
        messages=messages, bos_token="<s>", eos_token="</s>", add_generation_prompt=True, raise_exception=pytest.fail
    )  # fmt: skip
    return rendered.removeprefix("<s>")


def by_go(requests: list[tuple[str, list[dict[str, str]]]]) -> list[str]:
    """What Ollama would make of these Go templates."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed: nothing here can render a Go template as Ollama does")
    asked = json.dumps([{"Template": template, "Messages": messages} for template, messages in requests])
    program = ROOT / "tests" / "fakes" / "ollama_render.go"
    done = subprocess.run([go, "run", program], input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rendered: list[str] = json.loads(done.stdout)
    return rendered


def test_ollama_renders_our_templates_as_jinja_renders_the_models_own(smollm2: Path) -> None:
    real = read_header_file(smollm2).chat_template
    assert real is not None
    cases = []
    for name, jinja in {**TEMPLATES, "smollm2": real}.items():
        known = recognise(jinja)
        assert known is not None, name
        talks = [[SYSTEM, *TALK]] if name == "smollm2" else [TALK[:1], TALK]
        talks += [] if name in NO_SYSTEM else [[SYSTEM, *TALK[:1]], [SYSTEM, *TALK]]
        cases += [(name, go_template(known), talk, by_jinja(jinja, talk)) for talk in talks]
    rendered = by_go([(template, talk) for _, template, talk, _ in cases])
    for (name, _, talk, expected), made in zip(cases, rendered, strict=True):
        assert made == expected, (name, len(talk))


def test_an_answer_that_was_begun_stays_open() -> None:
    known = recognise(TEMPLATES["chatml"])
    assert known is not None
    (made,) = by_go([(go_template(known), [TALK[0], {"role": "assistant", "content": "Bec"}])])
    assert made.endswith("<|im_start|>assistant\nBec")


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_family_is_told_from_the_others_and_stops_at_a_marker_of_its_own(name: str) -> None:
    known = recognise(TEMPLATES[name])
    assert known is not None
    aliases = {"mixtral": "mistral", "mistral-v3": "mistral", "phi4-mini": "phi3"}
    assert known.name == aliases.get(name, name)
    assert known.stops and all(stop.strip() for stop in known.stops)


@pytest.mark.parametrize("jinja", ["", "{{ messages }}", "{{ '### Instruction:' }}", "{{ '<|channel|>final' }}"])
def test_a_template_of_no_known_family_is_not_guessed_at(jinja: str) -> None:
    assert recognise(jinja) is None


def test_the_systems_own_words_are_found_only_where_they_stand_plainly(smollm2: Path) -> None:
    real = read_header_file(smollm2).chat_template
    assert real is not None
    known = recognise(real)
    assert known is not None
    assert default_system(real, known) == "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
    assert default_system(TEMPLATES["chatml"], known) is None
    escaped = "{{ '<|im_start|>system\\nYou are Q.<|im_end|>\\n' }}"
    assert default_system(escaped, known) == "You are Q."
    gemma = recognise(TEMPLATES["gemma"])
    assert gemma is not None and default_system(TEMPLATES["gemma"], gemma) is None

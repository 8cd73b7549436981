"""Prompts equal those of Transformers (tests/vectors/chat/README.md), and what is done for templates that refuse."""

from __future__ import annotations

import functools
import json
import resource
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2")

from hali.engine import sandbox, tool_formats
from hali.engine.harmony import SIGN
from hali.engine.output import Dialect
from hali.engine.templates import ChatTemplates, Sources
from hali.engine.turns import as_schema, as_turn
from hali.model.errors import ModelLoadFailed, UsageError
from hali.model.generation import Message, Tool, ToolCall, ToolCalled

VECTORS = Path(__file__).parents[2] / "vectors" / "chat"
FOUND: dict[str, Any] = json.loads((VECTORS / "rendered.json").read_text())
TOKENS = {"bos_token": FOUND["bos_token"], "eos_token": FOUND["eos_token"]}
CASES = [(template, name) for template, texts in FOUND["rendered"].items() for name in texts]
MEMORY_LIMIT = resource.getrlimit(resource.RLIMIT_AS)
TOOL = Tool("get_weather", "Tells the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
CALLS = tuple(ToolCall(f"call_0_{city}", TOOL.name, json.dumps({"city": city})) for city in ("Bern", "Oslo"))
ASKED = [
    Message("system", "Be brief."),
    Message("user", "Weather?"),
    Message("assistant", "", tool_calls=CALLS),
    Message("tool", "rain", tool_call_id="call_0_Bern"),
    Message("tool", "snow", tool_call_id="call_0_Oslo"),
]


def source(name: str) -> str:
    return (VECTORS / "templates" / f"{name}.jinja").read_text()


@functools.cache
def templates(default: str, tool_use: str = "") -> ChatTemplates:
    return ChatTemplates(Sources(default, tool_use), TOKENS, lambda: datetime.fromisoformat(FOUND["now"]))


def render(default: str, messages: list[Message], tools: list[Tool] | None = None, tool_use: str = "") -> str:
    schemas = [as_schema(tool) for tool in tools or []]
    return templates(default, tool_use).render([as_turn(message) for message in messages], schemas, {})


def message(turn: dict[str, Any]) -> Message:
    """A message of ours from Transformers' shape."""
    calls = tuple(
        ToolCall(call["id"], call["function"]["name"], json.dumps(call["function"]["arguments"]))
        for call in turn.get("tool_calls", ())
    )
    return Message(
        turn["role"],
        turn["content"],
        name=turn.get("name"),
        tool_calls=calls,
        tool_call_id=turn.get("tool_call_id"),
        reasoning=turn.get("reasoning_content"),
    )


@pytest.mark.parametrize(("template", "name"), CASES)
def test_a_prompt_is_what_transformers_makes_of_it(template: str, name: str) -> None:
    case = FOUND["conversations"][name]
    tools = [as_schema(Tool(**tool["function"])) for tool in case.get("tools", ())]
    turns = [as_turn(message(turn)) for turn in case["messages"]]
    text = templates(source(template)).render(turns, tools, case.get("template_kwargs", {}))
    assert text == FOUND["rendered"][template][name]


def test_the_vectors_are_of_ten_families_and_more() -> None:
    assert len(FOUND["rendered"]) >= 20
    assert {path.stem for path in (VECTORS / "templates").glob("*.jinja")} == set(FOUND["rendered"])


def test_a_request_with_tools_gets_the_template_that_is_made_for_them() -> None:
    assert render("plain", ASKED[:2], [TOOL], "{% for t in tools %}{{ t.function.name }}{% endfor %}") == TOOL.name
    assert render("plain", ASKED[:2], [], "{% for t in tools %}{{ t.function.name }}{% endfor %}") == "plain"


def test_a_template_that_knows_no_tools_gets_them_in_the_system_turn() -> None:
    text = render(source("chatml"), ASKED, [TOOL])
    system, _, rest = text.partition("<|im_end|>\n")
    assert system.startswith("<|im_start|>system\nBe brief.\n\n")
    assert json.dumps(as_schema(TOOL)) in system and "<tool_call>" in system
    assert rest == (
        "<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\n"
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nrain\n</tool_response>\n<tool_response>\nsnow\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_template_that_refuses_system_turns_gets_them_in_the_first_user_turn() -> None:
    text = render(source("google-gemma-2-2b-it"), [Message("system", "Be kind."), Message("user", "Hi")])
    assert text == "<bos><start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n<start_of_turn>model\n"


def test_a_template_that_refuses_system_turns_and_knows_no_tools_gets_both_in_the_first_user_turn() -> None:
    text = render(source("google-gemma-2-2b-it"), ASKED, [TOOL])
    assert text.startswith("<bos><start_of_turn>user\nBe brief.\n\nYou can call")
    assert text.count("<start_of_turn>user") == 2 and "snow\n</tool_response><end_of_turn>" in text


def test_ids_of_calls_are_shortened_for_templates_that_refuse_long_ones() -> None:
    text = render(source("mistralai-Mistral-Nemo-Instruct-2407"), ASKED, [TOOL])
    calls = json.loads(text.partition("[TOOL_CALLS]")[2].partition(TOKENS["eos_token"])[0])
    results = [json.loads(part.partition("[/TOOL")[0].replace("rain", '""').replace("snow", '""'))
               for part in text.split("[TOOL_RESULTS]")[1:]]  # fmt: skip
    assert [call["id"] for call in calls] == [result["call_id"] for result in results]
    assert len({call["id"] for call in calls}) == 2 and all(len(call["id"]) == 9 for call in calls)


def test_parallel_calls_are_told_one_after_the_other_to_templates_that_refuse_them() -> None:
    text = render(source("meta-llama-Llama-3.1-8B-Instruct"), ASKED, [TOOL])
    order = [text.index(part) for part in ('{"city": "Bern"}', "rain", '{"city": "Oslo"}', "snow")]
    assert order == sorted(order)


def test_arguments_are_text_for_templates_that_concatenate_them() -> None:
    tools = "{% for t in tools %}{{ t.function.name }}{% endfor %}"
    calls = "{% for c in m.tool_calls or [] %}{{ '|' + c.function.arguments }}{% endfor %}"
    template = f"{tools}{{% for m in messages %}}{calls}{{% endfor %}}"
    assert render(template, ASKED, [TOOL]) == 'get_weather|{"city": "Bern"}|{"city": "Oslo"}'


def test_calls_are_text_for_templates_that_know_tools_and_refuse_their_turns() -> None:
    tools = "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"
    refuse = "{% if m.role == 'tool' or m.tool_calls %}{{ raise_exception('no tools') }}{% endif %}"
    template = f"{tools}{{% for m in messages %}}{refuse}|{{{{ m.content }}}}{{% endfor %}}"
    text = render(template, ASKED, [TOOL])
    assert text.startswith("get_weather|Be brief.|Weather?|<tool_call>") and text.endswith("</tool_response>")
    assert "You can call" not in text


def test_contents_are_parts_for_templates_that_see_nothing_else() -> None:
    parts = "{% for m in messages %}{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }};{% endif %}{% endfor %}{% endfor %}"
    assert render(parts, ASKED[:2]) == "Be brief.;Weather?;"
    assert render("{% for m in messages %}{{ m.content }}{% endfor %}", ASKED[:2]) == "Be brief.Weather?"


@pytest.mark.parametrize("name", sorted(path.stem for path in (VECTORS / "templates").iterdir()))
def test_a_turn_of_the_assistant_goes_on_where_its_text_ends(name: str) -> None:
    begun = [Message("user", "A list, please."), Message("assistant", 'Here it is:\n["')]
    tools = [as_schema(TOOL)] if name.endswith("tool_use") else []  # these want some
    rendered = templates(source(name)).render([as_turn(turn) for turn in begun], tools, {}, goes_on=True)
    assert rendered.endswith('Here it is:\n["') and "A list, please." in rendered
    spaced = [as_turn(begun[0]), as_turn(Message("assistant", "So: "))]
    assert templates(source(name)).render(spaced, tools, {}, goes_on=True).endswith("So: ")


def test_a_turn_that_the_template_does_not_show_cannot_go_on() -> None:
    with pytest.raises(UsageError, match="cannot go on"):
        templates("{{ messages[0].content }}").render(
            [as_turn(Message("user", "a")), as_turn(Message("assistant", "b"))], [], {}, goes_on=True
        )


def test_a_developer_is_a_system() -> None:
    assert render("{% for m in messages %}{{ m.role }}{% endfor %}", [Message("developer", "Be kind.")]) == "system"


def test_a_template_that_refuses_everything_is_heard_with_its_first_words() -> None:
    with pytest.raises(UsageError, match="never 2") as caught:
        render("{{ raise_exception('never ' ~ messages|length) }}", ASKED[:2])
    assert caught.value.code == "template"


@pytest.mark.parametrize("name", ["messages", "tools", "add_generation_prompt", "bos_token"])
def test_a_request_cannot_replace_what_the_request_itself_is(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        templates("x").render([], [], {name: []})
    assert caught.value.code == "template_kwargs"


def test_generation_marks_are_a_scope_and_nothing_else() -> None:
    assert render("{% generation %}a{% set x = 1 %}{% endgeneration %}{{ x is defined }}", ASKED) == "aFalse"


TOO_MUCH = {
    "a sequence of 1000000000": ["{{ 'a' * 10**9 }}", "{{ 10**9 * [0] }}"],
    "an integer of": [
        "{{ 9**(9**9) }}",
        "{% set n = namespace(x=9) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    ],
    "Range too big": ["{% for i in range(10**9) %}{% endfor %}", "{{ range(10**9)|list }}"],
    "1000000000 digits": ["{{ 1|round(10**9, 'ceil') }}"],
    "MemoryError": [
        "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
        "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set n = namespace(s='a') %}{% for i in range(60) %}{% set n.s %}{{ n.s }}{{ n.s }}{% endset %}{% endfor %}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%1000000000d'|format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'a'.ljust(10**9) }}",
        "{{ 'a'|center(10**9) }}",
        "{{ messages|tojson(indent=10**9) }}",
    ],
    "more than 16777216 characters": ["{% for i in range(99999) %}{{ messages[0].content * 1000 }}{% endfor %}"],
    "more than 1 s": ["{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"],
    "recursion": ["{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}"],
}


@pytest.mark.parametrize(("why", "attack"), [(why, attack) for why, attacks in TOO_MUCH.items() for attack in attacks])
def test_a_template_that_takes_too_much_is_refused(why: str, attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if why != "more than 1 s":  # a busy machine may take that long to fill the memory
        monkeypatch.setattr(sandbox, "RENDER_LIMIT_S", 60.0)
        monkeypatch.setattr("hali.engine.templates.RENDER_LIMIT_S", 60.0)
    with pytest.raises((UsageError, ModelLoadFailed), match=why):
        render(attack, ASKED)
    assert resource.getrlimit(resource.RLIMIT_AS) == MEMORY_LIMIT


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ (''|attr('__class__')).__mro__ }}",
        "{{ ''['__class__'].mro() }}",
        "{{ '{0.__class__.__mro__}'.format('') }}",
        "{{ '{0.__class__}'.format_map({'0': ''}) }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{{ ([messages]|map(attribute='__class__')|first).__mro__ }}",
        "{{ raise_exception.__globals__.os }}",
        "{{ namespace(__class__=1) }}",
        "{{ strftime_now.__globals__.os }}",
        "{{ dict.__subclasses__() }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.system('true') }}",
    ],
)
def test_a_template_that_reaches_for_the_machine_is_refused(attack: str) -> None:
    with pytest.raises(UsageError):
        render(attack, ASKED)


# Granite 3.3's shows no calls of former turns; V3.2's prompt ends otherwise than its calls begin.
MUTE = {"ibm-granite-granite-3.3-2B-Instruct", "deepseek-ai-DeepSeek-V3.2"}
SPELL = sorted({template for template, name in CASES if name == "tools"} - MUTE)


@pytest.mark.parametrize("name", SPELL)
def test_the_call_that_a_template_writes_is_read_as_that_call(name: str) -> None:
    text = source(name)
    asked = FOUND["conversations"]["tool answered"]
    schemas = [as_schema(Tool(**tool["function"])) for tool in asked["tools"]]
    turns = [as_turn(message(turn)) for turn in asked["messages"]]
    before, after = (templates(text).render(turns[:count], schemas, {}) for count in (1, 3))
    reply = after[next(at for at, letter in enumerate(after) if before[at : at + 1] != letter) :]
    schemas_by_name = {"get_weather": TOOL.parameters}
    dialect = Dialect(calls=tool_formats.recognise(text), schemas=schemas_by_name, harmony=SIGN in text)
    reader = dialect.reader()
    assert reader is not None
    calls = [event.call for event in reader.read(reply, 1, last=True) if isinstance(event, ToolCalled)]
    assert [call.name for call in calls] == ["get_weather"]
    assert json.loads(calls[0].arguments) == {"city": "Zürich", "days": 2}

"""Calls of tools in replies, as each family of models spells them; how a reply is cut makes no difference."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hali.engine.call_reader import CallReader
from hali.engine.tool_bodies import Call
from hali.engine.tool_formats import FORCED, GENERIC, Format, recognise

SCHEMAS = {
    "f": {
        "type": "object",
        "properties": {"a": {"type": "string"}, "n": {"type": "integer"}, "o": {"type": ["string", "null"]}},
    },
    "g": {},
}
MISTRAL, LLAMA, DEEPSEEK = (
    recognise(sign) for sign in ("[TOOL_CALLS]", "<|start_header_id|>ipython", "<｜tool▁call▁begin｜>")
)
COMMAND, GRANITE, FUNCTIONARY, SEED, MINIMAX, DSML, LFM, KIMI, SOLAR, CPM, APRIEL, NEMOTRON = map(
    recognise,
    (
        *("<|START_ACTION|>", "<|tool_call|>", "<function=", "<seed:tool_call>", "<minimax:tool_call>", "｜DSML｜"),
        *("List of tools: ", "<|tool_call_begin|>", "<|tool_call:begin|>", '<function name="', "<tool_calls>"),
        "<TOOLCALL>",
    ),
)
F, G = Call("f", '{"a": "x"}'), Call("g", "{}")
JSON_F, JSON_G = '{"name": "f", "arguments": {"a": "x"}}', '{"name": "g", "parameters": {}}'


def merged(parts: list[str | Call]) -> list[str | Call]:
    """Neighbouring texts as one."""
    found: list[str | Call] = []
    for part in parts:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    return found


def read(form: Format, *pieces: str) -> list[str | Call]:
    reader = CallReader(form, SCHEMAS)
    return merged([part for piece in pieces for part in reader.push(piece)] + reader.finish())


CASES: list[tuple[Format, str, list[str | Call]]] = [
    # Hermes, Qwen 2.5 and 3
    (GENERIC, f"<tool_call>\n{JSON_F}\n</tool_call>", [F]),
    (GENERIC, f"Well.\n\n<tool_call>{JSON_F}</tool_call>\n<tool_call>{JSON_G}</tool_call>\n", ["Well.", F, G]),
    (GENERIC, f"<tool_call>[{JSON_F}, {JSON_G}]</tool_call>", [F, G]),
    (GENERIC, f"<tool_call>{JSON_F} and more", [F, " and more"]),
    (GENERIC, f"<tool_call>{JSON_F}", [F]),
    (GENERIC, "<tool_call>{\"name\": \"f\", \"arguments\": '</tool_call>", None),
    (GENERIC, '<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}}</tool_call>', [Call("f", '{"a": "</tool_call>"}')]),
    (GENERIC, '<tool_call>{"name": "h", "arguments": "{\\"b\\": 1}"}</tool_call>', [Call("h", '{"b": 1}')]),
    (GENERIC, '<tool_call>{"name": "f", "arguments": {"a": "x\ny"}}</tool_call>', [Call("f", '{"a": "x\\ny"}')]),
    (GENERIC, '<tool_call>{"name": "f", "arguments": {"a": "\\ud800"}}</tool_call>', [Call("f", '{"a": "\\ud800"}')]),
    (GENERIC, '<tool_call>{"name": "\\ud800", "arguments": {}}</tool_call>', None),
    (GENERIC, '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>', None),
    (GENERIC, '<tool_call>{"name": "f", "arguments": 1}</tool_call>', None),
    (GENERIC, '<tool_call>{"name": "f", "arguments": ' + '{"a":' * 9999 + "1" + "}" * 9999 + "}</tool_call>", None),
    (GENERIC, "<tool_call>" + "[" * 9999 + "]" * 9999 + "</tool_call>", None),
    (GENERIC, f"<tool_call>[{JSON_F}, 1]</tool_call>", None),
    (GENERIC, '<tool_call>{"name": "f", "arguments": {"a": 1e999}}</tool_call>', None),
    (GENERIC, "say <tool_call> to call", None),
    (GENERIC, "a < b, <tool_ca", None),
    (GENERIC, "  \n", None),
    (GENERIC, "", []),
    # Qwen3-Coder, GLM 4
    (GENERIC, "<tool_call>\n<function=f>\n<parameter=a>\n1\n2\n</parameter>\n"
     "<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>", [Call("f", '{"a": "1\\n2", "n": 3}')]),
    (GENERIC, "<tool_call><function=g></function></tool_call>", [G]),
    (GENERIC, "<tool_call><function=f><parameter=o>7</parameter></function></tool_call>", [Call("f", '{"o": "7"}')]),
    (GENERIC, "<tool_call><function=f><parameter=o>null</parameter></function></tool_call>", [Call("f", '{"o": null}')]),
    (GENERIC, '<tool_call>{"name": "g"}</tool_call>', [G]),
    (GENERIC, '<tool_call>{"name": "g", "arguments": null}</tool_call>', [G]),
    (GENERIC, "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>7</arg_value>\n"
     "<arg_key>n</arg_key>\n<arg_value>7</arg_value>\n</tool_call>", [Call("f", '{"a": "7", "n": 7}')]),
    # JSON without marks
    (GENERIC, JSON_F, [F]),
    (GENERIC, f"\n```json\n{JSON_F}\n```\n", [F]),
    (GENERIC, f"[{JSON_F}, {JSON_G}]", [F, G]),
    (GENERIC, f"Like {JSON_F}", None),
    (GENERIC, '{"name": "unknown", "arguments": {}}', None),
    (GENERIC, '{"name": "f"}', None),
    (GENERIC, "{ no JSON", None),
    (GENERIC, "```json\n[1]\n```", None),
    (FORCED, JSON_G, [G]),
    # Mistral
    (MISTRAL, f'[TOOL_CALLS][{JSON_F}, {{"name": "g", "arguments": {{}}, "id": "123456789"}}]', [F, G]),
    (MISTRAL, 'Hm. [TOOL_CALLS]f{"a": "x"}[TOOL_CALLS]g{}', ["Hm.", F, G]),
    (MISTRAL, '[TOOL_CALLS]f[CALL_ID]123456789[ARGS]{"a": "x"}', [F]),
    (MISTRAL, '[TOOL_CALLS]f[ARGS]{"a": "x"}', [F]),
    (MISTRAL, "[TOOL_CALLS] are marks of Mistral's", None),
    (MISTRAL, "[1] is a footnote", None),
    # Llama 3
    (LLAMA, '{"name": "f", "parameters": {"a": "x"}}', [F]),
    (LLAMA, f"<|python_tag|>{JSON_F}; {JSON_G}", [F, G]),
    (LLAMA, f'{{"type": "function", "function": {JSON_F}}}', [F]),
    (LLAMA, "<|python_tag|>print(1)", None),
    (LLAMA, "a; b;", None),
    # DeepSeek R1, V3 and V3.1
    (DEEPSEEK, '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{"a": "x"}\n```<｜tool▁call▁end｜>\n'
     '<｜tool▁call▁begin｜>function<｜tool▁sep｜>g\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>', [F, G]),
    (DEEPSEEK, 'Hm.<｜tool▁calls▁begin｜>'
     '<｜tool▁call▁begin｜>f<｜tool▁sep｜>{"a": "x"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>', ["Hm.", F]),
    # Command R7B, Granite 3 and Phi-4-mini, Functionary 3.1, Firefunction
    (COMMAND, '<|START_ACTION|>[\n {"tool_call_id": "0", "tool_name": "f", "parameters": {"a": "x"}}\n]<|END_ACTION|>', [F]),
    (GRANITE, f"<|tool_call|>[{JSON_F}, {JSON_G}]", [F, G]),
    (GRANITE, f"<|tool_call|>[{JSON_F}]<|/tool_call|>", [F]),
    (FUNCTIONARY, '<function=f>{"a": "x"}</function>\n<function=g>{}</function>', [F, G]),
    (FUNCTIONARY, "<function=f>x</function>", None),
    # Seed-OSS, MiniMax M2, DeepSeek V3.2, MiniCPM5
    (SEED, "<seed:tool_call>\n<function=f>\n<parameter=a>x</parameter>\n</function>\n</seed:tool_call>", [F]),
    (MINIMAX, '<minimax:tool_call>\n<invoke name="f">\n<parameter name="a">x</parameter>\n</invoke>\n'
     '<invoke name="g">\n</invoke>\n</minimax:tool_call>', [F, G]),
    (DSML, 'Hm.\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name="f">\n'
     '<｜DSML｜parameter name="a" string="true">x</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>', ["Hm.", F]),
    (CPM, '<function name="f"><param name="a">x</param></function>', [F]),
    # LFM2
    (LFM, "<|tool_call_start|>[f(a='x'), g()]<|tool_call_end|>Well.", [F, G, "Well."]),
    (LFM, "<|tool_call_start|>[f(a='x')]", [F]),
    (LFM, f"<|tool_call_start|>[{JSON_F}]<|tool_call_end|>", [F]),
    (LFM, "<|tool_call_start|>[f(1), f(a=b), f(**c)]<|tool_call_end|>", None),
    (LFM, "<|tool_call_start|>[f(a=1e999)]<|tool_call_end|>", None),
    (LFM, "<|tool_call_start|>[f(a={1})]<|tool_call_end|>", None),
    (LFM, "<|tool_call_start|>" + "(" * 999 + "<|tool_call_end|>", None),
    # Kimi K2, Solar Open, Apriel and MiniMax M1, Nemotron Nano 2
    (KIMI, '<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{"a": "x"}<|tool_call_end|>'
     "<|tool_call_begin|>functions.g:1<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>", [F, G]),
    (SOLAR, '<|tool_calls|><|tool_call:begin|>i1<|tool_call:name|>f<|tool_call:args|>{"a": "x"}<|tool_call:end|><|calls|>', [F]),
    (APRIEL, f"<tool_calls>[{JSON_F}, {JSON_G}]</tool_calls>", [F, G]),
    (APRIEL, f"<tool_calls>\n{JSON_F}\n{JSON_G}\n</tool_calls>", [F, G]),
    (NEMOTRON, f"<TOOLCALL>[{JSON_F}]</TOOLCALL>", [F]),
]  # fmt: skip


@pytest.mark.parametrize(("form", "reply", "expected"), CASES)
def test_calls_are_told_from_text(form: Format, reply: str, expected: list[str | Call] | None) -> None:
    wanted = [reply] if expected is None else expected  # None: no call in it, and not a letter of it is lost
    assert read(form, reply) == wanted
    assert read(form, *reply) == wanted


SNIPPETS = [
    *("<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<function=f>", "</function>", "```json", "```"),
    *(
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>f<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "<parameter=a>",
        "</parameter>",
    ),
    *("<|tool_call_start|>", "f(a='x')", "<|tool_call_end|>", '<invoke name="f">', "</invoke>", "<minimax:tool_call>"),
    *(JSON_F, JSON_G, "{", "}", "[", "]", '"', "\\", "f", ";", " ", "\n", "words and words", "{}", "<", "[TOOL", "é🦙"),
]
FORMS = st.sampled_from(list({id(form): form for form, _, _ in CASES}.values()))
REPLIES = st.lists(st.sampled_from(SNIPPETS), max_size=12).map("".join)


@settings(max_examples=500)
@given(FORMS, REPLIES, st.data())
def test_how_a_reply_is_cut_makes_no_difference(form: Format, reply: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(reply)), max_size=8)))
    pieces = [reply[start:end] for start, end in pairwise([0, *cuts, len(reply)])]
    assert read(form, *pieces) == read(form, reply)


@given(FORMS, REPLIES)
def test_a_reply_without_calls_loses_nothing_and_with_calls_nothing_is_added(form: Format, reply: str) -> None:
    parts = read(form, reply)
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) == len(parts):
        assert "".join(texts) == reply
    at = 0
    for text in texts:  # in their order, none overlapping
        at = reply.index(text, at) + len(text)


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.integers() | st.text(), st.lists), max_size=3), st.data())
def test_any_arguments_come_through(arguments: dict[str, object], data: st.DataObject) -> None:
    form, begin, end = data.draw(
        st.sampled_from([(GENERIC, "<tool_call>", "</tool_call>"), (MISTRAL, "[TOOL_CALLS][", "]"), (FORCED, "", "")])
    )
    whole = begin + json.dumps({"name": "f", "arguments": arguments}, ensure_ascii=data.draw(st.booleans())) + end
    (call,) = read(form, *whole)
    assert isinstance(call, Call) and json.loads(call.arguments) == arguments


def test_text_is_not_held_back_longer_than_it_may_be_a_mark() -> None:
    reader = CallReader(GENERIC, SCHEMAS)
    assert reader.push("a <tool") == ["a"]
    assert reader.push("box") == [" <toolbox"]
    assert reader.push(" {") == [" {"]

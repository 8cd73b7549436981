"""How requests become tokens, for vocabularies other than the test model's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

pytest.importorskip("llama_cpp")

from hali.engine.chat import Prompter
from hali.engine.tool_formats import FORCED, recognise
from hali.engine.vocabulary import Specials
from hali.model.errors import ModelLoadFailed, UsageError
from hali.model.generation import GenerateRequest, Message, ReplyFormat, Tool

PLAIN = Specials(bos=1, eos=2, separator=-1, add_bos=True, add_eos=False)
CHAT = GenerateRequest(messages=(Message("system", "Be kind."), Message("user", "Hi")))


class FakeModel:
    """Tokens are characters; remembers what it was asked to tokenize."""

    n_vocab, n_ctx, longest_token = 128, 100_000, 1

    def __init__(self, template: str = "", specials: Specials = PLAIN, tool_use: str = "") -> None:
        self._specials = specials
        self._meta = {"tokenizer.chat_template": template, "tokenizer.chat_template.tool_use": tool_use}
        self.asked: list[tuple[str, bool]] = []
        self.marks: dict[str, int] = {}

    def meta(self, key: str) -> str:
        return self._meta.get(key, "")

    def specials(self) -> Specials:
        return self._specials

    def token_text(self, token: int) -> str:
        return {1: "<s>", 2: "</s>"}.get(token, "")

    def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        self.asked.append((text, add_special))
        return [self.marks[text]] if text in self.marks else [ord(letter) for letter in text]


def test_the_files_template_is_rendered_and_adds_its_own_special_tokens() -> None:
    model = FakeModel("{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ eos_token }}")
    prompt = Prompter(model).prompt(CHAT)
    assert model.asked == [("<s>[system]Be kind.[user]Hi</s>", False)]
    assert prompt.stops == ("</s>",)


def test_a_file_without_a_template_speaks_chatml() -> None:
    model = FakeModel()
    prompter = Prompter(model)
    prompt = prompter.prompt(CHAT)
    ((text, add_special),) = model.asked
    assert text == "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert add_special
    assert prompt.stops == ("<|im_end|>",)
    assert not prompter.has_template


def test_a_name_is_there_only_if_one_was_given() -> None:
    model = FakeModel("{% for m in messages %}{{ 'name' in m }} {% endfor %}")
    Prompter(model).prompt(GenerateRequest(messages=(Message("user", "a"), Message("user", "b", name="n"))))
    assert model.asked == [("False True ", False)]


@pytest.mark.parametrize(
    ("specials", "expected"),
    [
        (PLAIN, [1, 97]),
        (replace(PLAIN, add_bos=False), [97]),
        (replace(PLAIN, add_eos=True), [1, 97, 2]),
        (replace(PLAIN, separator=7), [1, 97, 7]),
        (replace(PLAIN, bos=-1), [97]),
    ],
)
def test_a_raw_prompt_gets_the_special_tokens_its_vocabulary_asks_for(specials: Specials, expected: list[int]) -> None:
    model = FakeModel(specials=specials)
    assert Prompter(model).prompt(GenerateRequest(prompt="a")).tokens == expected
    assert model.asked == [("a", False)]


@pytest.mark.parametrize("as_chat", [True, False])
def test_a_text_too_long_for_any_tokens_is_refused_before_they_are_made(as_chat: bool) -> None:
    for size, fits in ((99_000, True), (101_000, False)):
        model = FakeModel("{{ messages[0].content }}")
        text = "a" * size
        request = GenerateRequest(messages=(Message("user", text),)) if as_chat else GenerateRequest(prompt=text)
        if fits:
            assert len(Prompter(model).prompt(request).tokens) >= size
            continue
        with pytest.raises(UsageError, match="never holds more than 100000") as caught:
            Prompter(model).prompt(request)
        assert caught.value.code == "context_length"
        assert model.asked == []


def test_an_empty_prompt_without_bos_is_an_error_that_says_so() -> None:
    model = FakeModel(specials=replace(PLAIN, bos=-1, add_bos=False))
    with pytest.raises(UsageError) as caught:
        Prompter(model).prompt(GenerateRequest(prompt=""))
    assert caught.value.code == "empty_prompt"


def test_what_the_template_refuses_is_a_usage_error_in_its_words() -> None:
    model = FakeModel("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(UsageError, match="roles must alternate"):
        Prompter(model).prompt(CHAT)


def test_a_broken_template_fails_the_load() -> None:
    with pytest.raises(ModelLoadFailed, match="template"):
        Prompter(FakeModel("{% for %}"))


# --- tokens, tools, thoughts

TOOL = Tool("f", parameters={"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {}}})
OTHER = Tool("g")
THINKS = "{% for m in messages %}{{ m.content }}{% endfor %}<assistant><think>\n"
ASKED = GenerateRequest(messages=(Message("user", "Hi"),), tools=(TOOL, OTHER))


def test_tokens_are_taken_as_they_are() -> None:
    assert Prompter(FakeModel()).prompt(GenerateRequest(tokens=(5, 127))).tokens == [5, 127]
    assert Prompter(FakeModel()).prompt(GenerateRequest(tokens=())).tokens == [1]


@pytest.mark.parametrize("token", [-1, 128])
def test_a_token_that_there_is_not_is_a_usage_error(token: int) -> None:
    with pytest.raises(UsageError, match=str(token)):
        Prompter(FakeModel()).prompt(GenerateRequest(tokens=(token,)))


@pytest.mark.parametrize("wrong", [{}, {"prompt": "a", "tokens": (1,)}, {"prompt": "a", "messages": ()}])
def test_a_request_is_one_of_chat_prompt_and_tokens(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        Prompter(FakeModel()).prompt(GenerateRequest(**wrong))
    assert caught.value.code == "request"


def test_tools_choose_template_prompt_and_format_of_calls() -> None:
    tool_use = "{% for t in tools %}{{ t.function.name }}{% endfor %}[TOOL_CALLS]"
    prompt = Prompter(FakeModel("plain", tool_use=tool_use)).prompt(ASKED)
    assert prompt.text == "fg[TOOL_CALLS]"
    assert prompt.dialect.calls == recognise(tool_use) and prompt.dialect.schemas == {"f": TOOL.parameters, "g": {}}


def test_tools_that_must_not_be_called_are_not_mentioned() -> None:
    prompt = Prompter(FakeModel()).prompt(replace_with(ASKED, tool_choice="none"))
    assert "tool" not in prompt.text and prompt.dialect.calls is None


def test_a_call_that_must_be_made_is_a_format_of_the_reply() -> None:
    prompt = Prompter(FakeModel()).prompt(replace_with(ASKED, tool_choice="required"))
    assert prompt.dialect.calls == FORCED and not prompt.dialect.parallel
    assert prompt.format is not None and isinstance(prompt.format.schema, dict)
    first, second = prompt.format.schema["anyOf"]
    assert first["properties"]["name"] == {"const": "f"} and second["properties"]["name"] == {"const": "g"}
    arguments = first["properties"]["arguments"]
    assert arguments["properties"]["a"] == {"$ref": "#/anyOf/0/properties/arguments/$defs/A"}


def test_one_tool_that_must_be_called_is_the_only_one() -> None:
    prompt = Prompter(FakeModel()).prompt(replace_with(ASKED, tool_choice="required", tool_name="g"))
    assert prompt.format == ReplyFormat(
        schema={
            "type": "object",
            "properties": {
                "name": {"const": "g"},
                "arguments": {"type": "object", "additionalProperties": False},  # it is declared without any
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
    )


def test_a_tool_that_must_be_called_has_to_be_there() -> None:
    with pytest.raises(UsageError, match="'h'"):
        Prompter(FakeModel()).prompt(replace_with(ASKED, tool_choice="required", tool_name="h"))


def test_thoughts_that_the_template_begins_go_on_in_the_reply() -> None:
    dialect = Prompter(FakeModel(THINKS + "{# </think> #}")).prompt(CHAT).dialect
    assert dialect.marks is not None and dialect.inside


def test_a_reply_of_a_given_form_has_no_thoughts() -> None:
    request = replace_with(CHAT, format=ReplyFormat(schema={}))
    prompt = Prompter(FakeModel(THINKS + "{# </think> #}")).prompt(request)
    assert prompt.text.endswith("<think>\n\n</think>\n\n")
    assert prompt.dialect.reader() is None and prompt.format == ReplyFormat(schema={})


@pytest.mark.parametrize(
    ("asked", "template", "end"),
    [
        ({"enable_thinking": True}, THINKS, "<assistant><think>\n"),
        ({"reasoning_effort": "low"}, THINKS, "<assistant><think>\n"),
        ({"enable_thinking": True}, "a", "a<think>\n"),
        ({"enable_thinking": True}, "a<think></think>", "a<think></think>"),
        ({"enable_thinking": False, "reasoning_effort": "low"}, "a", "a"),
    ],
)
def test_thoughts_that_were_asked_for_come_before_the_form(asked: dict[str, Any], template: str, end: str) -> None:
    model = FakeModel(template + "{# </think> #}")
    model.marks = {"</think>": 77}
    prompt = Prompter(model).prompt(replace_with(CHAT, format=ReplyFormat(schema={}), template_kwargs=asked))
    thinks = end.endswith("<think>\n")
    assert prompt.text.endswith(end) and prompt.dialect.inside is thinks
    assert prompt.thinks_until == (77 if thinks else None) and prompt.format == ReplyFormat(schema={})


def test_gpt_oss_speaks_in_messages() -> None:
    template = "<|start|>assistant{# <|channel|>analysis #}"
    assert Prompter(FakeModel(template)).prompt(CHAT).dialect.harmony
    formed = Prompter(FakeModel(template)).prompt(replace_with(CHAT, format=ReplyFormat(schema={})))
    assert formed.text == "<|start|>assistant<|channel|>final<|message|>" and formed.dialect.reader() is None


def test_a_format_that_lets_any_text_be_leaves_the_thoughts() -> None:
    prompt = Prompter(FakeModel(THINKS + "{# </think> #}")).prompt(replace_with(CHAT, format=ReplyFormat()))
    assert prompt.text.endswith("<think>\n") and prompt.dialect.inside and prompt.format is None


def test_variables_of_the_request_reach_the_template() -> None:
    request = replace_with(CHAT, template_kwargs={"enable_thinking": False})
    assert Prompter(FakeModel("{{ enable_thinking }}")).prompt(request).text == "False"


def replace_with(request: GenerateRequest, **changes: Any) -> GenerateRequest:
    return msgspec.structs.replace(request, **changes)


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ self._TemplateReference__context }}{{ self.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(attack: str) -> None:
    model = FakeModel(attack)
    try:
        Prompter(model).prompt(CHAT)
    except UsageError:
        return
    assert all("class" not in text and "module" not in text and "{" not in text for text, _ in model.asked)

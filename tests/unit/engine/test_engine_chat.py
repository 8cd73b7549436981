"""How requests become tokens, for vocabularies other than the test model's."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("llama_cpp")

from hali.engine.backend import Specials
from hali.engine.chat import Prompter
from hali.model.errors import ModelLoadFailed, UsageError
from hali.model.generation import GenerateRequest, Message

PLAIN = Specials(bos=1, eos=2, separator=-1, add_bos=True, add_eos=False)
CHAT = GenerateRequest(messages=(Message("system", "Be kind."), Message("user", "Hi")))


class FakeModel:
    """Tokens are characters; remembers what it was asked to tokenize."""

    def __init__(self, template: str = "", specials: Specials = PLAIN) -> None:
        self._template, self._specials = template, specials
        self.asked: list[tuple[str, bool]] = []

    def meta(self, key: str) -> str:
        return self._template if key == "tokenizer.chat_template" else ""

    def specials(self) -> Specials:
        return self._specials

    def token_text(self, token: int) -> str:
        return {1: "<s>", 2: "</s>"}.get(token, "")

    def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        self.asked.append((text, add_special))
        return [ord(letter) for letter in text]


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

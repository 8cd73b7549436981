"""Messages to tokens as llama-cpp-python makes them: its own formatters and tokenizer flags. Worker only."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import jinja2
from llama_cpp import llama_chat_format as formats

from hali.engine.backend import Specials
from hali.model.errors import ModelLoadFailed, UsageError
from hali.model.generation import GenerateRequest, Message

RENDER_LIMIT_S = 1.0  # a template is part of a stranger's file; ordinary ones take a millisecond
RENDER_LIMIT_BYTES = 16 * 1024 * 1024  # as long as a request may be; the context check rejects far shorter ones
_BUILT_IN: dict[str, Callable[..., Any]] = {
    "chatml": formats.format_chatml,
    "mistral-instruct": formats.format_mistral_instruct,
    "llama-3": formats.format_llama3,
}


@dataclass(frozen=True)
class Prompt:
    """Tokens to compute, and the stop strings that the chat format brings along."""

    tokens: list[int]
    stops: tuple[str, ...]


class Vocabulary(Protocol):
    """What is needed of a model."""

    def meta(self, key: str) -> str:
        """A metadata value of the file; empty if there is none."""

    def specials(self) -> Specials:
        """Its special tokens."""

    def token_text(self, token: int) -> str:
        """How a token is spelled; empty for -1."""

    def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        """Token ids of a text, special tokens in it recognised."""


class Prompter:
    """Turns requests into tokens for one model. The file's template if it has one, else ChatML."""

    def __init__(self, model: Vocabulary) -> None:
        self._model, self._specials = model, model.specials()
        template = model.meta("tokenizer.chat_template")
        self.has_template = bool(template)
        self._format = self._formatter(template)

    def _formatter(self, template: str) -> Callable[..., Any]:
        known = formats.guess_chat_format_from_gguf_metadata({"tokenizer.chat_template": template})
        if known is not None or not template:
            return _BUILT_IN[known or "chatml"]
        eos = self._specials.eos
        try:
            # Renders in an ImmutableSandboxedEnvironment, with strftime_now and tojson as Transformers has them.
            formatter: Callable[..., Any] = formats.Jinja2ChatFormatter(
                template=template,
                eos_token=self._model.token_text(eos),
                bos_token=self._model.token_text(self._specials.bos),
                stop_token_ids=[eos],
            )
            return formatter
        except jinja2.TemplateError as error:
            raise ModelLoadFailed(f"the chat template of the file is broken: {error}") from None

    def prompt(self, request: GenerateRequest) -> Prompt:
        """UsageError if the request is neither a chat nor a prompt, or the template refuses it."""
        if (request.messages is None) == (request.prompt is None):
            raise UsageError("a request needs either messages or a prompt, not both", code="request")
        if request.messages is not None:
            return self._chat(request.messages)
        return Prompt(self._raw(request.prompt or ""), ())

    def _chat(self, messages: tuple[Message, ...]) -> Prompt:
        if not messages:
            raise UsageError("a chat needs at least one message", code="request")
        answer = self._render([_as_dict(message) for message in messages])
        stops = [answer.stop] if isinstance(answer.stop, str) else list(answer.stop or [])
        tokens = self._model.tokenize(answer.prompt, add_special=not answer.added_special)
        return Prompt(tokens or self._begin(), tuple(stops))

    def _render(self, messages: list[dict[str, str]]) -> Any:
        try:
            with _time_limit(RENDER_LIMIT_S):
                answer = self._format(messages=messages)
        except (jinja2.TemplateError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
            raise UsageError(f"the model's chat template refuses these messages: {error}", code="template") from None
        except (TimeoutError, RecursionError, MemoryError) as error:
            why = str(error) or type(error).__name__
            raise UsageError(f"the model's chat template does not end: {why}", code="template") from None
        if len(answer.prompt) > RENDER_LIMIT_BYTES:
            raise UsageError(f"the chat template made {len(answer.prompt)} characters", code="template")
        return answer

    def _raw(self, text: str) -> list[int]:
        """llama-cpp-python's create_completion: BOS and EOS as the vocabulary asks, special tokens recognised."""
        special = self._specials
        tokens = self._model.tokenize(text, add_special=False) if text else []
        if special.add_bos:
            tokens = [special.bos, *tokens]
        if special.add_eos or special.separator >= 0:
            tokens.append(special.separator if special.separator >= 0 else special.eos)
        return [token for token in tokens if token >= 0] or self._begin()

    def _begin(self) -> list[int]:
        """Something to begin with where there is no text: BOS. UsageError for a vocabulary without it."""
        if self._specials.bos < 0:
            raise UsageError("the prompt is empty, and this model has no token to begin with", code="empty_prompt")
        return [self._specials.bos]


def _as_dict(message: Message) -> dict[str, str]:
    """The message as templates know it; a name only where one was given, since templates test for the key."""
    found = {"role": message.role, "content": message.content}
    return found if message.name is None else {**found, "name": message.name}


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """TimeoutError in this (the main) thread after `seconds`; Python code only, a single C call is not interrupted."""

    def expire(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

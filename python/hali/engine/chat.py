"""Requests to tokens, and how their replies are to be read. Worker only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from hali.engine import harmony, reasoning, tool_formats
from hali.engine.forced import forced_schema
from hali.engine.lengths import check_length, size_of
from hali.engine.output import Dialect
from hali.engine.templates import CHATML_STOP, ChatTemplates, Sources
from hali.engine.turns import as_schema, as_turn
from hali.engine.vision import Picture, Projector, Seen
from hali.engine.vocabulary import Specials
from hali.model.errors import UsageError
from hali.model.generation import GenerateRequest, Message, ReplyFormat

NO_TEXT = Dialect()


@dataclass(frozen=True)
class Prompt:
    """Tokens to compute with the text they stand for, the stop strings of the chat format, and what the reply looks like."""

    tokens: list[int]
    stops: tuple[str, ...]
    text: str = ""
    dialect: Dialect = NO_TEXT
    format: ReplyFormat | None = None  # what the sampler has to keep to; a forced call is one
    thinks_until: int | None = None  # the token behind which `format` holds; None: from the beginning
    pictures: tuple[
        Picture, ...
    ] = ()  # their positions hold negative numbers in `tokens`; whoever has the prompt closes them


class Vocabulary(Protocol):
    """What is needed of a model."""

    n_vocab: int
    n_ctx: int

    @property
    def longest_token(self) -> int:
        """Bytes that a token stands for at most."""

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

    def __init__(
        self,
        model: Vocabulary,
        now: Callable[[], datetime] = datetime.now,
        projector: Projector | None = None,
        no_images: str | None = None,
    ) -> None:
        self._model, self._specials = model, model.specials()
        self._projector, self._no_images = projector, no_images or "no projector belongs to it"
        sources = Sources(model.meta("tokenizer.chat_template"), model.meta("tokenizer.chat_template.tool_use"))
        self.has_template = bool(sources.default)
        self._eos = model.token_text(self._specials.eos)
        tokens = {"bos_token": model.token_text(self._specials.bos), "eos_token": self._eos}
        self._templates = ChatTemplates(sources, tokens, now)

    def prompt(self, request: GenerateRequest) -> Prompt:
        """UsageError if the request is none of chat, prompt and tokens, or the template refuses it."""
        if sum(given is not None for given in (request.messages, request.prompt, request.tokens)) != 1:
            raise UsageError("a request needs one of messages, a prompt or tokens", code="request")
        if request.messages is not None:
            return self._chat(request, request.messages)
        if request.tokens is not None:
            return Prompt(self._given(request.tokens), (), format=request.format)
        return Prompt(self._raw(request.prompt or ""), (), request.prompt or "", format=request.format)

    # --- chats

    def _chat(self, request: GenerateRequest, messages: tuple[Message, ...]) -> Prompt:
        if not messages:
            raise UsageError("a chat needs at least one message", code="request")
        tools = [as_schema(tool) for tool in request.tools] if request.tool_choice != "none" else []
        turns = [as_turn(message) for message in messages]
        text = self._templates.render(turns, tools, request.template_kwargs, goes_on=request.goes_on)
        schema = forced_schema(request)
        form = _constrained(request.format) if schema is None else ReplyFormat(schema=schema)
        text, dialect, until = self._dialect(request, text, form)
        seen = self._read(text, [image for message in messages for image in message.images])
        stops = (self._eos,) if self.has_template else (CHATML_STOP,)
        return Prompt(seen.tokens or self._begin(), stops, text, dialect, form, until, seen.pictures)

    def _read(self, text: str, images: list[bytes]) -> Seen:
        """Tokens and images of a rendered chat; UsageError where this model reads no images."""
        self._check_length(text)
        add_special = not self.has_template  # a template writes BOS itself; ChatML, taken for want of one, does not
        if not images:
            return Seen(self._model.tokenize(text, add_special=add_special), ())
        if self._projector is None:
            raise UsageError(f"this model reads no images: {self._no_images}", code="unsupported")
        return self._projector.read(text, images, add_special=add_special)

    def _dialect(
        self, request: GenerateRequest, text: str, form: ReplyFormat | None
    ) -> tuple[str, Dialect, int | None]:
        """The prompt, how to read its reply, and the token that ends thoughts before a form.

        A reply in a given form has no marks of calls, and thoughts only where they were asked for and one token ends them.
        """
        with_tools = bool(request.tools) and request.tool_choice != "none"
        template = self._templates.choose(with_tools).source
        schemas = {tool.name: tool.parameters for tool in request.tools}
        calls = tool_formats.recognise(template) if with_tools else None
        marks = reasoning.recognise(template)
        inside = marks is not None and reasoning.left_open(text, marks)
        if form is not None:
            calls = tool_formats.FORCED if request.tool_choice == "required" else None
            if marks is not None and (until := self._end_of_thoughts(request, text, marks)) is not None:
                begun = text if inside else f"{text}{marks.begin}\n"
                return begun, Dialect(marks, True, calls, schemas, parallel=False), until
            dialect = Dialect(calls=calls, schemas=schemas, parallel=False)
            return text + _answer_begins(template, marks if inside else None), dialect, None
        if harmony.SIGN in template:
            return text, Dialect(calls=calls, parallel=request.parallel_tool_calls, harmony=True), None
        return text, Dialect(marks, inside, calls, schemas, request.parallel_tool_calls), None

    def _end_of_thoughts(self, request: GenerateRequest, text: str, marks: reasoning.Marks) -> int | None:
        asked = request.template_kwargs
        effort = asked.get("reasoning_effort", "none")
        if asked.get("enable_thinking", effort != "none") is not True or text.rstrip().endswith(marks.end):
            return None
        tokens = self._model.tokenize(marks.end, add_special=False)
        return tokens[0] if len(tokens) == 1 else None

    # --- prompts

    def _given(self, tokens: tuple[int, ...]) -> list[int]:
        wrong = next((token for token in tokens if not 0 <= token < self._model.n_vocab), None)
        if wrong is not None:
            raise UsageError(f"there is no token {wrong}; this model has {self._model.n_vocab}", code="token")
        return list(tokens) or self._begin()

    def _raw(self, text: str) -> list[int]:
        """llama-cpp-python's create_completion: BOS and EOS as the vocabulary asks, special tokens recognised."""
        self._check_length(text)
        special = self._specials
        tokens = self._model.tokenize(text, add_special=False) if text else []
        if special.add_bos:
            tokens = [special.bos, *tokens]
        if special.add_eos or special.separator >= 0:
            tokens.append(special.separator if special.separator >= 0 else special.eos)
        return [token for token in tokens if token >= 0] or self._begin()

    def _check_length(self, text: str) -> None:
        hint = "shorten the conversation, or load the model with a larger context"
        check_length("the prompt", size_of(text), self._model, self._model.n_ctx, hint=hint)

    def _begin(self) -> list[int]:
        """Something to begin with where there is no text: BOS. UsageError for a vocabulary without it."""
        if self._specials.bos < 0:
            raise UsageError("the prompt is empty, and this model has no token to begin with", code="empty_prompt")
        return [self._specials.bos]


def _constrained(form: ReplyFormat | None) -> ReplyFormat | None:
    """None also for a format that lets any text be."""
    return form if form is not None and (form.schema is not None or form.grammar is not None) else None


def _answer_begins(template: str, left_open: reasoning.Marks | None) -> str:
    """What a prompt needs so that its reply begins with the answer."""
    if harmony.SIGN in template:
        return harmony.FINAL
    return "" if left_open is None else f"\n{left_open.end}\n\n"

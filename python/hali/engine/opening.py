"""From a request to a session: its prompt, its sampler, and what is refused. Worker only."""

from __future__ import annotations

import time

import msgspec

from hali.engine.backend import Model
from hali.engine.chat import Prompt, Prompter
from hali.engine.constraint import Formats
from hali.engine.forced import callable_tools, forced_schema
from hali.engine.sampling import Sampler
from hali.engine.session import MAX_STOP_BYTES, Session
from hali.model.errors import UsageError
from hali.model.generation import MAX_STOPS, GenerateRequest, ReplyFormat, SamplingParams, Tool

TRIES_S = 1.0  # for the schemas of all tools; others wait meanwhile


class Opening:
    """Makes sessions of one model."""

    def __init__(self, model: Model, prompter: Prompter) -> None:
        self._model, self._prompter = model, prompter
        self._formats = Formats(model)

    def session(self, ident: bytes, request: GenerateRequest) -> Session:
        """UsageError for what this model cannot do."""
        _check_stops(request.sampling)
        prompt = self._prompter.prompt(request)
        try:
            return self._with_prompt(ident, request, prompt)
        except BaseException:
            for picture in prompt.pictures:
                picture.close()
            raise

    def _with_prompt(self, ident: bytes, request: GenerateRequest, prompt: Prompt) -> Session:
        if len(prompt.tokens) >= self._model.n_ctx:
            raise UsageError(
                f"the prompt has {len(prompt.tokens)} tokens; with a reply at most {self._model.n_ctx} fit",
                hint="shorten the conversation, or load the model with a larger context",
                code="context_length",
                details={"prompt_tokens": len(prompt.tokens), "n_ctx": self._model.n_ctx},
            )
        if prompt.tokens[-1] < 0:
            raise UsageError("the prompt ends with an image: a reply begins after text only", code="image")
        try:
            sampler = self._sampler(request, prompt, prompt.format)
        except UsageError as error:
            if error.code != "schema" or request.tool_choice != "required":
                raise
            free = self._free(request, error)
            sampler = self._sampler(request, prompt, ReplyFormat(schema=forced_schema(request, free=free)))
        return Session(
            ident,
            prompt.tokens,
            request.sampling,
            stops=prompt.stops,
            n_ctx=self._model.n_ctx,
            sampler=sampler,
            reader=prompt.dialect.reader(),
            pictures=prompt.pictures,
        )

    def _free(self, request: GenerateRequest, why: UsageError) -> set[str]:
        """The tools whose schemas no grammar can say, though not one that is strict; all others if only together none can."""
        tools, until = callable_tools(request), time.monotonic() + TRIES_S
        unsaid = [tool for tool in tools if time.monotonic() > until or not self._can_be_said(request, tool)]
        if any(tool.strict for tool in unsaid or tools):
            raise why
        return {tool.name for tool in unsaid or tools}

    def _can_be_said(self, request: GenerateRequest, tool: Tool) -> bool:
        alone = msgspec.structs.replace(request, tools=(tool,), tool_name=None)
        try:
            self._formats.constraint(ReplyFormat(schema=forced_schema(alone)))
        except UsageError:
            return False
        return True

    def _sampler(self, request: GenerateRequest, prompt: Prompt, form: ReplyFormat | None) -> Sampler:
        asked = msgspec.structs.replace(request, format=form)  # a forced call is a format too
        tokens = [token for token in prompt.tokens if token >= 0]
        return Sampler(asked, self._model, tokens, self._formats, free_until=prompt.thinks_until)


def _check_stops(sampling: SamplingParams) -> None:
    if len(sampling.stop) > MAX_STOPS or any(len(stop.encode()) > MAX_STOP_BYTES for stop in sampling.stop):
        raise UsageError(f"at most {MAX_STOPS} stop strings of {MAX_STOP_BYTES} bytes each", code="stop")

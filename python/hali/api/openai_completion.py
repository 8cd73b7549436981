"""What POST /v1/completions takes: prompts as they are, without any chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta

from hali.api import openai_sampling
from hali.api.openai_chat import MAX_REPLIES, Alternatives, Replies, StreamOptions
from hali.api.openai_format import reply_format
from hali.api.openai_sampling import SamplingFields, sampling, with_seed
from hali.api.refusals import Asks, given, invalid, refuse, unsupported
from hali.model.generation import GenerateRequest

Token = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Prompt = str | tuple[int, ...]


class CompletionRequest(SamplingFields, kw_only=True):
    """The body. Fields that are not named here are ignored: they do not change what a model of ours says."""

    model: str
    prompt: str | list[Token | str | list[Token]]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Replies | None = None
    best_of: Replies | None = None
    echo: bool | None = None
    logprobs: Alternatives | None = None
    # refused unless they ask for nothing
    suffix: Any = None


_REFUSED: dict[str, Asks] = {**openai_sampling.REFUSED, "suffix": given}


def prompts_of(sent: str | list[Any], where: str) -> list[Prompt]:
    """One prompt or several, each a text or its tokens; `UsageError` for none, and for a mixture."""
    if isinstance(sent, str):
        return [sent]
    if sent and all(isinstance(each, int) for each in sent):
        return [tuple(sent)]
    if not sent or any(isinstance(each, int) for each in sent):
        raise invalid(where, "must be a text, a list of texts, a list of tokens or a list of such lists")
    return [each if isinstance(each, str) else _tokens(each, where) for each in sent]


def _tokens(sent: list[int], where: str) -> tuple[int, ...]:
    if not sent:
        raise invalid(where, "a list of tokens is empty")
    return tuple(sent)


def tries_of(body: CompletionRequest) -> int:
    """How many replies are made for each prompt, of which the best `n` are given."""
    wanted = body.n or 1
    tries = body.best_of or wanted
    if tries < wanted:
        raise invalid("best_of", "must be at least n")
    if tries > wanted and body.stream:
        raise invalid("best_of", "is known only at the end and cannot be streamed")
    return tries


def completion_requests(body: CompletionRequest) -> list[GenerateRequest]:
    """What the engine is asked: for each prompt, one after the other, all its replies."""
    refuse(body, _REFUSED)
    if body.echo and body.logprobs is not None:
        raise unsupported("logprobs", "hali does not tell the logprobs of a prompt (echo)")
    prompts, tries = prompts_of(body.prompt, "prompt"), tries_of(body)
    if len(prompts) * tries > MAX_REPLIES:
        raise invalid("prompt", f"at most {MAX_REPLIES} replies in one request")
    params, form = sampling(body), reply_format(body)
    return [
        GenerateRequest(
            prompt=prompt if isinstance(prompt, str) else None,
            tokens=None if isinstance(prompt, str) else prompt,
            sampling=with_seed(params, index),
            format=form,
            logprobs=_logprobs(body, tries),
            again=index > 0,
        )
        for prompt in prompts
        for index in range(tries)
    ]


def _logprobs(body: CompletionRequest, tries: int) -> int | None:
    if body.logprobs is None and tries > (body.n or 1):
        return 0  # to know which are the best
    return body.logprobs


def asked_prompts(asked: Sequence[GenerateRequest], tries: int) -> list[Prompt]:
    """The prompts, once each."""
    return [each.prompt if each.prompt is not None else (each.tokens or ()) for each in asked[::tries]]

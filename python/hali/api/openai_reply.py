"""What all of OpenAI's replies have in common: the fields they begin with, usage, logprobs, events."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from hali._version import __version__
from hali.model.generation import Candidate, Done, TokenLogprob
from hali.pipeline.base import ServedModel

DONE = b"data: [DONE]\n\n"
LEAST_LOGPROB = -9999.0  # OpenAI's word for a probability of zero; JSON has no infinity


class Frame(msgspec.Struct, frozen=True):
    """What all objects of one reply have in common."""

    id: str
    created: int
    model: str
    fingerprint: str

    @classmethod
    def new(cls, model: ServedModel, prefix: str) -> Frame:
        """For a new reply.

        The fingerprint changes with the file and with hali, as either may change the answer to the same seed.
        """
        build = hashlib.sha256(f"{__version__} {model.sha256}".encode()).hexdigest()
        return cls(new_id(prefix), int(time.time()), model.id, f"fp_{build[:10]}")

    def object(self, kind: str, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The fields every object begins with."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        }


def new_id(prefix: str) -> str:
    """A name that cannot be guessed."""
    return f"{prefix}{secrets.token_hex(14)}"


def event(data: Any) -> bytes:
    """One server-sent event; JSON from msgspec has no line break."""
    return b"data: " + msgspec.json.encode(data) + b"\n\n"


def usage_of(replies: Sequence[Done], per_prompt: int = 1) -> dict[str, Any]:
    """Tokens as OpenAI counts them. Each prompt, of which `per_prompt` replies in a row were made, counts once."""
    prompts = [done.usage for done in replies[::per_prompt]]
    prompt = sum(usage.prompt_tokens for usage in prompts)
    completion = sum(done.usage.completion_tokens for done in replies)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in prompts)},
        "completion_tokens_details": {"reasoning_tokens": sum(done.usage.reasoning_tokens for done in replies)},
    }


def logprobs_of(tokens: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Each token with the likeliest ones at its place."""
    return [{**_candidate(each.chosen), "top_logprobs": [_candidate(one) for one in each.top]} for each in tokens]


def spelled(candidate: Candidate) -> str:
    """The token as text; a part of a character becomes a replacement character, its bytes tell which."""
    return candidate.text.decode(errors="replace")


def finite(logprob: float) -> float:
    """The same, or what stands for minus infinity."""
    return max(logprob, LEAST_LOGPROB)


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "token": spelled(candidate),
        "logprob": finite(candidate.logprob),
        "bytes": list(candidate.text),
    }

"""How long a text may be whose tokens are to be made, which takes seconds for some MB, and nothing can interrupt. Pure."""

from __future__ import annotations

from typing import Protocol

from hali.model.errors import UsageError

SHORT = 64 * 1024  # bytes, or tokens that become text again: milliseconds
SPLIT = "split it into shorter texts"


class Vocabulary(Protocol):
    """What is needed of a model."""

    @property
    def longest_token(self) -> int:
        """Bytes that a token stands for at most."""


def check_length(what: str, size: int, model: Vocabulary, n_ctx: int, *, hint: str) -> None:
    """UsageError for a text of `size` bytes that fits a context of `n_ctx` tokens by no means."""
    most = n_ctx * model.longest_token if size > SHORT else SHORT
    if size > most:
        raise UsageError(
            f"{what} has {size} bytes; a context of {n_ctx} tokens never holds more than {most}",
            hint=hint,
            code="context_length",
            details={"prompt_tokens": -(-size // model.longest_token), "n_ctx": n_ctx},
        )


def size_of(*texts: str) -> int:
    """Bytes of all of them."""
    return sum(len(text.encode("utf-8", "replace")) for text in texts)

"""From a row of logits to a token: llama.cpp's samplers under the limits that a request sets. Worker only."""

from __future__ import annotations

import ctypes
import math
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from llama_cpp import llama_cpp as low

from hali.engine import chain
from hali.engine.constraint import Constraint, Formats
from hali.engine.logprobs import check_top, told
from hali.engine.ranges import check, settled
from hali.engine.telling import Drawn
from hali.model.errors import EngineFailed, UsageError
from hali.model.generation import GenerateRequest

_ROW = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])  # llama_token_data


class Model(Protocol):
    """What is needed of a model."""

    vocab: Any
    n_vocab: int
    n_ctx: int

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of a token."""


class Sampler:
    """One request's sampler. Its state moves on by exactly the tokens that `sample` returned.

    `alive` counts the samplers not yet closed, in the whole process.
    """

    alive = 0

    def __init__(
        self,
        request: GenerateRequest,
        model: Model,
        prompt: Sequence[int],
        formats: Formats,
        *,
        free_until: int | None = None,
    ) -> None:
        """UsageError for parameters out of range, and for reply formats that cannot be had.

        Up to a token `free_until`, which ends thoughts, the reply may be anything, and does not end.
        """
        check(request.sampling, model.n_vocab)
        params = settled(request.sampling)
        check_top(request.logprobs)
        self._model, self._params, self._top = model, params, request.logprobs
        self._formats = formats
        self._constraint: Constraint | None = formats.constraint(request.format)
        self._free_until = None if self._constraint is None else free_until
        self._bias = _Bias(params.logit_bias)
        self._taken = 0
        self._drawn: deque[Drawn] = deque()
        self._rows: Any = None  # candidates of one draw; made when first needed
        self._greedy = chain.only_greedy(params)
        self._chain: Any = chain.build(params, model, prompt)
        Sampler.alive += 1

    def sample(self, ctx: Any, row: int) -> int:
        """Draw from the logits of a batch row and remember the token.

        EngineFailed if the logits are no numbers; UsageError if no token may come, or the grammar became too complex.
        """
        logits = self._logits(ctx, row)
        ends_early = self._taken < self._params.min_tokens or self._free_until is not None
        if self._form is None and not ends_early and self._bias.leaves_free(greedy=self._greedy):
            token = self._free(ctx, row, logits)
        else:
            token = self._limited(logits, ends_early)
            low.llama_sampler_accept(self._chain, token)
        self._taken += 1
        if self._form is not None:
            self._form.take(token)
        elif token == self._free_until:
            self._free_until = None
        logprob = None
        if self._top is not None:
            logprob = told(logits, token, self._top, self._params.temperature, self._model.piece)
        self._drawn.append(Drawn(logprob, self._form is not None and self._form.complete))
        return token

    def drawn(self) -> Drawn:
        """More about the first token that `sample` returned and that was not yet asked about."""
        return self._drawn.popleft()

    def close(self) -> None:
        """Free the chain; further calls do nothing."""
        if self._chain is not None:
            chain.free(self._chain)
            self._chain = self._rows = None
            Sampler.alive -= 1

    # --- one draw

    def _logits(self, ctx: Any, row: int) -> Any:
        """f32[n_vocab], a view."""
        return _view(ctypes.addressof(low.llama_get_logits_ith(ctx, row).contents), self._model.n_vocab)

    def _free(self, ctx: Any, row: int, logits: Any) -> int:
        """One of all tokens. Greedy: the lowest among equals, as llama.cpp finds it with a copy of all in ten times as long."""
        if self._greedy:
            token = int(self._bias.added(logits).argmax())
            _check(logits[token])
            return token
        _check(logits.max())
        return int(low.llama_sampler_sample(self._chain, ctx, row))

    def _limited(self, logits: Any, ends_early: bool) -> int:
        _check(logits.max())
        allowed = np.ones(self._model.n_vocab, bool)
        form = self._form
        if form is not None and not form.check_first:
            allowed = form.allowed()
        allowed = self._without(allowed, ends_early)
        token = self._draw(logits, allowed)
        if form is not None and form.check_first and not form.allows(token):
            token = self._draw(logits, self._without(form.allowed(), ends_early))
        return token

    @property
    def _form(self) -> Constraint | None:
        """What the next token is held to."""
        return self._constraint if self._free_until is None else None

    def _without(self, allowed: Any, ends_early: bool) -> Any:
        """Take out what is banned, and the ends while it is too early for them, unless the format wants the end."""
        allowed[self._bias.banned] = False
        if ends_early:
            later = allowed.copy()
            later[self._formats.ends] = False
            if later.any():
                return later
        return allowed

    def _draw(self, logits: Any, allowed: Any) -> int:
        """One of the allowed tokens; the others are left out, since -inf makes some samplers compute NaN."""
        tokens = np.flatnonzero(allowed)
        if not len(tokens):
            raise UsageError("no token is left that may come next: logit_bias and format exclude all", code="no_token")
        scores = self._bias.added(logits)[tokens]
        if self._greedy:
            return int(tokens[scores.argmax()])
        if self._rows is None:
            self._rows = np.empty(self._model.n_vocab, _ROW)
        rows = self._rows[: len(tokens)]
        rows["id"], rows["logit"], rows["p"] = tokens, scores, 0
        data = ctypes.cast(rows.ctypes.data, ctypes.POINTER(low.llama_token_data))
        native = low.llama_token_data_array(data, len(tokens), -1, False)
        low.llama_sampler_apply(self._chain, ctypes.byref(native))
        if not 0 <= native.selected < native.size:
            raise EngineFailed("the samplers chose no token", code="sampling")
        return int(native.data[native.selected].id)


class _Bias:
    """What a request adds to the logits of some tokens, and which tokens it bans."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        tokens, values = np.array([*bias], np.intp), np.array([*bias.values()], np.float32)
        finite = values > -np.inf
        self.banned = tokens[~finite]
        self._tokens, self._values = tokens[finite], values[finite]

    def leaves_free(self, *, greedy: bool) -> bool:
        """Whether llama.cpp may draw from its own logits; a greedy draw sees what is added."""
        return not len(self.banned) and (greedy or not len(self._tokens))

    def added(self, logits: Any) -> Any:
        """f32[n_vocab]: `logits` with what is added to some; a copy where there is any."""
        if not len(self._tokens):
            return logits
        found = logits.copy()
        found[self._tokens] += self._values
        return found


def _check(peak: Any) -> None:
    """EngineFailed unless `peak`, the largest of the logits, is a number: NaN is the largest of all to NumPy.

    llama.cpp would sort and draw among such values, with undefined behaviour.
    """
    if not peak < math.inf:
        raise EngineFailed(f"the model computed values that are no numbers ({peak})", code="nan")


@lru_cache(maxsize=512)  # as many as a batch has rows; llama.cpp gives the same few addresses again and again
def _view(address: int, length: int) -> Any:
    """f32[length] at `address`, valid as long as llama.cpp keeps it there."""
    return np.ctypeslib.as_array((ctypes.c_float * length).from_address(address))

"""From a row of logits to a token: llama.cpp's samplers under the limits that a request sets. Worker only."""

from __future__ import annotations

import ctypes
import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from llama_cpp import llama_cpp as low

from hali.engine import chain
from hali.engine.constraint import Constraint, Formats
from hali.engine.logprobs import check_top, told
from hali.engine.ranges import check
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

    def __init__(self, request: GenerateRequest, model: Model, prompt: Sequence[int], formats: Formats) -> None:
        """UsageError for parameters out of range, and for reply formats that cannot be had."""
        params = request.sampling
        check(params, model.n_vocab)
        check_top(request.logprobs)
        self._model, self._params, self._top = model, params, request.logprobs
        self._formats = formats
        self._constraint: Constraint | None = formats.constraint(request.format)
        self._banned = [token for token, bias in params.logit_bias.items() if bias == -math.inf]
        self._taken = 0
        self._drawn: deque[Drawn] = deque()
        self._rows: Any = None  # candidates of one draw; made when first needed
        self._chain: Any = chain.build(params, model, prompt)
        Sampler.alive += 1

    def sample(self, ctx: Any, row: int) -> int:
        """Draw from the logits of a batch row and remember the token.

        EngineFailed if the logits are no numbers; UsageError if no token may come, or the grammar became too complex.
        """
        logits = self._logits(ctx, row)
        ends_early = self._taken < self._params.min_tokens
        if self._constraint is None and not self._banned and not ends_early:
            token = int(low.llama_sampler_sample(self._chain, ctx, row))
        else:
            token = self._limited(logits, ends_early)
            low.llama_sampler_accept(self._chain, token)
        self._taken += 1
        if self._constraint is not None:
            self._constraint.take(token)
        logprob = None
        if self._top is not None:
            logprob = told(logits, token, self._top, self._params.temperature, self._model.piece)
        self._drawn.append(Drawn(logprob, self._constraint is not None and self._constraint.complete))
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
        address = ctypes.addressof(low.llama_get_logits_ith(ctx, row).contents)
        logits = np.ctypeslib.as_array((ctypes.c_float * self._model.n_vocab).from_address(address))
        if not math.isfinite(float(logits.sum())) and (np.isnan(logits).any() or np.isposinf(logits).any()):
            # llama.cpp would sort and draw among them, with undefined behaviour.
            raise EngineFailed("the model computed values that are no numbers (NaN or infinity)", code="nan")
        return logits

    def _limited(self, logits: Any, ends_early: bool) -> int:
        allowed = np.ones(self._model.n_vocab, bool)
        if self._constraint is not None and not self._constraint.check_first:
            allowed = self._constraint.allowed()
        allowed = self._without(allowed, ends_early)
        token = self._draw(logits, allowed)
        if self._constraint is not None and self._constraint.check_first and not self._constraint.allows(token):
            token = self._draw(logits, self._without(self._constraint.allowed(), ends_early))
        return token

    def _without(self, allowed: Any, ends_early: bool) -> Any:
        """Take out what is banned, and the ends while it is too early for them, unless the format wants the end."""
        allowed[self._banned] = False
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
        if self._rows is None:
            self._rows = np.empty(self._model.n_vocab, _ROW)
        rows = self._rows[: len(tokens)]
        rows["id"], rows["logit"], rows["p"] = tokens, logits[tokens], 0
        data = ctypes.cast(rows.ctypes.data, ctypes.POINTER(low.llama_token_data))
        native = low.llama_token_data_array(data, len(tokens), -1, False)
        low.llama_sampler_apply(self._chain, ctypes.byref(native))
        if not 0 <= native.selected < native.size:
            raise EngineFailed("the samplers chose no token", code="sampling")
        return int(native.data[native.selected].id)

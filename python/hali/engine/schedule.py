"""Which rows the next llama_decode computes, who is let in and who must step back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GROWTH = 32  # tokens kept free for each running session when a new one is let in, so that it is not thrown out at once


@dataclass(frozen=True, slots=True)
class Work:
    """A session as the scheduler sees it: `held` tokens of its text are in the KV cache, `pending` are not yet."""

    key: int
    held: int
    pending: int
    decoding: bool  # its prompt is done: exactly one token is pending
    frees: int  # cells of the `held` that no other session has too


@dataclass(frozen=True, slots=True)
class Slice:
    """Compute the next `count` pending tokens of session `key`, then `ahead`: what it may say after them."""

    key: int
    count: int
    ahead: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Of the batch."""
        return self.count + len(self.ahead)


@dataclass(frozen=True, slots=True)
class Plan:
    """The rows of one batch in order, and the sessions to put back first because the KV cache is full."""

    slices: tuple[Slice, ...]
    preempt: tuple[int, ...] = ()


def schedule(works: Sequence[Work], *, n_batch: int, kv_free: int, beside: int) -> Plan:
    """The next batch for `works`, oldest session first.

    Decode rows come first, one a session; prompts share what is left of the budget, at most `beside` rows where others
    decode. A session that is alone gets chunks that end at multiples of `n_batch`, wherever it began, then single
    tokens: llama-cpp-python's own shapes, hence its bits.
    When there is not a cell for each session, the youngest step back; the oldest never does.
    """
    kept, preempt, kv_free = _make_room(works, kv_free)
    room = min(n_batch, kv_free)
    decoding = [Slice(work.key, 1) for work in kept if work.decoding][:room]
    budget = room - len(decoding)
    if decoding:
        budget = min(budget, beside)
    prompts = [work for work in kept if not work.decoding]
    if not decoding and len(prompts) == 1:
        budget = min(budget, n_batch - prompts[0].held % n_batch)
    return Plan((*decoding, *_share(prompts, budget)), preempt)


def _make_room(works: Sequence[Work], kv_free: int) -> tuple[list[Work], tuple[int, ...], int]:
    """(who stays, who steps back, cells free then): each who stays has at least one cell to grow by."""
    kept, preempt = list(works), []
    while len(kept) > 1 and len(kept) > kv_free:
        last = kept.pop()
        preempt.append(last.key)
        kv_free += last.frees
    return kept, tuple(preempt), kv_free


def _share(prompts: Sequence[Work], budget: int) -> list[Slice]:
    """Half of `budget` for the oldest, so that nobody waits for ever, the rest for who is done soonest.

    Few at a time, because cells of one session that lie together are skipped together by the attention of all others:
    16 mixed prompts took 7 % longer in equal parts, and each had its first token when all had.
    """
    counts: dict[int, int] = {}
    oldest = [(prompts[0], -(-budget // 2))] if prompts else []
    for work, most in (*oldest, *((work, budget) for work in sorted(prompts, key=lambda work: work.pending))):
        had = counts.get(work.key, 0)
        more = min(work.pending - had, most, budget)
        if more > 0:
            counts[work.key] = had + more
            budget -= more
    return [Slice(key, count) for key, count in counts.items()]


def may_enter(tokens: int, *, running: int, committed: int, n_kv: int, slots_free: int) -> bool:
    """Whether a session of `tokens` is let in beside `running` ones that hold or await `committed` cells."""
    if slots_free <= 0:
        return False
    return running == 0 or committed + tokens + GROWTH * (running + 1) <= n_kv

"""A draft model beside the model: a small one of the same vocabulary that guesses what the large one will say. Worker only."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from llama_cpp import llama_cpp as low

from hali.engine.backend import Model
from hali.engine.chunk import Chunk
from hali.engine.drafting import Drafting
from hali.engine.native_log import NativeLog
from hali.engine.options import EngineOptions
from hali.engine.schedule import Slice
from hali.engine.sharing import common
from hali.engine.speculate import WIDTHS
from hali.engine.vocabulary import Vocabulary
from hali.model.errors import ModelLoadFailed

NEAR = (
    WIDTHS[-1] + 1
)  # tokens that a session may be ahead of its draft after a reply's usual step; more is read in advance


def load(target: Model, options: EngineOptions, log: NativeLog) -> Model | None:
    """The draft model that goes with `target`, None where none is given or of use; ModelLoadFailed if it does not fit."""
    if options.draft is None or options.speculation == "off" or not target.goes_back:
        return None
    path = Path(options.draft)
    alike = msgspec.structs.replace(
        options, n_ctx=target.n_ctx, n_kv=target.n_kv, lora=(), projector=None, prefix_cache=False
    )
    draft = Model(path, alike, log, lambda _: None, abort=target.abort)
    try:
        if why := _unfit(target, draft):
            raise ModelLoadFailed(why)
    except BaseException:
        draft.close()
        raise
    return draft


def _unfit(target: Model, draft: Model) -> str | None:
    """Why `draft` cannot guess for `target`; None if it can. Half a second for a vocabulary of 150,000."""
    if draft.kind != "chat":
        return "it makes no texts"
    if not draft.goes_back:
        return "its kind of model cannot take back what was guessed wrong"
    return other_vocabulary(target, draft)


def other_vocabulary(one: Vocabulary, other: Vocabulary) -> str | None:
    """What tells two vocabularies apart; None if each number means the same token in both."""
    if one.n_vocab != other.n_vocab:
        return f"it has {other.n_vocab} tokens, the model {one.n_vocab}"
    if low.llama_vocab_type(one.vocab) != low.llama_vocab_type(other.vocab):
        return "it has a vocabulary of another type"
    for token in range(one.n_vocab):
        if low.llama_vocab_get_text(one.vocab, token) != low.llama_vocab_get_text(other.vocab, token):
            return f"token {token} is {other.token_text(token)!r}, the model's {one.token_text(token)!r}"
    mine, theirs = one.specials(), other.specials()
    if (mine.add_bos, mine.bos if mine.add_bos else -1) != (theirs.add_bos, theirs.bos if theirs.add_bos else -1):
        return "its texts begin with another token"
    return None


class Drafter:
    """What the draft model has read of each session, and its guesses. `clock` is for tests."""

    def __init__(self, model: Model, drafting: Drafting, clock: Callable[[], float] = time.perf_counter) -> None:
        self._model, self.drafting, self._clock = model, drafting, clock
        self._read: dict[int, list[int]] = {}  # tokens that have cells, by session
        self._chunk = Chunk(model.n_batch)

    def most(self, tokens: Sequence[int]) -> int:
        """How many more than `tokens` it can compute: beyond its own context some models have no positions."""
        return self._model.n_trained - len(tokens)

    def behind(self, key: int, tokens: Sequence[int]) -> int:
        """How many of `tokens` it has not read; what it has read besides is dropped."""
        read = self._read.setdefault(key, [])
        same = min(common(read, tokens), len(tokens) - 1)  # the last one's row is the one to guess from
        if same < len(read):
            del read[same:]
            self._model.forget(key, same)
        return len(tokens) - same

    def leave(self, key: int) -> None:
        """The session is over, or has stepped back."""
        if self._read.pop(key, None):
            self._model.forget(key)

    def guess(self, widths: Mapping[int, int], texts: Mapping[int, Sequence[int]]) -> dict[int, tuple[int, ...]]:
        """At most so many tokens that may follow each text; none for one of which too much is still unread.

        Of such texts one batch is read. EngineFailed when the draft model cannot compute any more.
        """
        near = {key: list(texts[key]) for key in widths if self.behind(key, texts[key]) <= NEAR}
        far = [key for key in widths if key not in near]
        if far and not self._read_on(far, texts):
            return {}
        return self._draft({key: widths[key] for key in near}, near)

    def _read_on(self, keys: Sequence[int], texts: Mapping[int, Sequence[int]]) -> bool:
        """One batch of what is unread, the first first; False when nothing more may be computed now."""
        room, free, slices = self._chunk.rows, self._free, list[Slice]()
        for key in keys:
            count, needed = min(room, self.behind(key, texts[key]) - 1), self._needed(key, len(texts[key]) + WIDTHS[-1])
            if count > 0 and needed <= free:
                slices.append(Slice(key, count))
                room, free = room - count, free - needed
        began = self._clock()
        if not slices:
            return True
        if not self._decode(slices, texts):
            return False
        rows, took = sum(part.rows for part in slices), self._clock() - began
        self._chunk.measure(rows, took)
        self.drafting.read(rows, took)
        return True

    def _draft(self, widths: dict[int, int], texts: dict[int, list[int]]) -> dict[int, tuple[int, ...]]:
        """The likeliest token after each text, again and again, all texts in the same decodes."""
        begin = {key: len(text) for key, text in texts.items()}
        free, active = self._free, list[int]()
        for key, width in widths.items():
            if (needed := self._needed(key, begin[key] + width)) <= free:
                active.append(key)
                free -= needed
        while active:
            began = self._clock()
            slices = [Slice(key, len(texts[key]) - len(self._read[key])) for key in active]
            if not self._decode(slices, texts):
                return {}
            for key in active:
                texts[key].append(self._model.likeliest(self._model.batch.row_of_last[key]))
            self.drafting.decoded(len(active), self._clock() - began)
            for key in active:
                if self._model.is_end(texts[key][-1]):  # nothing follows it
                    texts[key].pop()
                    widths[key] = 0
            active = [key for key in active if len(texts[key]) - begin[key] < widths[key]]
        return {key: tuple(text[begin[key] :]) for key, text in texts.items()}

    @property
    def _free(self) -> int:
        """Cells that nobody has. Here texts with a common beginning do not share those of it."""
        return self._model.n_kv - sum(map(len, self._read.values()))

    def _needed(self, key: int, length: int) -> int:
        """Cells for a text of `length` besides those that it has."""
        return length - len(self._read[key])

    def _decode(self, slices: Sequence[Slice], texts: Mapping[int, Sequence[int]]) -> bool:
        """One decode; False if it was stopped, or found no room."""
        code = self._model.decode(slices, texts.__getitem__, lambda key: len(self._read[key]))
        for part in slices:
            read = self._read[part.key]
            if code == 0:
                read += texts[part.key][len(read) : len(read) + part.count]
            else:
                self._model.forget(part.key, len(read))  # cells that a stopped decode left
        return code == 0

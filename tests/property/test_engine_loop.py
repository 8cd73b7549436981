"""Whatever befalls its sessions, the loop says what each would say alone, ends each once, and holds nothing afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest

pytest.importorskip("llama_cpp")

from hali.engine import loop as module
from hali.engine import opening
from hali.engine.backend import ABORTED, NO_SLOT, Model
from hali.engine.chat import Prompt, Prompter
from hali.engine.drafter import Drafter
from hali.engine.drafting import Drafting
from hali.engine.loop import Loop
from hali.engine.prefix import BLOCK, PrefixTree, reusable
from hali.engine.retained import Retained
from hali.engine.schedule import Slice
from hali.engine.speculate import Speculation
from hali.engine.telling import Drawn
from hali.engine.vision import Picture, Projector
from hali.model.errors import EngineFailed, HaliError
from hali.model.generation import Chunk, Done, GenerateRequest, GenerationEvent, SamplingParams

END, N_CTX, N_SEQ = 0, 160, 5


def follows(text: Sequence[int]) -> int:
    """What the model says after a text: any other text gives another token soon, and many repeat what was said."""
    chance = Random(hash(tuple(text)))
    if chance.random() < 0.01 and len(text) > 40:
        return END
    back = 3 if chance.random() < 0.9 else chance.randrange(1, 6)
    token = text[-back] if len(text) >= back else 65
    return token if token > 0 and chance.random() < 0.9 else chance.randrange(65, 70)


class Cells:
    """A model's KV cache: cells with tokens, which sequences may share, and no gap between positions."""

    def __init__(self, n_kv: int, n_batch: int, *, tiled: bool) -> None:
        self.tiled = tiled
        self.n_ctx, self.n_kv, self.n_batch, self.n_vocab = N_CTX, n_kv, n_batch, 100
        self.ctx = self
        self.abort = [b"\0"]
        self.held: dict[int, list[list[int]]] = {}  # a cell is a list of its own, known by its identity
        self.rows: list[list[int]] = []  # the text up to each row of the last decode
        self.batch = SimpleNamespace(row_of_last={})
        self.befalls: Callable[[], int] = lambda: 0

    def text(self, key: int) -> list[int]:
        return [cell[0] for cell in self.held.get(key, [])]

    def put(self, key: int, start: int, tokens: Sequence[int]) -> None:
        held = self.held.setdefault(key, [])
        assert len(held) == start, "positions have no gap and no second cell"
        held += [[token] for token in tokens]
        assert self.used <= self.n_kv

    @property
    def used(self) -> int:
        return len({id(cell) for cells in self.held.values() for cell in cells})

    def decode(self, slices: Sequence[Slice], tokens: Callable[[int], list[int]], start: Callable[[int], int]) -> int:
        code = self.befalls()
        assert 0 < sum(part.rows for part in slices) <= self.n_batch
        self.rows, self.batch.row_of_last = [], {}
        for part in slices:
            begin = start(part.key)
            rows = [*tokens(part.key)[begin : begin + part.count], *part.ahead]
            assert len(rows) == part.rows > 0
            assert min(rows) >= 0, "an image's stand-in is no token"
            self.batch.row_of_last[part.key] = len(self.rows) + part.count - 1
            if code in (0, ABORTED):
                self.put(part.key, begin, rows)
                text = self.text(part.key)
                self.rows += [text[: begin + at + 1] for at in range(len(rows))]
        return code

    def forget(self, key: int, start: int = 0) -> bool:
        del self.held.setdefault(key, [])[start:]
        return True

    def clear(self) -> None:
        self.held = {}

    def piece(self, token: int, *, special: bool = False) -> bytes:
        return bytes([token])

    def is_end(self, token: int) -> bool:
        return token == END


class DraftCells(Cells):
    """A draft model's: it knows what the other would say, but not always, and has positions up to `n_trained`."""

    def __init__(self, random: Random, n_batch: int) -> None:
        super().__init__(random.choice([40, 60, N_CTX, 1000]), n_batch, tiled=False)
        self.random, self.n_trained = random, random.choice([50, N_CTX, N_CTX])
        self.failed = False
        self.befalls = self._befall

    def put(self, key: int, start: int, tokens: Sequence[int]) -> None:
        super().put(key, start, tokens)
        assert len(self.held[key]) <= self.n_trained
        assert min(self.text(key), default=0) >= 0, "texts with images are not for it"

    def _befall(self) -> int:
        assert self.abort[0] == b"\0", "an order to stop that was obeyed is taken back"
        fate = self.random.random()
        if fate < 0.002:
            self.failed = True
            raise EngineFailed("llama_decode failed")
        return ABORTED if fate < 0.03 else NO_SLOT if fate < 0.05 else 0

    def likeliest(self, row: int) -> int:
        return follows(self.rows[row]) if self.random.random() < 0.8 else self.random.randrange(65, 70)


class Kept:
    """The prefix cache over such cells; with the real tree."""

    def __init__(self, model: Cells, blocks: int) -> None:
        self._model, self.tree = model, PrefixTree(blocks * BLOCK)
        self._states: dict[int, list[int]] = {}
        self.hits = self.hit_tokens = 0

    def reusable(self, tokens: list[int]) -> int:
        return reusable(len(tokens), self._model.n_batch)

    def kept(self, tokens: list[int]) -> int:
        return sum(count for _, count in self.tree.match(tokens, self.reusable(tokens)))

    def attach(self, key: int, tokens: list[int], length: int) -> int:
        done = 0
        for state, count in self.tree.match(tokens, length):
            self._model.put(key, done, self._states[id(state)][:count])
            done += count
        self.hits += done > 0
        return done

    def share(self, source: int, key: int, length: int) -> None:
        assert not self._model.held.get(key)
        self._model.held[key] = self._model.held[source][:length]
        assert len(self._model.held[key]) == length
        self.hits += 1

    def keep(self, key: int, tokens: list[int]) -> None:
        assert self._model.text(key)[: len(tokens)] == tokens, "what is kept is what was computed"
        self.tree.keep(tokens, lambda start, end: self._take(key, start, end))

    def _take(self, key: int, start: int, end: int) -> bytearray:
        state = bytearray(BLOCK)
        self._states[id(state)] = self._model.text(key)[start:end]
        self._alive = [*getattr(self, "_alive", []), state]  # so that no other gets its id
        return state


class Sampler:
    alive = 0

    def __init__(self, request: GenerateRequest, *_: object, free_until: int | None = None) -> None:
        Sampler.alive += 1
        self._fails_at = 5 if request.sampling.seed == 13 else -1
        self._drawn = 0

    def sample(self, ctx: Cells, row: int) -> int:
        self._drawn += 1
        if self._drawn == self._fails_at:
            raise EngineFailed("the model computed no numbers", code="nan")
        return follows(ctx.rows[row])

    def drawn(self) -> Drawn:
        return Drawn()

    def close(self) -> None:
        Sampler.alive -= 1


@dataclass(eq=False)
class Image(Picture):
    closed: int = 0

    def close(self) -> None:
        self.closed += 1


def _prompt(random: Random) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokens that begin as others do, and perhaps images in them, never at the end."""
    tokens, images = [70 + random.randrange(2)] * random.choice([1, 40, 70]), []
    while random.random() < 0.4:
        count = random.randrange(1, 12)
        images.append((len(tokens), count))
        tokens += [-random.randrange(1, 3)] * count
    tokens += [random.randrange(65, 70) for _ in range(random.randrange(1, 50))]
    return tokens, images


class World:
    """A loop with its sessions, what came of them, and the misfortunes of a seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        n_kv, n_batch = self.random.choice([N_CTX, 200, 400]), self.random.choice([32, 33, 64])
        self.model = Cells(n_kv, n_batch, tiled=self.random.random() < 0.5)
        self.prompts: dict[bytes, tuple[list[int], list[tuple[int, int]]]] = {}
        self.most: dict[bytes, int] = {}  # tokens of a reply
        self.images: list[Image] = []
        self.said: dict[bytes, list[GenerationEvent]] = {}
        self.errors: dict[bytes, HaliError] = {}
        self.cancelled: list[bytes] = []
        self.retained = Kept(self.model, self.random.choice([1, 4, 100])) if self.random.random() < 0.8 else None
        speculation: Speculation = self.random.choice(["off", "always", "always", "auto"])
        self.draft = DraftCells(self.random, n_batch) if self.random.random() < 0.8 else None
        if self.draft is not None:
            self.draft.abort = self.model.abort
        self.loop = Loop(
            cast(Model, self.model),
            cast(Prompter, self),
            N_SEQ,
            self._emit,
            self._fail,
            retained=cast(Retained, self.retained),
            speculation=speculation,
            drafter=self._drafter(speculation),
            projector=cast(Projector, SimpleNamespace(decode=self._see)),
        )

    def _drafter(self, speculation: Speculation) -> Drafter | None:
        if self.draft is None:
            return None
        return Drafter(cast(Model, self.draft), Drafting(speculation), clock=lambda: self.random.random() / 1e6)

    def prompt(self, request: GenerateRequest) -> Prompt:
        tokens, images = self.prompts[(request.prompt or "").encode()]
        pictures = tuple(Image(start, count, None) for start, count in images)
        self.images += pictures
        return Prompt(tokens, (), pictures=pictures)

    def _see(self, _: object, key: int, image: Image, __: int) -> None:
        assert not image.closed
        if self.random.random() < 0.03:
            self.model.held[key] += [[-99]] * (image.count // 2)
            raise EngineFailed("an image could not be computed")
        session = self.loop._room.running[key]
        self.model.put(key, image.start, session.tokens[image.start : image.start + image.count])

    def _emit(self, ident: bytes, step: int, event: GenerationEvent) -> None:
        events = self.said.setdefault(ident, [])
        assert step == len(events)
        assert ident not in self.errors
        assert not events or not isinstance(events[-1], Done)
        events.append(event)

    def _fail(self, ident: bytes, error: HaliError) -> None:
        assert ident not in self.errors
        self.errors[ident] = error

    def over(self, ident: bytes) -> bool:
        events = self.said.get(ident, [])
        return ident in self.errors or bool(events and isinstance(events[-1], Done))

    def open(self, number: int) -> None:
        ident = b"%d" % number
        self.prompts[ident] = _prompt(self.random)
        sampling = SamplingParams(max_tokens=self.random.choice([0, 1, 30]), seed=self.random.choice([1, 2, 3, 13]))
        self.most[ident] = min(sampling.max_tokens or N_CTX, N_CTX - len(self.prompts[ident][0]))
        self.loop.open(ident, GenerateRequest(prompt=ident.decode(), sampling=sampling))

    def befall(self) -> int:
        """During a decode: perhaps somebody leaves, or it fails."""
        fate = self.random.random()
        if fate < 0.05 and self.loop._room.running:
            ident = self.random.choice(list(self.loop._room.running.values())).ident
            self.cancelled.append(ident)
            self.loop.interrupt(ident)
            return ABORTED if self.model.abort[0] == b"\1" else 0
        if fate < 0.07:
            return NO_SLOT
        if fate < 0.075:
            raise EngineFailed("llama_decode failed")
        return 0

    def turn(self) -> None:
        while self.cancelled:
            self.loop.cancel(self.cancelled.pop())
        self.loop.admit()
        self.loop.step()
        assert self.loop.stats().kv_used == self.model.used, "shared cells count once"

    def text(self, ident: bytes) -> str:
        return "".join(event.text for event in self.said.get(ident, []) if isinstance(event, Chunk))

    def ends_rightly(self, ident: bytes, count: int) -> bool:
        """Where the model says so, or at the last token there may be; unless it was cancelled."""
        done = self.said[ident][-1]
        assert isinstance(done, Done)
        assert done.usage.completion_tokens == count
        said = [ord(letter) for letter in self.alone(ident, count)]
        ends = follows([*self.prompts[ident][0], *said]) == END
        return done.reason == "cancelled" or (ends if done.reason == "stop" else count == self.most[ident])

    def alone(self, ident: bytes, count: int) -> str:
        text = list(self.prompts[ident][0])
        said = ""
        while len(said) < count:
            token = follows(text)
            text.append(token)
            said += chr(token)
        return said


@pytest.fixture(autouse=True)
def _fake_sampler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Sampler", Sampler)
    monkeypatch.setattr(opening, "Sampler", Sampler)
    monkeypatch.setattr(Sampler, "alive", 0)


@pytest.mark.parametrize("seed", range(60))
def test_each_session_says_what_it_would_alone_and_ends_once_and_leaves_nothing(seed: int) -> None:
    world = World(seed)
    world.model.befalls = world.befall
    for number in range(25):
        world.open(number)
        for _ in range(world.random.choice([0, 0, 1, 5, 60])):
            world.turn()
        if world.random.random() < 0.1:
            world.cancelled.append(b"%d" % world.random.randrange(number + 1))
    turns = 0
    while world.loop.busy:
        world.turn()
        turns += 1
        assert turns < 20_000, "sessions wait for each other"
    for ident in world.prompts:
        assert world.over(ident)
        said = world.text(ident)
        assert said == world.alone(ident, len(said))
        if ident not in world.errors:
            assert world.ends_rightly(ident, len(said))
    world.turn()  # late orders to cancel, and what the loop does at the beginning of a step
    _nothing_held(world)


def _nothing_held(world: World) -> None:
    stats = world.loop.stats()
    assert (stats.sessions, stats.queued, stats.kv_used, stats.sequences_free) == (0, 0, 0, N_SEQ)
    assert Sampler.alive == 0
    assert {image.closed for image in world.images} <= {1}
    sharing = world.loop._room.sharing
    assert (sharing.cells.used, sharing._donors, world.loop._read) == (0, {}, [])
    assert world.loop._interrupts._doomed == set()
    if world.draft is not None and not world.draft.failed:
        assert not any(world.draft.held.values()), "a draft model forgets whoever leaves"

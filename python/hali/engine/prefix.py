"""Which token blocks of past texts are kept, found by the text they begin with, and given up by age. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

BLOCK = 32  # tokens kept together; below that llama.cpp's work for each copy outweighs what it copies
# Texts are continued at multiples of it: ggml's repacked kernels take rows four at a time and the rest one by one, so
# that a row has the roundings it would have in a new text.
GRAIN = 4


@dataclass(eq=False, slots=True)
class Block:
    """`BLOCK` tokens after those of `parent`, fewer at the end of a text, with the state that llama.cpp had of them."""

    tokens: tuple[int, ...]
    parent: Block | None
    state: bytearray
    children: dict[tuple[int, ...], Block] = field(default_factory=dict)


class PrefixTree:
    """A tree of blocks: a path from the root is a text. Holds at most `budget` bytes of state."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.held = 0  # bytes of state
        self.tokens = 0  # whose state is kept
        self.evicted = 0  # blocks given up so far
        self._root = Block((), None, bytearray())
        self._ages: OrderedDict[Block, None] = OrderedDict()  # least recently used first, children before their parent

    def match(self, tokens: Sequence[int], limit: int) -> list[tuple[bytearray, int]]:
        """The longest kept beginning of `tokens`, at most `limit` of them: states, and how many tokens to take of each.

        Whole blocks, then what the next block has in common: others went on in another way from there.
        """
        tokens = tokens[: max(0, limit)]
        path = self._walk(tokens)
        found = [(block.state, BLOCK) for block in path]
        rest = tokens[len(path) * BLOCK :][: BLOCK - 1]
        best, common = None, GRAIN - 1
        for key, child in (path[-1] if path else self._root).children.items():
            alike = _common(key, rest)
            if alike > common:
                best, common = child, alike
        if best is not None:
            path.append(best)
            found.append((best.state, common - common % GRAIN))
        self._touch(path)
        return found

    def keep(self, tokens: Sequence[int], take: Callable[[int, int], bytearray]) -> None:
        """Keep `tokens` in blocks; `take(start, end)` gives the state of one that is missing, empty if it cannot.

        The last block is as long as the text goes on, in steps of `GRAIN`: what comes next mostly begins with all of it.
        """
        path = self._walk(tokens)
        self._touch(path)
        end = len(tokens) - len(tokens) % GRAIN
        for start in range(len(path) * BLOCK, end, BLOCK):
            parent, kept = path[-1] if path else self._root, tuple(tokens[start : min(start + BLOCK, end)])
            if len(kept) < BLOCK and any(key[: len(kept)] == kept for key in parent.children):
                break
            state = take(start, start + len(kept))
            if not state or not self._make_room(len(state), set(path)):
                break
            path.append(self._added(parent, kept, state))
        self._touch(path)

    def _added(self, parent: Block, tokens: tuple[int, ...], state: bytearray) -> Block:
        """A new block, in place of a shorter one that it begins with."""
        for key in [key for key in parent.children if len(key) < len(tokens) and tokens[: len(key)] == key]:
            self._drop(parent.children[key])
        block = Block(tokens, parent, state)
        parent.children[tokens] = block
        self.held += len(state)
        self.tokens += len(tokens)
        return block

    def _make_room(self, size: int, spared: set[Block]) -> bool:
        """Give up the least recently used blocks: none has children, whoever used one of them used it afterwards."""
        while self.held + size > self.budget:
            block = next(iter(self._ages), None)
            if block is None or block in spared:
                return False
            self._drop(block)
            self.evicted += 1
        return True

    def _drop(self, block: Block) -> None:
        assert block.parent is not None
        del block.parent.children[block.tokens]
        del self._ages[block]
        self.held -= len(block.state)
        self.tokens -= len(block.tokens)

    def _walk(self, tokens: Sequence[int]) -> list[Block]:
        found: list[Block] = []
        at = self._root
        for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
            child = at.children.get(tuple(tokens[start : start + BLOCK]))
            if child is None:
                break
            found.append(child)
            at = child
        return found

    def _touch(self, path: list[Block]) -> None:
        for block in reversed(path):
            self._ages[block] = None
            self._ages.move_to_end(block)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the beginning that both have."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def reusable(n_tokens: int, n_batch: int) -> int:
    """How many tokens of a text may come out of the cache, so that the rest is computed as it would be in a new one.

    The last token is always computed, for its logits. One row alone takes another kernel than several, with other
    roundings: where a new text would end in a batch of several rows, two are left to do.
    """
    last_batch = (n_tokens - 1) % n_batch + 1
    most = n_tokens - min(2, last_batch)
    return most - most % GRAIN

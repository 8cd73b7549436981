"""The tree of kept prefixes finds what a plain search finds, keeps its budget, and gives up the oldest first."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from hali.engine.prefix import BLOCK, GRAIN, PrefixTree, reusable

# Texts of a few long runs, so that many begin alike and part inside a block or at its border.
TEXTS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 50)), max_size=5).map(
    lambda runs: [token for token, count in runs for _ in range(count)]
)


def _state(tokens: list[int]) -> bytearray:
    """A state that names all it stands on, as a KV cell does."""
    return bytearray(str(tokens), "ascii")


def _keep(tree: PrefixTree, text: list[int]) -> None:
    tree.keep(text, lambda _, end: _state(text[:end]))


def _common(one: list[int], other: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@given(st.lists(TEXTS, max_size=8), TEXTS, st.integers(0, 200))
@settings(derandomize=True, max_examples=400, deadline=None)
def test_the_longest_kept_beginning_is_found_and_its_states_are_of_that_text(
    texts: list[list[int]], asked: list[int], limit: int
) -> None:
    tree = PrefixTree(1 << 30)
    for text in texts:
        _keep(tree, text)
    found = tree.match(asked, limit)
    best = max((min(limit, _common(text, asked)) for text in texts), default=0)
    assert sum(count for _, count in found) == best - best % GRAIN
    at = 0
    for state, count in found:
        kept = [int(token) for token in state.decode()[1:-1].split(", ")]
        assert at % BLOCK == 0 and at + count <= len(kept) <= at + BLOCK, "the state of the block that begins here"
        assert kept[: at + count] == asked[: at + count], "computed after the very same tokens"
        at += count
    assert tree.held == sum(len(block.state) for block in tree._ages)


@given(st.lists(TEXTS, min_size=1, max_size=30), st.integers(0, 3000))
@settings(derandomize=True, max_examples=200, deadline=None)
def test_the_budget_holds_and_no_block_is_left_without_what_comes_before_it(
    texts: list[list[int]], budget: int
) -> None:
    tree = PrefixTree(budget)
    for text in texts:
        _keep(tree, text)
        assert tree.held <= budget
        assert tree.held == sum(len(block.state) for block in tree._ages)
        reachable, tokens, at = 0, 0, [tree._root]
        while at:
            block = at.pop()
            at.extend(block.children.values())
            reachable += len(block.children)
            tokens += len(block.tokens)
            assert not block.children or len(block.tokens) in (0, BLOCK), "nothing follows a short one"
        assert reachable == len(tree._ages)
        assert tree.tokens == tokens


def test_a_block_that_llama_cpp_cannot_give_ends_the_kept_part() -> None:
    tree, text = PrefixTree(1 << 20), [1] * BLOCK + [2] * BLOCK + [3] * BLOCK
    tree.keep(text, lambda start, end: _state(text[:end]) if start != BLOCK else bytearray())
    assert tree.tokens == BLOCK


def test_a_text_that_goes_on_takes_the_place_of_its_short_end() -> None:
    tree, text = PrefixTree(1 << 20), [1] * BLOCK + [2] * 2 * GRAIN
    _keep(tree, text)
    _keep(tree, text[: BLOCK + GRAIN])
    assert tree.tokens == len(text), "the longer one has it"
    _keep(tree, [*text, *[2] * GRAIN])
    assert tree.tokens == len(text) + GRAIN
    _keep(tree, [*text, *[3] * BLOCK])
    assert tree.tokens == len(text) + GRAIN + BLOCK + 2 * GRAIN, "another continuation stands beside it"


def test_the_least_recently_used_text_gives_way() -> None:
    texts = [[number] * BLOCK for number in range(1, 4)]
    tree = PrefixTree(2 * len(_state(texts[0])))
    _keep(tree, texts[0])
    _keep(tree, texts[1])
    assert tree.match(texts[0], BLOCK), "used once more"
    _keep(tree, texts[2])
    assert [bool(tree.match(text, BLOCK)) for text in texts] == [True, False, True]
    assert tree.evicted == 1


@given(st.integers(1, 5000), st.integers(32, 512))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_the_rest_of_a_prompt_ends_in_a_batch_like_a_new_ones(n_tokens: int, n_batch: int) -> None:
    kept = reusable(n_tokens, n_batch)
    assert 0 <= kept < n_tokens
    assert kept % GRAIN == 0
    last = (n_tokens - 1) % n_batch + 1  # rows of the last batch of a new prompt
    ours = min(last, n_tokens - kept)
    assert (ours == 1) == (last == 1)

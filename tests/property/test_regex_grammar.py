"""A regular expression and the grammar made of it match the same texts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hali.api.regex_grammar import MAX_LENGTH, grammar_of

CHARS = "ab0_-^].$ {\n\u00e9\u8a69"
letters = st.sampled_from(CHARS).map(re.escape)
members = st.sampled_from(["a", "b", "a-c", "0-9", r"\d", r"\w", r"\s", r"\n", r"\]", r"\-", "^", ".", "$", "\u8a69"])
classes = st.tuples(st.sampled_from(["", "^"]), st.lists(members, min_size=1, max_size=3)).map(
    lambda made: f"[{made[0] if made[1][0] != '^' else ''}{''.join(made[1])}]".replace("[^]", r"[\^]")
)
atoms = letters | classes | st.sampled_from([".", r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", r"\x61", r"\u8a69", r"\t"])
counts = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,}", "{0,2}", "*?", "??", "{1,2}?"])
patterns = st.recursive(
    st.tuples(atoms, counts).map("".join),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map("".join),
        st.tuples(st.sampled_from(["(", "(?:", "(?P<x1>"]), inner, inner, st.sampled_from(["", "*", "?", "{2}"])).map(
            lambda made: f"{made[0]}{made[1]}|{made[2]}){made[3]}"
        ),
    ),
    max_leaves=6,
)


def as_regex(grammar: str) -> re.Pattern[str]:
    """What is made of literals, classes, brackets and repetitions is a regular expression once spaces and quotes are gone."""
    return re.compile(grammar.removeprefix("root ::= ").replace(" ", "").replace('"', ""), re.DOTALL)


@given(patterns, st.lists(st.text(CHARS + "c1", max_size=5), max_size=8), st.data())
def test_both_match_the_same_texts(pattern, texts, data) -> None:
    pattern = re.sub(r"\(\?P<x1>", "(", pattern) if pattern.count("(?P<x1>") > 1 else pattern  # names are there once
    wanted = re.compile(pattern, re.ASCII)
    made = as_regex(grammar_of(pattern))
    for text in [*texts, data.draw(st.from_regex(wanted, fullmatch=True))]:
        assert bool(made.fullmatch(text)) == bool(wanted.fullmatch(text)), (pattern, text)


@pytest.mark.parametrize(
    "pattern",
    [
        *".a ",
        *(rf"\{kind}" for kind in "dDwWsSnrtfv.+\\-"),
        r"[\s\d]",
        r"[^\w\s]",
        "[a-c-]",
        "[^-a]",
        "[]^]",
        r"\x41",
    ],
)
def test_each_sign_stands_for_the_same_characters(pattern) -> None:
    made = as_regex(grammar_of(pattern))
    for char in map(chr, range(0x250)):
        assert bool(made.fullmatch(char)) == bool(re.fullmatch(pattern, char, re.ASCII)), (pattern, char)


@pytest.mark.parametrize("pattern", ["^ab$", "^a|b$", "ab$", "^ab", "(a|)", "", "a|", "[]a]", "[a-]", r"\{\}", "(?:a)"])
def test_what_is_special_only_at_some_places_is_understood_there(pattern) -> None:
    made = as_regex(grammar_of(pattern))
    for text in ("", "a", "b", "ab", "]", "-", "{}", "^ab", "$", "c"):
        assert bool(made.fullmatch(text)) == bool(re.fullmatch(pattern, text)), (pattern, text)


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "(?=a)",
            "(?!a)",
            "(?<=a)",
            "(?<!a)",
            "(?i)a",
            "(?#a)",
            "(?P=x)",
            r"(a)\1",
            r"\ba",
            r"a\Z",
            r"\p{L}",
            r"\N{DASH}",
        ),
        *("a^b", "a$b", "(^a)", "*a", "a**", "a*+", "a{2}{3}", "a{", "a{x}", "a{3,2}", "a{999999}"),
        *(
            "(a",
            "a)",
            "[a",
            "[",
            "\\",
            r"\x6",
            r"\xZZ",
            r"\U00110000",
            "[z-a]",
            r"[a-\d]",
            r"[\D]",
            "(" * 40 + "a" + ")" * 40,
            "a" * (MAX_LENGTH + 1),
        ),
    ],
    ids=lambda pattern: pattern[:20],
)
def test_what_a_grammar_cannot_say_is_refused(pattern) -> None:
    with pytest.raises(ValueError):
        grammar_of(pattern)


@given(st.text(max_size=30) | st.text("()[]{}|*+?^$.\\-,019axudDsSP<>=!:", max_size=30))
def test_any_text_is_translated_or_refused(pattern) -> None:
    try:
        grammar = grammar_of(pattern)
    except ValueError:
        return
    assert grammar.isascii() and "\n" not in grammar

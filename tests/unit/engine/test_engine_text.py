"""Stop strings and UTF-8 in the cases that have a name."""

from __future__ import annotations

from hali.engine.text import StopMatcher, TextStream


def run(stops: list[str], *pieces: bytes) -> tuple[list[str], bool]:
    stream = TextStream(stops)
    found = []
    for piece in pieces:
        found.append(stream.push(piece))
        if stream.stopped:
            return found, True
    return [*found, stream.finish()], False


def test_without_stop_strings_text_is_final_at_once() -> None:
    assert run([], b"Hel", b"lo") == (["Hel", "lo", ""], False)


def test_a_stop_string_is_held_back_until_it_cannot_come_any_more() -> None:
    assert run(["END"], b"the E", b"N", b"V") == (["the ", "", "ENV", ""], False)


def test_a_stop_string_over_several_tokens_ends_the_text_before_it() -> None:
    assert run(["END"], b"the E", b"N", b"D of it") == (["the ", "", ""], True)


def test_the_stop_string_that_ends_first_wins_however_the_text_is_cut() -> None:
    assert run(["late", "a"], b"x a late") == (["x "], True)
    assert run(["abcd", "bc"], b"abcd") == (["a"], True)
    assert run(["abcd", "bc"], b"a", b"b", b"c", b"d") == (["", "", "a"], True)


def test_what_was_held_back_is_given_out_at_the_end() -> None:
    assert run(["END"], b"EN") == (["", "EN"], False)


def test_an_empty_stop_string_stops_nothing() -> None:
    assert run([""], b"abc") == (["abc", ""], False)


def test_a_stop_string_may_be_part_of_a_character_of_several_tokens() -> None:
    llama = "🦙".encode()
    assert run(["🦙"], b"a" + llama[:2], llama[2:]) == (["a", ""], True)


def test_a_character_over_several_tokens_comes_out_whole() -> None:
    llama = "🦙".encode()
    assert run([], llama[:1], llama[1:3], llama[3:] + b"!") == (["", "", "🦙!", ""], False)


def test_a_character_that_never_becomes_whole_is_dropped() -> None:
    assert run([], b"a\xf0\x9f") == (["a", ""], False)
    assert run([], b"a\xf0\x9fb") == (["ab", ""], False)


def test_the_matcher_keeps_no_more_than_a_stop_string_less_one_byte() -> None:
    matcher = StopMatcher([b"aaaa"])
    assert matcher.push(b"aaa") == (b"", None)
    assert matcher.flush() == b"aaa"

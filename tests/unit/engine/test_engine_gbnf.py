"""GBNF in, Lark out: what is said about texts that are no grammar. What grammars mean is tried with a model's vocabulary."""

from __future__ import annotations

import pytest

from hali.engine.gbnf import MAX_BYTES, MAX_DEPTH, to_lark
from hali.model.errors import UsageError


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no rule is called 'root'"),
        ('leaf ::= "a"', "no rule is called 'root'"),
        ("root ::= leaf", "no rule is called 'leaf'"),
        ('root = "a"', "expected '::='"),
        ('root ::= "a\n', "ends inside quotes"),
        ("root ::= [a", "ends inside quotes or brackets"),
        ('root ::= ("a"', r"expected '\)'"),
        ('root ::= "a")', r"unexpected '\)'"),
        ("root ::= *", "unexpected"),
        ('root ::= ""*', "nothing to repeat"),
        ("root ::= []", "no character fits"),
        ("root ::= [z-a]", "no character fits"),
        ('root ::= "\\ud800"', "no character fits"),
        ('root ::= "\\q"', "no escape"),
        ('root ::= "\\x4"', "2 hexadecimal digits"),
        ('root ::= "\\U00110000"', "8 hexadecimal digits"),
        ('root ::= "a"{3,2}', "at least 3 and at most 2"),
        ('root ::= "a"{,2}', "expected {m}"),
        ('root ::= "a"{10001}', "more than 10000"),
        ('root ::= "a"{99999999999999}', "more than 10000"),
        ("root ::= <think>", "tokens in a grammar are not supported"),
        ("root ::= " + "(" * (MAX_DEPTH + 1), "brackets inside each other"),
        ('root ::= "' + "a" * MAX_BYTES + '"', "longer than"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_grammar_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        to_lark(text)
    assert caught.value.code == "grammar"


def test_the_line_is_told() -> None:
    with pytest.raises(UsageError, match="line 3"):
        to_lark('root ::= "a"\n# comment\nleaf ::= *\n')


def test_each_character_is_a_terminal_and_equal_ones_are_one() -> None:
    assert to_lark('root ::= "aba"').splitlines() == [
        "%llguidance {}",
        "start: n0",
        "n0: T0 T1 T0",
        "T0: /[\\x{61}-\\x{61}]/",
        "T1: /[\\x{62}-\\x{62}]/",
    ]


def test_spaces_comments_and_new_lines_stand_where_llama_cpp_lets_them() -> None:
    plain = to_lark('root ::= ("a" | "b")+ leaf\nleaf ::= "c"')
    spread = to_lark('\n # first\nroot ::= # here\n ( "a" |\n "b" # too\n )+ leaf # end\r\n\nleaf\t::=\n"c"\n')
    assert spread == plain

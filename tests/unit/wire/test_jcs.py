"""RFC 8785: the examples of the RFC, and its table of numbers."""

from __future__ import annotations

import json
import struct

import pytest

from hali.wire import jcs

# RFC 8785, appendix B: the IEEE-754 bits and their text.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize("bits", NUMBERS)
def test_numbers_are_written_as_in_appendix_b(bits: str) -> None:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert jcs.number(value) == NUMBERS[bits]


def test_the_example_of_section_3_2_2_is_canonical() -> None:
    text = rb"""{
      "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
      "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
      "literals": [null, true, false]
    }"""
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert jcs.encode(jcs.decode(text)).decode() == expected


def test_names_are_sorted_by_utf_16_code_units_as_in_section_3_2_3() -> None:
    text = (
        r'{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",'
        r' "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"}'
    )
    order = list(json.loads(jcs.encode(jcs.decode(text.encode()))).values())
    assert order == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]


@pytest.mark.parametrize(
    "value", [2**53, -(2**53), float("nan"), float("inf"), "\ud800", {"\udc00": 1}, {1: 2}, {1}, b"x"]
)
def test_what_i_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # each has a text of its own
        jcs.encode(value)


@pytest.mark.parametrize("text", [b'{"a":1,"a":2}', b"NaN", b"[" * 100_000, b"{", b"\xff"])
def test_texts_that_readers_take_differently_are_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        jcs.decode(text)


def test_deep_nesting_is_refused() -> None:
    value: object = 1
    for _ in range(jcs.MAX_DEPTH + 2):
        value = [value]
    with pytest.raises(ValueError, match="nested"):
        jcs.encode(value)

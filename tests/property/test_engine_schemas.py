"""What llguidance makes of our schemas: no reply that is no instance of the schema as it was sent."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from hali.engine.schemas import exact, guarded, guided
from hali.model.errors import UsageError

BYTES = LLTokenizer("byte")
ASCII = [chr(code) for code in range(128)]
SPELLED = {  # each character in all the ways that JSON has for it
    char: {json.dumps(char), f'"\\u{ord(char):04x}"', *(['"\\/"'] if char == "/" else [])} for char in ASCII
}
codes = st.integers(0, 127)


def matcher(schema: Any) -> LLMatcher:
    found = LLMatcher(BYTES, LLMatcher.grammar_from_json_schema(json.dumps(exact(schema))))
    assert not found.get_error(), found.get_error()
    return found


def guided_matcher(schema: dict[str, Any]) -> LLMatcher:
    found = LLMatcher(BYTES, LLMatcher.grammar_from_json_schema(json.dumps(guided(schema, json.dumps(schema)))))
    assert not found.get_error(), found.get_error()
    return found


def takes(made: LLMatcher, text: str) -> bool:
    one = made.deep_copy()
    return one.try_consume_tokens(list(text.encode())) == len(text.encode()) and bool(one.is_accepting())


def listed(chars: list[int]) -> str:
    return "".join(f"\\x{code:02x}" for code in chars)


classes = st.one_of(
    st.lists(codes, min_size=1, max_size=6).map(lambda chars: f"[^{listed(chars)}]"),
    st.lists(codes, min_size=60, max_size=120, unique=True).map(lambda chars: f"[{listed(chars)}]"),
    st.tuples(codes, codes).map(lambda pair: f"[\\x{min(pair):02x}-\\x{max(max(pair), 1):02x}]"),
)


@given(classes)
@example(r'[^\\/:*?"<>|]')
@example(r"[\x00-\x1f]")
@example(r"(?:[^\\]|x)")
@example(r"(?:\x00|[^\"])")
@example(r"(?:[^\"]|\u{0}|\n)")
@example(r"[^]\\]")
def test_a_pattern_lets_nothing_through_that_it_excludes(pattern: str) -> None:
    made = matcher({"type": "string", "pattern": f"^{pattern}$"})
    wanted = re.compile(pattern.replace(r"\u{0}", r"\x00"))
    for char, ways in SPELLED.items():
        if wanted.fullmatch(char) is None:
            assert not any(takes(made, way) for way in ways), repr(char)
        else:
            assert takes(made, json.dumps(char)) is (char != "\0")


def test_a_unicode_class_and_names_of_properties_are_guarded_too() -> None:
    assert not takes(matcher({"type": "string", "pattern": r"^\p{Cc}$"}), r'"\\"')
    only = {"type": "object", "patternProperties": {r"^[^\\]$": {"type": "integer"}}, "additionalProperties": False}
    assert takes(matcher(only), '{"a":1}')
    assert not takes(matcher(only), r'{"\\":1}')


@given(st.text(alphabet=r"[]^\xpP{}ab-&:", max_size=12))
def test_of_any_pattern_all_is_kept_in_its_order(pattern: str) -> None:
    said = iter(guarded(pattern))
    assert all(char in said for char in pattern)


def test_what_only_looks_like_a_schema_stays_as_it_is() -> None:
    value = {"pattern": r"[^\\]", "format": "date", "minProperties": 9}
    for keyword in ("const", "default"):
        assert exact({keyword: value}) == {keyword: value}
    assert exact({"enum": [value]}) == {"enum": [value]}
    named = exact({"properties": {"const": {"type": "string", "pattern": "[^a]"}, "pattern": {"type": "string"}}})
    assert named == {
        "properties": {"const": {"type": "string", "pattern": r"[[^a]--\x00]"}, "pattern": {"type": "string"}}
    }
    assert exact(True) is True


@pytest.mark.parametrize("of", [{}, {"pattern": "^2"}, {"type": ["string", "null"]}, {"allOf": [{"minLength": 3}]}])
def test_a_date_is_a_day_that_there_is(of: dict[str, Any]) -> None:
    made = matcher({"type": "string", "format": "date"} | of)
    days = ("2024-02-29", "2023-02-29", "2000-02-29", "2100-02-29", "2023-04-31", "2023-12-31", "2023-13-01")
    assert [day for day in days if takes(made, f'"{day}"')] == ["2024-02-29", "2000-02-29", "2023-12-31"]
    assert takes(made, "null") is ("null" in of.get("type", ""))


def test_a_moment_is_on_a_day_that_there_is() -> None:
    made = matcher({"type": "string", "format": "date-time"})
    assert takes(made, '"2024-02-29T10:00:00Z"')
    assert not takes(made, '"2023-02-29T10:00:00Z"')


@pytest.mark.parametrize(
    ("schema", "taken"),
    [
        ({"minProperties": 2}, False),
        ({"minProperties": 1}, True),
        ({"minProperties": 2, "additionalProperties": False, "patternProperties": {"^a$": True}}, False),
        ({"minProperties": 2, "required": ["a"], "properties": {"a": True}}, True),
        ({"minProperties": 3, "required": ["a", "a"], "properties": {"a": True}}, False),
        (
            {
                "minProperties": 2,
                "required": ["a", "b"],
                "properties": {"a": {}, "b": {}},
                "additionalProperties": False,
            },
            True,
        ),
    ],
)
def test_properties_that_may_come_twice_are_not_counted(schema: dict[str, Any], taken: bool) -> None:
    """Of two equal keys only one is left where JSON is read."""
    schema = {"type": "object", **schema}
    for nested in (schema, {"type": "array", "items": {"anyOf": [schema]}}):
        if taken:
            assert exact(nested)
        else:
            with pytest.raises(UsageError, match="minProperties"):
                exact(nested)


BOUNDS = ("-10", "-1", "-0.5", "-0.001", "0", "0.001", "0.01", "0.1", "0.5", "1", "7", "9.99", "100")
BOUND = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")


def near(bound: Decimal) -> set[str]:
    """Numbers at a bound and beside it, in the ways that JSON has for them."""
    found = {"-0", "-0.0", "0.0"}
    for away in ("0", "1", "-1", "0.1", "-0.1", "0.0001", "-0.0001"):
        number = bound + Decimal(away)
        found |= {format(number, "f"), format(number.quantize(Decimal("0.00001")), "f")}
    return found


@given(
    st.sampled_from(["number", "integer"]),
    st.dictionaries(st.sampled_from(BOUND), st.sampled_from(BOUNDS), min_size=1),
)
@example("number", {"minimum": "0", "exclusiveMinimum": "0", "maximum": "0.001"})
@example("number", {"minimum": "-0.5", "exclusiveMaximum": "0"})
def test_no_number_beyond_its_bounds_comes(kind: str, bounds: dict[str, str]) -> None:
    schema = {"type": kind, **{name: json.loads(bound) for name, bound in bounds.items()}}
    made = LLMatcher(BYTES, LLMatcher.grammar_from_json_schema(json.dumps(exact(schema))))
    if made.get_error():  # no number fits
        return
    for text in set().union(*(near(Decimal(bound)) for bound in bounds.values())):
        if takes(made, text):
            jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize("bound", [2**53 + 1, 2**62 + 1, -(2**53) - 1, 2**63 - 1, 2**64 - 1])
def test_bounds_that_no_float_has_hold_too(bound: int) -> None:
    for name in BOUND:
        made = LLMatcher(BYTES, LLMatcher.grammar_from_json_schema(json.dumps(exact({"type": "integer", name: bound}))))
        for number in range(bound - 3, bound + 4) if not made.get_error() else ():
            if takes(made, str(number)):
                jsonschema.validate(number, {"type": "integer", name: bound})
    assert takes(matcher({"type": "integer", "maximum": abs(bound)}), "7")


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ({"type": "object", "properties": {"a": {"const": 1}}}, r'{"\u0061":2}'),
        ({"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}, r'{"a":1,"\u0061":2}'),
        ({"type": "object", "patternProperties": {"^[a-z]+$": {"const": 1}}}, r'{"\u0078":2}'),
        ({"type": "object", "properties": {"a\nb": {"const": 1}}}, r'{"a\u000ab":2}'),
    ],
)
def test_a_name_that_is_spelled_otherwise_goes_round_no_property(schema: dict[str, Any], wrong: str) -> None:
    made = guided_matcher(schema)
    assert not takes(made, wrong)
    assert takes(made, '{"A":2}' if "required" not in schema else '{"a":1,"A":2}')


@pytest.mark.parametrize("text", ["\x01", "a\x7f", "\0", 'a\n\t"\\/\b\f\r', "é\u2028😀"])
def test_text_that_only_escapes_can_say_can_still_be_asked_for(text: str) -> None:
    for spelled in {
        json.dumps(text),
        json.dumps(text, ensure_ascii=False),
        json.dumps(text).replace("\x7f", r"\u007f"),
    }:
        if takes(guided_matcher({"const": text}), spelled):
            break
    else:
        pytest.fail(f"{text!r} cannot be said")


@pytest.mark.parametrize("value", [2**53 + 1, [1, {"id": 1234567890123456789}], -(2**64)])
def test_a_number_that_would_come_as_another_one_is_refused(value: Any) -> None:
    for schema in ({"const": value}, {"enum": [5, value]}):
        with pytest.raises(UsageError, match="53 bits"):
            exact(schema)
    assert takes(matcher({"enum": [2**53, True]}), str(2**53))


def test_seconds_are_of_this_minute_and_what_asks_for_nothing_is_no_trouble() -> None:
    for kind, text in (("time", "12:00:{}Z"), ("date-time", "2024-02-29T10:00:{}Z")):
        made = matcher({"type": "string", "format": kind})
        assert takes(made, json.dumps(text.format(59)))
        assert not takes(made, json.dumps(text.format(60)))
    assert takes(matcher({"type": "array", "uniqueItems": False}), "[1,1]")

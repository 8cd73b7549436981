"""Objects of a schema that says nothing of other properties have none; where that could make it another schema, it stays."""

from __future__ import annotations

from typing import Any

import pytest

from hali.engine.closed import closed

TEXT = {"type": "string"}


def an_object(**more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": TEXT, "b": TEXT}, **more}


def test_objects_are_closed_wherever_they_stand() -> None:
    schema = {
        "properties": {
            "one": an_object(),
            "many": {"type": "array", "items": an_object()},
            "either": {"anyOf": [an_object(), {"type": "null"}], "title": "Either"},
            "named": {"allOf": [{"$ref": "#/$defs/twig"}], "description": "as Pydantic 1 writes it"},
        },
        "$defs": {"twig": {"type": "object", "properties": {}}},
    }
    shut = an_object(additionalProperties=False)
    assert closed(schema) == {
        "properties": {
            "one": shut,
            "many": {"type": "array", "items": shut},
            "either": {"anyOf": [shut, {"type": "null"}], "title": "Either"},
            "named": schema["properties"]["named"],
        },
        "$defs": {"twig": {"type": "object", "properties": {}, "additionalProperties": False}},
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        an_object(additionalProperties=True),
        an_object(additionalProperties=TEXT),
        an_object(patternProperties={"^x": TEXT}),
        an_object(required=["a", "c"]),
        an_object(minProperties=3),
        an_object(default={"properties": {}}, additionalProperties={}),
        an_object(anyOf=[{"required": ["a"]}, {"required": ["b"]}]),
        an_object(**{"$ref": "#/$defs/more"}),
        {"allOf": [an_object(), {"properties": {"c": TEXT}}]},
        {"anyOf": [an_object(), TEXT], "required": ["a"]},
        {"if": an_object(), "then": TEXT},
        {"items": an_object(), "not": {"const": []}},
        {"const": an_object()},
        True,
    ],
)
def test_what_would_be_another_schema_stays_as_it_is(schema: Any) -> None:
    assert closed(schema) == schema

"""The schema of a call that must be made: the tool's own, moved into another one."""

from __future__ import annotations

from typing import Any

import pytest

from hali.engine.forced import forced_schema
from hali.model.errors import UsageError
from hali.model.generation import GenerateRequest, Tool


def arguments(parameters: dict[str, Any]) -> Any:
    asked = GenerateRequest(prompt="x", tools=(Tool("f", parameters=parameters),), tool_choice="required")
    schema = forced_schema(asked)
    assert schema is not None
    return schema["properties"]["arguments"]


@pytest.mark.parametrize("keyword", ["const", "default"])
def test_what_only_looks_like_a_reference_stays_as_it_is(keyword: str) -> None:
    schema = {"type": "object", "properties": {"a": {keyword: {"$ref": "#/y"}}, "b": {"enum": [{"$ref": "#/y"}]}}}
    assert arguments(schema) == schema


def test_references_lead_into_the_tools_own_schema_also_under_names_that_are_keywords() -> None:
    moved = arguments({"$defs": {"enum": {"$ref": "#/$defs/b"}, "b": {}}, "properties": {"const": {"$ref": "#"}}})
    assert moved["$defs"]["enum"] == {"$ref": "#/properties/arguments/$defs/b"}
    assert moved["properties"]["const"] == {"$ref": "#/properties/arguments"}


def test_arguments_are_an_object_also_where_the_schema_does_not_say_so() -> None:
    assert arguments({"properties": {}}) == {"type": "object", "properties": {}}


def test_an_anchor_is_no_place() -> None:
    assert arguments({"properties": {"a": {"$ref": "#here"}}})["properties"]["a"] == {"$ref": "#here"}


def test_parameters_that_are_nested_too_deeply_are_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(2000):
        schema = {"properties": {"a": schema}}
    with pytest.raises(UsageError, match="nested too deeply"):
        arguments(schema)

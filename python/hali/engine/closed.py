"""JSON schemas whose objects have no properties but those they list, where they do not say otherwise. Pure.

Such replies are instances of the schema as it was, and what its author means: Pydantic leaves `additionalProperties` out, and a
small model fills an open object with keys of its own until the reply is cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hali.engine.schemas import NAMED, VALUES

_OF_OBJECTS = {
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
}
_OPEN = {
    "additionalProperties",
    "patternProperties",
    "propertyNames",
}  # with these a schema says itself what else may come
_CHOOSE = {"allOf", "anyOf", "oneOf", "$ref"}
_TOGETHER = {"not", "if", "dependentSchemas", "dependencies", "unevaluatedProperties", "$dynamicRef", "$recursiveRef"}


def closed(schema: Any) -> Any:
    """The same schema with its objects closed; as it is where several of its schemas speak of one object."""
    return schema if _combines(schema) else _closed(schema)


def _combines(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        speakers = [schema.keys() & _OF_OBJECTS, *({key} for key in schema.keys() & _CHOOSE)]
        also = schema.get("allOf")
        if schema.keys() & _TOGETHER or sum(map(bool, speakers)) > 1 or (isinstance(also, list) and len(also) > 1):
            return True
    return any(map(_combines, _within(schema)))


def _within(schema: Any) -> Iterator[Any]:
    """The schemas directly inside of one, or of a list of them."""
    if isinstance(schema, list):
        yield from schema
    elif isinstance(schema, Mapping):
        for key, value in schema.items():
            if key in NAMED and isinstance(value, Mapping):
                yield from value.values()
            elif key not in VALUES:
                yield value


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {key: _closed_value(key, value) for key, value in schema.items()}
    return found | {"additionalProperties": False} if _closes(schema) else found


def _closed_value(key: str, value: Any) -> Any:
    if key in VALUES:
        return value
    if key in NAMED and isinstance(value, Mapping):
        return {name: _closed(each) for name, each in value.items()}
    return _closed(value)


def _closes(schema: Mapping[str, Any]) -> bool:
    """Whether an object of no other properties than those listed can be an instance."""
    listed, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(listed, Mapping) or schema.keys() & _OPEN or not isinstance(required, list):
        return False
    least = schema.get("minProperties", 0)
    return listed.keys() >= {*map(str, required)} and isinstance(least, int | float) and least <= len(listed)

"""JSON schemas whose objects have no properties but those they list, where they do not say otherwise. Pure.

Such replies are instances of the schema as it was, and what its author means: Pydantic leaves `additionalProperties` out, and a
small model fills an open object with keys of its own until the reply is cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hali.engine.schemas import mapped

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
    inner: list[Any] = []
    mapped(schema, inner.append)
    return any(map(_combines, inner))


def _closed(schema: Any) -> Any:
    found = mapped(schema, _closed)
    return found | {"additionalProperties": False} if isinstance(schema, Mapping) and _closes(schema) else found


def _closes(schema: Mapping[str, Any]) -> bool:
    """Whether an object of no other properties than those listed can be an instance."""
    listed, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(listed, Mapping) or schema.keys() & _OPEN or not isinstance(required, list):
        return False
    least = schema.get("minProperties", 0)
    return listed.keys() >= {*map(str, required)} and isinstance(least, int | float) and least <= len(listed)

"""Random JSON schemas, as clients write them: nested objects, lists with bounds, choices, references, strings of all kinds."""

from __future__ import annotations

import random
from typing import Any

Schema = dict[str, Any]
WORDS = ("name", "city", "count", "kind", "owner", "price", "state", "title", "unit", "année", "first name", "日付")
PATTERNS = ("^[a-z]{2,8}$", "^[A-Z]{3}-[0-9]{4}$", "^(red|green|blue)$", r"^\+?[0-9]{3,9}$", "^#[0-9a-f]{6}$")
FORMATS = ("date", "ipv4", "uuid")  # of bounded length: a weak model writes the fractions of "time" for ever
CHOICES = ("small", 'a "quoted" word', "back\\slash", "línea", 7, -3, 2.5, True, None)


def random_schema(rng: random.Random) -> Schema:
    """An object whose instances are at most some hundred tokens long."""
    defs: Schema = {}
    for name in ("leaf", "twig", "branch")[: rng.randint(0, 3)]:
        defs[name] = _object(rng, 2, dict(defs))  # refers to those before it
    schema = _object(rng, 0, defs)
    return {**schema, "$defs": defs} if defs else schema


def _any(rng: random.Random, depth: int, defs: Schema) -> Schema:
    simple = [_string, _integer, _number, _choice, _constant, _flag]
    nested = [_object, _list, _either, _reference] if depth < 3 else [_reference]
    make = rng.choice([*simple, *nested])
    return make(rng, depth + 1, defs)


def _object(rng: random.Random, depth: int, defs: Schema) -> Schema:
    names = rng.sample(WORDS, rng.randint(1, 4 - min(depth, 2)))
    properties = {name: _any(rng, depth, defs) for name in names}
    required = [name for name in names if rng.random() < 0.7]
    found: Schema = {"type": "object", "properties": properties, "required": required}
    return found if rng.random() < 0.5 else {**found, "additionalProperties": False}


def _list(rng: random.Random, depth: int, defs: Schema) -> Schema:
    least = rng.randint(0, 2)
    found: Schema = {
        "type": "array",
        "items": _any(rng, depth, defs),
        "minItems": least,
        "maxItems": least + rng.randint(0, 2),
    }
    if rng.random() < 0.2:
        found["prefixItems"] = [_any(rng, 3, defs)]
    return found


def _either(rng: random.Random, depth: int, defs: Schema) -> Schema:
    return {"anyOf": [_any(rng, depth, defs) for _ in range(rng.randint(2, 3))]}


def _reference(rng: random.Random, depth: int, defs: Schema) -> Schema:
    return {"$ref": f"#/$defs/{rng.choice(sorted(defs))}"} if defs else _flag(rng, depth, defs)


def _string(rng: random.Random, depth: int, defs: Schema) -> Schema:
    kind = rng.randrange(3)
    if kind == 0:
        return {"type": "string", "pattern": rng.choice(PATTERNS)}
    if kind == 1:
        return {"type": "string", "format": rng.choice(FORMATS)}
    least = rng.randint(0, 5)
    return {"type": "string", "minLength": least, "maxLength": least + rng.randint(0, 12)}


def _integer(rng: random.Random, depth: int, defs: Schema) -> Schema:
    least = rng.randint(-1000, 1000)
    return {
        "type": "integer",
        rng.choice(["minimum", "exclusiveMinimum"]): least,
        "maximum": least + rng.randint(1, 5000),
    }


def _number(rng: random.Random, depth: int, defs: Schema) -> Schema:
    least = rng.randint(-100, 100) / 4
    found: Schema = {"type": "number", "minimum": least, rng.choice(["maximum", "exclusiveMaximum"]): least + 10.5}
    return {**found, "multipleOf": rng.choice([0.25, 0.5])}  # without it a weak model writes digits for ever


def _choice(rng: random.Random, depth: int, defs: Schema) -> Schema:
    return {"enum": rng.sample(CHOICES, rng.randint(1, 5))}


def _constant(rng: random.Random, depth: int, defs: Schema) -> Schema:
    return {"const": rng.choice([*CHOICES, {"a": [1, "b"]}, [], ""])}


def _flag(rng: random.Random, depth: int, defs: Schema) -> Schema:
    return {"type": rng.choice(["boolean", "null"])}

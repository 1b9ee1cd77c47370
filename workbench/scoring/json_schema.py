"""Validation by a part of JSON Schema (2020-12): an unknown keyword is an error, never ignored.

Known: type, enum, const; properties, required, additionalProperties, minProperties, maxProperties;
items, prefixItems, minItems, maxItems, uniqueItems; minimum, maximum, exclusiveMinimum,
exclusiveMaximum, multipleOf; minLength, maxLength, pattern; allOf, anyOf, oneOf, not. Words that
only describe are passed over.
"""

import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from workbench.errors import TaskError
from workbench.scoring.items import TaskItem
from workbench.scoring.words import matches

_DESCRIBE = {"$schema", "$id", "$comment", "title", "description", "default", "examples"}
_DEEPEST = 64


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "number": _number,
    "integer": lambda v: _number(v) and (isinstance(v, int) or v.is_integer()),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
}
_SCHEMAS = {"additionalProperties", "items", "not"}
_SCHEMA_LISTS = {"prefixItems", "allOf", "anyOf", "oneOf"}
_COUNTS = {"minProperties", "maxProperties", "minItems", "maxItems", "minLength", "maxLength"}
_LIMITS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_OTHERS = {"type", "enum", "const", "properties", "required", "uniqueItems", "pattern"}
KEYWORDS = frozenset(_SCHEMAS | _SCHEMA_LISTS | _COUNTS | _LIMITS | _OTHERS)


def check(item: TaskItem, schema: Any, depth: int = 0) -> None:
    """Refuse a schema that is broken or holds a keyword that is not checked here."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict) or depth > _DEEPEST:
        raise TaskError(f"{item.place}: schema {str(schema)[:80]!r} is no JSON Schema object")
    for word in schema.keys() - _DESCRIBE:
        if word not in KEYWORDS:
            raise TaskError(
                f"{item.place}: schema keyword {word!r} is not checked here; known are"
                f" {', '.join(sorted(KEYWORDS))}"
            )
        if not _well_formed(word, schema[word]):
            raise TaskError(
                f"{item.place}: schema: {word} = {str(schema[word])[:80]} is not usable"
            )
    for inner in _inner(schema):
        check(item, inner, depth + 1)
    if "pattern" in schema:
        matches(item, schema["pattern"], "", whole=False)


def _well_formed(word: str, value: Any) -> bool:
    if word in _COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if word in _LIMITS:
        return _number(value) and (word != "multipleOf" or value > 0)
    if word in _SCHEMA_LISTS or word == "enum":
        return isinstance(value, list) and bool(value)
    if word == "type":
        names = value if isinstance(value, list) else [value]
        return bool(names) and all(isinstance(n, str) and n in _TYPES for n in names)
    if word == "required":
        return isinstance(value, list) and all(isinstance(n, str) for n in value)
    kinds = {"properties": dict, "uniqueItems": bool, "pattern": str}
    return isinstance(value, kinds.get(word, object))


def _inner(schema: dict[str, Any]) -> list[Any]:
    schemas = [schema[w] for w in _SCHEMAS if w in schema]
    schemas += [inner for w in _SCHEMA_LISTS for inner in schema.get(w, [])]
    return schemas + list(schema.get("properties", {}).values())


def valid(item: TaskItem, value: Any, schema: Any) -> bool:
    """Whether a value holds to a schema that `check` let pass."""
    if isinstance(schema, bool):
        return schema
    if not _right_kind(value, schema):
        return False
    parts: dict[type, Callable[..., bool]] = {
        dict: _object,
        list: _array,
        str: _string,
        int: _limits,
        float: _limits,
    }
    part = parts.get(type(value))
    return (part is None or part(item, value, schema)) and _combined(item, value, schema)


def _key(value: Any) -> str:
    """Write a value so that equal JSON values are equal: 1.0 is 1, true is not."""

    def fold(v: Any) -> Any:
        if isinstance(v, float) and v.is_integer():
            return int(v)
        if isinstance(v, dict):
            return {k: fold(x) for k, x in v.items()}
        return [fold(x) for x in v] if isinstance(v, list) else v

    return json.dumps(fold(value), sort_keys=True)


def _right_kind(value: Any, schema: dict[str, Any]) -> bool:
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(_TYPES[name](value) for name in names):
            return False
    if "enum" in schema and _key(value) not in {_key(v) for v in schema["enum"]}:
        return False
    return "const" not in schema or _key(value) == _key(schema["const"])


def _within(n: int, schema: dict[str, Any], what: str) -> bool:
    return bool(schema.get(f"min{what}", 0) <= n <= schema.get(f"max{what}", n))


def _object(item: TaskItem, value: dict[str, Any], schema: dict[str, Any]) -> bool:
    known = schema.get("properties", {})
    if any(name not in value for name in schema.get("required", ())):
        return False
    if not _within(len(value), schema, "Properties"):
        return False
    other = schema.get("additionalProperties", True)
    return all(valid(item, v, known.get(k, other)) for k, v in value.items())


def _array(item: TaskItem, value: list[Any], schema: dict[str, Any]) -> bool:
    if not _within(len(value), schema, "Items"):
        return False
    if schema.get("uniqueItems") and len({_key(v) for v in value}) < len(value):
        return False
    first = schema.get("prefixItems", [])
    rest = schema.get("items", True)
    return all(valid(item, v, first[i] if i < len(first) else rest) for i, v in enumerate(value))


def _string(item: TaskItem, value: str, schema: dict[str, Any]) -> bool:
    if not _within(len(value), schema, "Length"):
        return False
    return "pattern" not in schema or matches(
        item, schema["pattern"], value, whole=False, fold=False
    )


def _limits(_: TaskItem, value: float, schema: dict[str, Any]) -> bool:
    if value < schema.get("minimum", value) or value > schema.get("maximum", value):
        return False
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        return False
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        return False
    step = schema.get("multipleOf")
    return step is None or (abs(value) < 1e300 and Fraction(str(value)) % Fraction(str(step)) == 0)


def _combined(item: TaskItem, value: Any, schema: dict[str, Any]) -> bool:
    def holds(word: str) -> list[bool]:
        return [valid(item, value, inner) for inner in schema.get(word, ())]

    if not all(holds("allOf")):
        return False
    if "anyOf" in schema and not any(holds("anyOf")):
        return False
    if "oneOf" in schema and sum(holds("oneOf")) != 1:
        return False
    return "not" not in schema or not valid(item, value, schema["not"])

"""Arguments of a tool call: decodes a model's text, and describes what is wrong with it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from workbench.decoding import UNDECODABLE

_KINDS: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


class BadArguments(ValueError):
    """The arguments do not fit; the message is for the model."""


def read(text: str | None, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Read arguments as JSON and check them.

    A model that writes the one text that a tool takes as it is, without JSON around it, is
    understood too.

    Args:
        text: what the model wrote; nothing is no arguments.
        schema: JSON Schema of an object: `properties` with `type`, `enum`, `minimum`, `maximum`,
            `maxLength`; `required`. Other properties are refused.

    Raises:
        BadArguments: it is no JSON, no object, or does not fit the schema.
    """
    stripped = _unfenced((text or "").strip())
    try:
        arguments = msgspec.json.decode(stripped or "{}")
    except UNDECODABLE as error:
        if (name := _only_text(schema)) is None or stripped.startswith("{"):
            raise BadArguments(f"the arguments are no JSON ({error})") from error
        arguments = {name: stripped}
    if not isinstance(arguments, dict) and (name := _only_text(schema)) is not None:
        arguments = {name: arguments if isinstance(arguments, str) else stripped}
    if not isinstance(arguments, dict):
        raise BadArguments("the arguments are no JSON object")
    check(arguments, schema)
    return arguments


def _unfenced(text: str) -> str:
    """Take off the fence that models put around code."""
    if not (text.startswith("```") and text.endswith("```") and "\n" in text):
        return text
    return text.partition("\n")[2].removesuffix("```").strip()


def _only_text(schema: Mapping[str, Any]) -> str | None:
    required = schema.get("required", ())
    only = required[0] if len(required) == 1 else ""
    return only if schema["properties"].get(only, {}).get("type") == "string" else None


def check(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Compare arguments with the schema; BadArguments says what does not fit."""
    properties = schema["properties"]
    for name in schema.get("required", ()):
        if name not in arguments:
            raise BadArguments(f"the argument {name!r} is missing")
    for name, value in arguments.items():
        if name not in properties:
            known = ", ".join(properties) or "none"
            raise BadArguments(f"there is no argument {name!r}; there are {known}")
        _check(name, value, properties[name])


def _check(name: str, value: Any, wanted: Mapping[str, Any]) -> None:
    kind = wanted["type"]
    right = isinstance(value, _KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not right:
        raise BadArguments(f"{name} must be of the type {kind}, not {_shown(value)}")
    if "enum" in wanted and value not in wanted["enum"]:
        raise BadArguments(f"{name} must be one of {', '.join(wanted['enum'])}")
    least, most = wanted.get("minimum"), wanted.get("maximum")
    if (least is not None and value < least) or (most is not None and value > most):
        raise BadArguments(f"{name} must lie between {least} and {most}, not {_shown(value)}")
    longest = wanted.get("maxLength")
    if longest is not None and len(value) > longest:
        raise BadArguments(f"{name} has {len(value)} characters; {longest} are the most")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"

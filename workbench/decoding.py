"""Decoding of untrusted documents: what msgspec raises, and its refusals in words.

A document that is nested too deeply is a RecursionError, and a text with half a surrogate pair a
UnicodeError.
"""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

UNDECODABLE = (msgspec.DecodeError, UnicodeError, RecursionError)
"""Every way in which msgspec refuses a document."""

_TYPES = {
    "float": "a number",
    "int": "a whole number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_EXPECTED = re.compile(r"Expected `([^`]*)`(?:, got `[^`]*`| (.*))?")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def describe(error: msgspec.ValidationError, raw: object, known: Iterable[str]) -> str:
    """Describe why a table is refused: the setting, its value, and what may stand there.

    Args:
        error: what `msgspec.convert` raised.
        raw: the table.
        known: names that it may have at its top; the nearest is offered for one that it may not.
    """
    text, _, place = str(error).partition(" - at `")
    path = place.removesuffix("`").removeprefix("$").removeprefix(".")
    if unknown := _UNKNOWN.fullmatch(text):
        within = f" in {path}" if path else ""
        hint = "" if path else _hint(unknown[1], known)
        return f"there is no setting {unknown[1]!r}{within}{hint}"
    if missing := _MISSING.fullmatch(text):
        return f"{missing[1]!r} is missing{f' in {path}' if path else ''}"
    if expected := _EXPECTED.fullmatch(text):
        kinds = [_TYPES.get(kind, kind) for kind in expected[1].split(" | ") if kind != "null"]
        bound = f" {expected[2]}" if expected[2] else ""
        text = f"must be {' or '.join(kinds)}{bound}"
    if not path:
        return text
    colon = "" if expected else ":"
    return f"{path} = {_shown(_value(raw, path))}{colon} {text}"


def _hint(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(names)}"


def _value(raw: object, path: str) -> object:
    for name, place in _STEP.findall(path):
        if name and isinstance(raw, Mapping):
            raw = raw.get(name)
        elif place and isinstance(raw, Sequence):
            raw = raw[int(place)]
    return raw


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"

"""Writer of TOML text for settings and plans (`tomllib` reads it)."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
# characters that json.dumps does not escape, and that TOML forbids or a terminal interprets
_ACTIVE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def toml_text(settings: Mapping[str, Any]) -> str:
    """Write a mapping of plain values as TOML; None is omitted, because TOML has no null."""
    return "\n".join(_table(settings, ())) + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Write the values of a table first, then the tables below it."""
    subtables = {k: v for k, v in table.items() if isinstance(v, Mapping)}
    for key, value in table.items():
        if key not in subtables and value is not None:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in subtables.items():
        subpath = (*path, key)
        yield ""
        yield f"[{'.'.join(map(_key, subpath))}]"
        yield from _table(value, subpath)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return _ACTIVE.sub(lambda m: f"\\u{ord(m[0]):04x}", quoted)


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _string(value)
        case Mapping():
            pairs = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
            return f"{{ {pairs} }}" if pairs else "{}"
        case list() | tuple():
            return f"[{', '.join(_value(v) for v in value if v is not None)}]"
    raise TypeError(f"{value!r} cannot be written as TOML")

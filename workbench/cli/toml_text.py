"""Settings as TOML text; reading is `tomllib`'s."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")
# what JSON leaves raw and TOML forbids, or a terminal would act on
_ACTIVE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def toml_text(settings: Mapping[str, Any]) -> str:
    """Write a mapping of plain values; None is left out, as TOML has no null."""
    return "\n".join(_table(settings, ())) + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Write the values of a table first, then the tables below it."""
    below = {k: v for k, v in table.items() if isinstance(v, Mapping)}
    for key, value in table.items():
        if key not in below and value is not None:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in below.items():
        here = (*path, key)
        yield ""
        yield f"[{'.'.join(map(_key, here))}]"
        yield from _table(value, here)


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
            inside = ", ".join(
                f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None
            )
            return f"{{ {inside} }}" if inside else "{}"
        case list() | tuple():
            return f"[{', '.join(_value(v) for v in value if v is not None)}]"
    raise TypeError(f"{value!r} cannot be written as TOML")

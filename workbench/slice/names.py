r"""Names of columns made of a store's content: params.docs, settings.batch_size, metrics.rubric.

A column of that name holds what the configuration of a trace was given under a key, or what a
scorer gave the trace on its own scale. Keys are anybody's text: in a filter they stand bare, or in
quotes where they hold a space, a comma or an operator: `params."my key":3`. Within the quotes
\n, \r and \t stand for the characters that no single line can hold.
"""

import re
from collections.abc import Mapping, Sequence

PARAMETERS = ("params", "settings")
METRICS = "metrics"
PREFIXES = (*PARAMETERS, METRICS)
_QUOTED = r'"(?:\\.|[^"\\])*"'
_KEY = r'"(?:\\.|[^"\\])+"'  # no empty one
_ENTRY = rf'(?:{"|".join(PREFIXES)})\.(?:{_KEY}|[^\s:<>=!,"\\]+)'
HEAD = re.compile(rf"((?i:{_ENTRY})|[A-Za-z_][A-Za-z0-9_]*)(:|>=|<=|!=|>|<|=)", re.DOTALL)
"""A name and the operator after it, at the beginning of a term."""
_TYPED = re.compile(rf"(?i:{_ENTRY})", re.DOTALL)
_BARE = re.compile(r"[\w./@+-]+")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def in_quotes(text: str) -> str:
    r"""Write a text in double quotes, with `\"` and `\\` for what they hold."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquoted(text: str) -> str:
    """Read the name that stands between double quotes."""
    return re.sub(r'\\(["\\nrt])', lambda match: _ESCAPES.get(match[1], match[1]), text[1:-1])


def is_entry(column: str) -> bool:
    """Whether a column is one of a store's own, not of the schema."""
    prefix, dot, key = column.partition(".")
    return bool(dot and key) and prefix in PREFIXES


def entry(typed: str) -> str | None:
    """Give the column of a name as typed, or None where it is no such name."""
    if not _TYPED.fullmatch(typed):
        return typed if is_entry(typed) else None
    prefix, _, key = typed.partition(".")
    key = unquoted(key) if key.startswith('"') else key
    return f"{prefix.lower()}.{key}"


def written(column: str) -> str:
    """Write the name of a column as a filter does."""
    prefix, _, key = column.partition(".")
    if _BARE.fullmatch(key):
        return column
    quoted = in_quotes(key)
    for letter, meant in _ESCAPES.items():
        quoted = quoted.replace(meant, f"\\{letter}")
    return f"{prefix}.{quoted}"


def split(text: str) -> list[str]:
    """Split names at the commas that are not in quotes."""
    return [part.strip() for part in re.split(rf",(?=(?:[^\"]|{_QUOTED})*$)", text)]


def columns(typed: str | Sequence[str]) -> tuple[str, ...]:
    """Give the columns of names as typed, in one text with commas or one by one."""
    listed = split(typed) if isinstance(typed, str) else typed
    return tuple(entry(name) or name for name in listed if name)


def own_fields(by: str | Sequence[str], options: Mapping[str, object]) -> tuple[str, ...]:
    """List the columns of the store's own that the groups and options of an analysis name.

    The rows for it must have them: `store.facts(where, view, fields=own_fields(by, options))`.
    """
    named = list(columns(by))
    named += [c for value in options.values() if isinstance(value, str) for c in columns(value)]
    return tuple(dict.fromkeys(c for c in named if is_entry(c)))

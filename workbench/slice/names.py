"""Names that are made of a store's content: params.docs, settings.batch_size, metrics.rubric.

A column of that name holds what the configuration of a trace was given under a key, or what a
scorer gave the trace on its own scale. Keys are anybody's text: in a filter they stand bare, or in
quotes where they hold a space, a comma or an operator: `params."my key":3`.
"""

import re
from collections.abc import Mapping, Sequence

PARAMETERS = ("params", "settings")
METRICS = "metrics"
PREFIXES = (*PARAMETERS, METRICS)
_QUOTED = r'"(?:\\.|[^"\\])*"'
_ENTRY = rf'(?:{"|".join(PREFIXES)})\.(?:{_QUOTED}|[^\s:<>=!,"\\]+)'
HEAD = re.compile(rf"((?i:{_ENTRY})|[A-Za-z_][A-Za-z0-9_]*)(:|>=|<=|!=|>|<|=)", re.DOTALL)
"""A name and the operator after it, at the beginning of a term."""
_TYPED = re.compile(rf"(?i:{_ENTRY})", re.DOTALL)
_BARE = re.compile(r"[\w./@+-]+")


def in_quotes(text: str) -> str:
    r"""Write a text in double quotes, with `\"` and `\\` for what they hold."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquoted(text: str) -> str:
    """Read what stands between double quotes."""
    return re.sub(r'\\(["\\])', r"\1", text[1:-1])


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
    return column if _BARE.fullmatch(key) else f"{prefix}.{in_quotes(key)}"


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

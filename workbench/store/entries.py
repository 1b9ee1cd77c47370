"""Columns made of a store's entries: parameters of configurations, and metrics of scorers.

They are no columns of the views. A question that names one gets it joined: parameters by
configuration, which are few, metrics by trace, from `scores`. Their types are those of the values
that are there.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence

import duckdb

from workbench import schema
from workbench.errors import QueryError
from workbench.schema import Column
from workbench.slice import Slice
from workbench.slice.conditions import quote
from workbench.slice.names import METRICS, is_entry, written

_PARAMETERS = """SELECT name, list(DISTINCT type ORDER BY type) AS types,
  bool_and(type <> 'int' OR TRY_CAST(value AS BIGINT) IS NOT NULL) AS fits
FROM parameters WHERE contains(name, '.') GROUP BY name ORDER BY name"""
_METRICS = """SELECT scorer, max(unit), min(scale_low), max(scale_high),
  list(DISTINCT direction) AS directions
FROM scores WHERE coalesce(metric, score) IS NOT NULL {among} GROUP BY scorer ORDER BY scorer"""
_DOCS = {
    "params": "What the strategy was given as {key}.",
    "settings": "What was set as {key}.",
}


def known(
    connection: duckdb.DuckDBPyConnection, among: Iterable[str] | None = None
) -> dict[str, Column]:
    """Describe the columns of a store's own, by name.

    Args:
        connection: a reading one.
        among: only these, so far as there are; all where None, which looks through every score.
    """
    wanted = None if among is None else {name for name in among if is_entry(name)}
    columns: dict[str, Column] = {}
    if wanted is None or any(not name.startswith(f"{METRICS}.") for name in wanted):
        for name, types, fits in connection.execute(_PARAMETERS).fetchall():
            prefix, _, key = name.partition(".")
            doc = _DOCS[prefix].format(key=key)
            columns[name] = Column(name, _type(types, fits=fits), "", doc, "not set", name)
    scorers = None if wanted is None else _scorers(wanted)
    if scorers is None or scorers:
        listed = "" if scorers is None else f"AND scorer IN ({', '.join(map(quote, scorers))})"
        for row in connection.execute(_METRICS.format(among=listed)).fetchall():
            column = _metric(*row)
            columns[column.name] = column
    return columns if wanted is None else {n: c for n, c in columns.items() if n in wanted}


def _scorers(names: Iterable[str]) -> list[str]:
    return sorted(n.partition(".")[2] for n in names if n.startswith(f"{METRICS}."))


def _type(types: Sequence[str], *, fits: bool) -> str:
    """The narrowest type that holds all values of a name; text holds any."""
    if set(types) <= {"int", "float"}:
        return "int" if types == ["int"] and fits else "float"
    return types[0] if len(types) == 1 else "text"


def _metric(
    scorer: str, unit: str | None, low: float | None, high: float | None, ways: list[str | None]
) -> Column:
    """Describe what a scorer gives; 0 to 1, higher better, where it says no scale of its own."""
    directions = [way for way in ways if way is not None]
    own = unit is not None or low is not None or high is not None or bool(directions)
    return Column(
        f"{METRICS}.{scorer}",
        "float",
        unit or ("" if own else "0..1"),
        f"What the scorer {scorer} gave, on its own scale.",
        "not scored by it",
        f"{METRICS}.{scorer}",
        scale=(low, high) if own else (0.0, 1.0),
        direction=directions[0] if len(directions) == 1 else "" if own else "higher",
    )


def check(known: Mapping[str, Column], names: Iterable[str]) -> list[Column]:
    """Take the columns of these names.

    Raises:
        QueryError: a name that the store does not have, with the nearest; or two that differ in
            case alone, which the engine takes for one.
    """
    chosen: dict[str, Column] = {}
    for name in names:
        if name not in known:
            raise QueryError(missing(name, known))
        if chosen.setdefault(name.casefold(), known[name]).name != name:
            other = chosen[name.casefold()].name
            raise QueryError(f"{name} and {other} differ in case alone; ask for one at a time")
    return list(chosen.values())


def missing(name: str, known: Iterable[str]) -> str:
    """Write that no trace has such a value, and which values there are."""
    prefix = name.partition(".")[0]
    like = sorted(n for n in known if n.startswith(f"{prefix}."))
    near = difflib.get_close_matches(name, like, n=3, cutoff=0.5) or like[:8]
    what = (
        "scorer of the store is called" if prefix == METRICS else "configuration of the store sets"
    )
    hint = f"try {', '.join(map(written, near))}" if near else f"there are no {prefix} at all"
    return f"no {what} {name.partition('.')[2]!r} ({written(name)}); {hint}"


def columns_in(where: Slice) -> list[str]:
    """List the store's own columns that a slice names."""
    fields = (getattr(term, "field", None) for term in where.terms)
    return sorted({f.column for f in fields if f is not None and is_entry(f.column)})


def keys(view: str, columns: Sequence[Column]) -> None:
    """Check that a view has what the columns are joined by; QueryError if not."""
    names = schema.RELATIONS[view].names
    for column in columns:
        key = "trace_id" if column.name.startswith(f"{METRICS}.") else "configuration_id"
        if key not in names:
            raise QueryError(
                f"{view} has no {key}, so that {column.name} cannot be told of its rows"
            )

"""Differences between the rows that two stores have of the same keys, found table by table.

What follows from other rows (sums, counts, prices in force, names made unique) is left out: it is
made again where two stores are merged. Rows are distinguished by a hash of each, so that a merge of
a million traces joins keys and numbers, and reads whole rows only where they differ.
"""

import dataclasses

import duckdb

from workbench import schema
from workbench.store import ingest, views
from workbench.store.ingest import Relations

COUNTED = ("n_messages", "n_tool_calls", "n_tool_errors")
"""Columns of `traces` that count the rows of its parts."""
PARTS = ("calls", "tool_calls", "messages", "energy")
"""Tables whose rows are what a trace consists of: of two stores, both have all or one has none."""
AMONG = "SEMI JOIN common USING (trace_id)"
_PLACE = ("trace_id", "run_id", "configuration_id", "task_id", "item_id", "ordinal")


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """How the rows of a table are compared.

    Attributes:
        derived: columns that follow from other rows; they are neither compared nor filled.
        telling: columns in which null has a meaning, so that it contradicts a value; elsewhere null
            is unknown, contradicts nothing and is filled from the other side.
        least: columns of which the lesser value stands and contradicts nothing.
        moved: columns that differ where a session that both hold was resumed in one of them.
    """

    derived: tuple[str, ...] = ()
    telling: tuple[str, ...] = ()
    least: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()


_ERROR = ("error_type", "error_message")
_NAMES = ("configuration", "base_name", "canonical_model")
_ALL = tuple(name for name in schema.TABLES["prices"].names if name not in {"price_id", "note"})
RULES = {
    "runs": Rule(),
    "tasks": Rule(),
    "items": Rule(),
    "configurations": Rule(
        _NAMES,
        telling=tuple(
            name
            for name in schema.TABLES["configurations"].names
            if name not in {*_NAMES, "configuration_id"}
        ),
    ),
    "traces": Rule((*views.TOTALS, *COUNTED, "is_replaced"), telling=(*_ERROR, "limit_type")),
    "scores": Rule(),
    "calls": Rule(("price_id",), telling=(*_ERROR, "retried_as"), moved=_PLACE),
    "call_copies": Rule(),
    "tool_calls": Rule(telling=_ERROR, moved=("trace_id",)),
    "messages": Rule(),
    "contents": Rule(),
    "energy": Rule(),
    "energy_balances": Rule(),
    "results": Rule(),
    "prices": Rule(telling=_ALL, least=("note",)),
    "models": Rule(),
    "model_aliases": Rule(telling=("priced_as",)),
    "accelerators": Rule(),
    "grids": Rule(),
    "annotations": Rule(least=("created_at",)),
    "saved_slices": Rule(least=("created_at",)),
}
"""By table; `parameters` are made of the configurations."""


def values(table: str) -> tuple[str, ...]:
    """List the columns of a table that are not its key."""
    declared = schema.TABLES[table]
    return tuple(name for name in declared.names if name not in declared.key)


def compared(table: str) -> tuple[str, ...]:
    """List the columns of a table that two stores must agree on, where both know them."""
    rule = RULES[table]
    return tuple(n for n in values(table) if n not in {*rule.derived, *rule.least})


def same(table: str, one: str, other: str) -> str:
    """Write the condition that two rows have one key."""
    key = schema.TABLES[table].key
    return " AND ".join(f"{one}.{name} IS NOT DISTINCT FROM {other}.{name}" for name in key)


def differ(table: str) -> str:
    """Name the temporary table of the keys whose rows differ."""
    return f"differ_{table}"


def note(
    connection: duckdb.DuckDBPyConnection, table: str, relation: str, mine: str | None = None
) -> int:
    """Make the temporary table of the keys whose rows differ; returns how many there are.

    Beside the key it has `here` and `there`: whether each side has the row. For tables whose rows
    belong to a trace, only traces in `common` are compared, and rows that one side lacks are listed
    too.

    Args:
        connection: inside a lease, with `common` if the table hangs on traces.
        table: which.
        relation: the rows that come.
        mine: those of the store, if not all of the table.
    """
    key = schema.TABLES[table].key
    on_trace = is_part(table)
    key_columns = tuple(dict.fromkeys((*key, *(("trace_id",) if on_trace else ()))))
    among = AMONG if on_trace or table == "traces" else ""
    chosen = f"{', '.join(key_columns)}, hash({', '.join(values(table)) or 'true'}) AS hashed"
    both = ", ".join(f"coalesce(o.{name}, n.{name}) AS {name}" for name in key_columns)
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE {differ(table)} AS
        SELECT {both}, o.hashed IS NOT NULL AS here, n.hashed IS NOT NULL AS there
        FROM (SELECT {chosen} FROM {mine or table} {among}) o
        {"FULL" if on_trace else "INNER"} JOIN (SELECT {chosen} FROM {relation} {among}) n
        ON {same(table, "o", "n")} WHERE o.hashed IS DISTINCT FROM n.hashed"""
    )
    return count(connection, differ(table))


def is_part(table: str) -> bool:
    """Return whether the rows of a table belong to traces and to nothing else."""
    return "trace_id" in schema.TABLES[table].names and table not in {"traces", "annotations"}


def pairs(table: str, relation: str) -> str:
    """Write the FROM clause of the rows `o` here and `n` there, of one key `d`, that differ."""
    return (
        f"FROM (FROM {differ(table)} WHERE here AND there) d "
        f"JOIN {table} o ON {same(table, 'o', 'd')} JOIN {relation} n ON {same(table, 'n', 'd')}"
    )


def named(table: str, *, prefix: str = "") -> str:
    """Write SQL that names the columns in which a row `o` here and `n` there contradict."""
    tests = ", ".join(
        f"CASE WHEN {_contradicts(table, name)} THEN '{prefix}{name}' END"
        for name in compared(table)
    )
    return f"concat_ws(', ', {tests})" if tests else "''"


def _contradicts(table: str, name: str) -> str:
    rule = RULES[table]
    if name in rule.telling:
        return f"o.{name} IS DISTINCT FROM n.{name}"
    test = f"o.{name} <> n.{name}"
    if table == "runs" and name in ingest.PROGRESS:
        return f"{test} AND {ingest.progress('o')} = {ingest.progress('n')}"
    if name in rule.moved:  # an id that begins with its trace's is of no other session
        key = schema.TABLES[table].key[0]
        own = " OR ".join(f"starts_with(o.{key}, {side}.trace_id)" for side in "on")
        return f"{test} AND ({own})"
    return test


def filled(table: str) -> str:
    """Write what an UPDATE sets so that a row takes from `n` what it lacks."""
    rule = RULES[table]
    sets = []
    for name in values(table):
        mine = f"{table}.{name}"
        theirs = f"n.{name}"
        value = f"coalesce({mine}, {theirs})"
        if name in rule.least:
            value = f"least({mine}, {theirs})"
        elif name in {*rule.derived, *rule.telling, *rule.moved}:
            continue
        elif table == "runs" and name in ingest.PROGRESS:
            equal = f"{ingest.progress('runs')} = {ingest.progress('n')}"
            value = f"CASE WHEN {equal} THEN {value} ELSE {mine} END"
        sets.append(f"{name} = {value}")
    return ", ".join(sets)


def replaced(table: str) -> str:
    """Write what an UPDATE sets so that a row becomes that of `n`."""
    derived = RULES[table].derived
    return ", ".join(f"{name} = n.{name}" for name in values(table) if name not in derived)


def count(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    """Count the rows of a relation."""
    return int(connection.execute(f"SELECT count(*) FROM {relation}").fetchall()[0][0])


def note_all(connection: duckdb.DuckDBPyConnection, new: Relations) -> dict[str, int]:
    """Compare every table that comes; returns by table how many keys have rows that differ."""
    nothing = {t: f"(FROM {t} LIMIT 0)" for t in RULES if t not in new}
    differing = {table: note(connection, table, new[table]) for table in RULES if table in new}
    for table, relation in nothing.items():
        differing[table] = note(connection, table, relation, mine=relation)
    return differing

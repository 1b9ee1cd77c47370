"""Joining of a store's own columns to rows in SQL; `names` parses the names of the columns."""

from collections.abc import Sequence

from workbench.schema import Column
from workbench.slice.conditions import quote
from workbench.slice.names import METRICS


def joined(rows: str, columns: Sequence[Column], names: Sequence[str] | None = None) -> str:
    """Write a query that adds columns to a relation.

    Args:
        rows: what stands after FROM: a view, or a query in parentheses; with `configuration_id`,
            for metrics `trace_id`.
        columns: what to add.
        names: what to call them, their own names where None.
    """
    if not columns:
        return f"FROM {rows}"
    called = [identifier(n) for n in (names or [c.name for c in columns])]
    pairs = list(zip(columns, called, strict=True))
    given = [f"{_parameter(c)} AS {n}" for c, n in pairs if not c.name.startswith(f"{METRICS}.")]
    joins = []
    if given:
        joins.append(
            f"LEFT JOIN (SELECT configuration_id, {', '.join(given)}\n"
            "  FROM parameters GROUP BY configuration_id) AS own USING (configuration_id)"
        )
    for place, (column, name) in enumerate(pairs):
        if column.name.startswith(f"{METRICS}."):
            scorer = quote(column.name.partition(".")[2])
            joins.append(
                f"LEFT JOIN (SELECT trace_id, coalesce(metric, score) AS {name}\n"
                f"  FROM scores WHERE scorer = {scorer}) AS own_{place} USING (trace_id)"
            )
    return "\n".join([f"SELECT facts.*, {', '.join(called)}", f"FROM {rows} AS facts", *joins])


def _parameter(column: Column) -> str:
    one = f"FILTER (name = {quote(column.name)})"
    if column.type == "float":
        return f"max(number) {one}"
    if column.type == "int":
        return f"max(value) {one}::BIGINT"
    return f"max(value) {one} = 'true'" if column.type == "bool" else f"max(value) {one}"


def identifier(name: str) -> str:
    """Write a name as SQL."""
    return '"' + name.replace('"', '""') + '"'

"""Snippets of SQL or Polars code that compute an analysis' group means; see `forms`.

The code repeats the reduce stage (which traces count, trials averaged within their item, items
within their group), without intervals and judgements.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.analysis.catalogue.registry import get
from workbench.analysis.core.declaration import unknown_name
from workbench.analysis.core.entry_columns import scale_of
from workbench.analysis.inputs.counted_traces import (
    COUNTS_CODE,
    COUNTS_SQL,
    FAILED_CODE,
    FAILED_SQL,
)
from workbench.errors import AnalysisError
from workbench.schema import TRACE_FACTS, Column
from workbench.slice import Slice
from workbench.slice.joining import identifier, joined
from workbench.slice.names import METRICS, columns, is_entry

if TYPE_CHECKING:
    from workbench.analysis.core.declaration import Analysis, Reduction

_DEFAULT = "summary"


def as_sql(
    name: str | None = None,
    where: Slice | str = "",
    by: Sequence[str] = ("configuration",),
    options: Mapping[str, Any] | None = None,
    fields: Mapping[str, Column] | None = None,
) -> str:
    """Write a query over `trace_facts` with one row per group: its counts and means.

    Args:
        name: the analysis.
        where: the slice.
        by: the columns that name a group.
        options: those of the analysis.
        fields: entry columns (`store.fields()`), for the types of those that are named.
    """
    declared, chosen = _plan(name, by, options)
    by = columns(by)
    plan = declared.reduction(chosen)
    measures = plan.measures
    metric, share = _metric(declared, chosen, fields or {}, identifier)
    outcome, counted = _counted(
        plan, metric and share, errors_as_wrong=bool(chosen.get("errors_as_wrong"))
    )
    entries = [
        (fields or {}).get(c, Column(c, "float" if c.startswith(METRICS) else "text"))
        for c in dict.fromkeys((*by, *measures, metric))
        if is_entry(c)
    ]
    source = f"(\n{joined('trace_facts', entries)}\n)" if entries else "trace_facts"
    keys = ", ".join(map(identifier, by))
    means = [f"avg({m}) AS {m}" for m in map(identifier, measures)]
    per_item = [f"avg({outcome}) AS outcome", *means]
    per_group = ["avg(outcome) AS outcome", *means]
    conditions = "\n    AND ".join([f"({_slice(where).sql()})", *counted])
    return (
        "WITH items AS (\n"
        f"  SELECT {keys}, item_id, count(*) AS n, {', '.join(per_item)}\n"
        f"  FROM {source}\n"
        f"  WHERE {conditions}\n"
        f"  GROUP BY {keys}, item_id\n"
        ")\n"
        f"SELECT {keys}, count(*) AS n_items, CAST(sum(n) AS BIGINT) AS n,\n"
        f"  {', '.join(per_group)}\n"
        f"FROM items\nGROUP BY {keys}\nORDER BY {keys}"
    )


def _metric(
    declared: "Analysis",
    chosen: Mapping[str, Any],
    fields: Mapping[str, Column],
    column: Callable[[str], str],
) -> tuple[str, str]:
    """Return the metric that is the outcome, and code for its share of its scale; "" if none is."""
    metric = str(chosen.get("outcome"))
    if not metric.startswith(f"{METRICS}."):
        return "", ""
    metric = columns([metric])[0]
    code = column(metric)
    if declared.own_scale:
        return metric, code
    low, high, less = scale_of(metric, fields.get(metric))
    share = f"({high} - {code})" if less else f"({code} - {low})"
    return metric, f"{share} / {high - low}"


def _counted(plan: "Reduction", metric: str, *, errors_as_wrong: bool) -> tuple[str, list[str]]:
    """Write in SQL what the outcome is and the conditions for a trace to count."""
    outcome = f"CAST({metric or plan.outcome} AS DOUBLE)"
    conditions = [f"{identifier(column)} IS NOT NULL" for column in plan.require]
    if errors_as_wrong:
        outcome = f"CASE WHEN {FAILED_SQL} THEN 0.0 ELSE {outcome} END"
    else:
        conditions.insert(0, f"NOT {FAILED_SQL}")
    conditions.insert(0, COUNTS_SQL)
    return outcome, [*conditions, *([f"{outcome} IS NOT NULL"] if plan.scored else [])]


def as_polars(
    name: str | None = None,
    where: Slice | str = "",
    by: Sequence[str] = ("configuration",),
    options: Mapping[str, Any] | None = None,
    fields: Mapping[str, Column] | None = None,
) -> str:
    """Write Polars code that makes `means` from a frame `traces` of `trace_facts`; see `as_sql`."""
    declared, chosen = _plan(name, by, options)
    by = columns(by)
    plan = declared.reduction(chosen)
    _, share = _metric(declared, chosen, fields or {}, _column)
    outcome = f"{f'({share})' if share else _column(plan.outcome)}.cast(pl.Float64)"
    counted = [f"{_column(column)}.is_not_null()" for column in plan.require]
    if chosen.get("errors_as_wrong"):
        outcome = f"pl.when({FAILED_CODE}).then(0.0).otherwise({outcome})"
    else:
        counted.insert(0, f"~{FAILED_CODE}")
    counted.insert(0, COUNTS_CODE)
    filters = [
        _slice(where).polars_code(),
        *counted,
        *(['pl.col("outcome").is_not_null()'] * plan.scored),
    ]
    lines = "".join(f"        {f},\n" for f in filters)
    keys = ", ".join(map(_text, by))
    averaged = ", ".join(map(_text, ("outcome", *plan.measures)))
    return (
        "import polars as pl\n\n"
        "means = (\n"
        "    traces.lazy()\n"
        f"    .with_columns(outcome={outcome})\n"
        f"    .filter(\n{lines}    )\n"
        f'    .group_by({keys}, "item_id")\n'
        f"    .agg(pl.col({averaged}).mean(), n=pl.len())\n"
        f"    .group_by({keys})\n"
        f'    .agg(pl.col({averaged}).mean(), pl.col("n").sum(), n_items=pl.len())\n'
        f"    .sort({keys})\n"
        "    .collect()\n"
        ")"
    )


def _text(text: str) -> str:
    """Write a text as Python, in double quotes where that needs no escape."""
    return repr(text) if {'"', "\\"} & {*text} or not text.isprintable() else f'"{text}"'


def _column(name: str) -> str:
    return f"pl.col({_text(name)})"


def _slice(where: Slice | str) -> Slice:
    return where if isinstance(where, Slice) else Slice.parse(where)


def _plan(
    name: str | None, by: Sequence[str], options: Mapping[str, Any] | None
) -> tuple["Analysis", dict[str, Any]]:
    """Check every name that will be written into code."""
    declared = get(name or _DEFAULT)
    chosen = declared.parse(options or {})
    for column in columns((*by, *declared.reduction(chosen).measures)):
        if column not in TRACE_FACTS.names and not is_entry(column):
            raise AnalysisError(unknown_name("column of trace_facts", column, TRACE_FACTS.names))
    return declared, chosen

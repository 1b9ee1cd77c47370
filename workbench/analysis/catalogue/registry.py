"""The catalogue of analyses: a declaration and a function per file, found by walking the families.

A family is a folder here, an analysis a file in it whose name is the analysis' with underscores.
Adding the file is all it takes; every face reads the declaration.
"""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.analysis.core.declaration import Analysis, unknown
from workbench.errors import AnalysisError
from workbench.schema import Column, described, known_columns
from workbench.slice.names import METRICS, columns, entry, is_entry

if TYPE_CHECKING:
    import narwhals as nw
    import numpy as np

    from workbench.analysis.core.result import Answer, Result
    from workbench.slice import Slice

_PACKAGE = "workbench.analysis.families"
# families in the order in which they are read, and what a menu calls them
FAMILIES = {
    "tradeoffs": "Trade-offs",
    "cost": "Cost",
    "latency": "Latency",
    "energy": "Energy",
    "compute": "Compute",
    "sampling": "Repeated sampling",
    "budgets": "Budgets",
    "routing": "Routing",
    "evidence": "Evidence",
    "agents": "Agents",
    "scaling": "Scaling laws",
}
# names that families had before, and what they are called now
FORMER_FAMILIES = {
    "worth": "tradeoffs",
    "money": "cost",
    "time": "latency",
    "joules": "energy",
    "tries": "sampling",
    "routers": "routing",
    "laws": "scaling",
}


@functools.cache
def _homes() -> dict[str, str]:
    """Map every analysis' name to its module, by file name alone; nothing is imported."""
    root = importlib.import_module(_PACKAGE)
    homes: dict[str, str] = {}
    for family in pkgutil.iter_modules(root.__path__):
        if family.ispkg:
            paths = [f"{path}/{family.name}" for path in root.__path__]
            for module in pkgutil.iter_modules(paths):
                name = module.name.replace("_", "-")
                homes[name] = f"{_PACKAGE}.{family.name}.{module.name}"
    return dict(sorted(homes.items()))


def names() -> tuple[str, ...]:
    """List the analyses without importing any of them."""
    return tuple(_homes())


def get(name: str) -> Analysis:
    """Import one analysis; AnalysisError offers the nearest names."""
    name = name.replace("_", "-")
    homes = _homes()
    if name not in homes:
        raise AnalysisError(unknown("analysis", name, homes))
    module = importlib.import_module(homes[name])
    found = [value for value in vars(module).values() if isinstance(value, Analysis)]
    if [a.name for a in found] != [name]:
        raise AnalysisError(f"{homes[name]} must declare the analysis {name!r}, and only that one")
    return found[0]


def catalogue() -> dict[str, Analysis]:
    """Import every analysis; declarations by name."""
    return {name: get(name) for name in names()}


def by_family() -> dict[str, list[Analysis]]:
    """Import every analysis; declarations by the title of their family, in the order of `FAMILIES`."""
    found: dict[str, list[Analysis]] = {title: [] for title in FAMILIES.values()}
    for declared in catalogue().values():
        found[FAMILIES[declared.family]].append(declared)
    return found


def run(
    name: str,
    frame: Any,
    *,
    where: "Slice | str" = "",
    by: str | Sequence[str] = ("configuration",),
    rng: "np.random.Generator | None" = None,
    **options: Any,
) -> "Result":
    """Answer one question about traces.

    Args:
        name: an analysis of the catalogue.
        frame: a store, of which the rows are opened that the analysis takes; or these rows (see
            `Analysis.rows`): a Polars frame (lazy or not), a DuckDB relation or a narwhals frame.
            An engine does the grouping; only its result is fetched.
        where: which traces of a store.
        by: the columns that name a group. With "task" among them everything is done per task.
        rng: the source of randomness; a generator with seed 0 where None.
        options: see the declaration.

    A cost is that at listed prices; where it cannot be computed, what was billed stands in, and a
    note says of how many.

    Raises:
        AnalysisError: an unknown name, option, column or group, a value out of bounds, or rows of
            another grain.
    """
    import narwhals as nw
    import numpy as np

    from workbench.analysis.core import entry_columns
    from workbench.analysis.inputs import grain

    declared = get(name)
    typed = declared.parse(options)
    chosen = _named_columns(declared, typed)
    keys = columns((by,) if isinstance(by, str) else by)
    rng = np.random.default_rng(0) if rng is None else rng
    plain = entry_columns.Aliases.of(declared, keys, typed)
    with grain.opened(declared, frame, where, plain.names) as rows:
        lazy: nw.LazyFrame[Any] = nw.from_native(rows).lazy()
        _check_columns(declared, lazy, keys)
        chosen, turned = entry_columns.directed(declared, options, chosen)
        lazy, meant, shared = entry_columns.scored(declared, lazy, chosen)
        with described(plain.described()), plain.spelled():
            result = _answered(
                declared, plain.rows(lazy), plain.keys(keys), plain.options(meant), rng
            )
        result = dataclasses.replace(plain.result(result), by=keys, options=chosen)
        result = entry_columns.on_own_scale(declared, result, chosen.get("outcome"))
    notes = [n for n in result.notes if n not in result.outlook]
    return dataclasses.replace(result, notes=(*notes, *shared, *turned, *result.outlook))


def _answered(
    declared: Analysis,
    lazy: "nw.LazyFrame[Any]",
    by: tuple[str, ...],
    options: dict[str, Any],
    rng: "np.random.Generator",
) -> "Result":
    """Run the function of an analysis, and say what is pooled and what would settle the question."""
    from workbench.analysis.catalogue import billed_cost, graded_scores, pooling, what_would_it_take
    from workbench.analysis.inputs import counted_traces

    within = [c for name in declared.within for c in columns(options.get(name, name) or "")]
    replaced, lazy = counted_traces.n_replaced(lazy), counted_traces.counting(lazy)
    pooled = pooling.notes(lazy, by, within)
    lazy, dollars = billed_cost.filled(lazy, by)
    answer = declared.function(lazy, by=by, rng=rng, **options)
    dropped = {**answer.dropped, counted_traces.REPLACED: replaced}
    result = _result(declared, dataclasses.replace(answer, dropped=dropped), options, by)
    paid = (dollars,) if dollars and any("USD" in c.unit for c in result.columns) else ()
    graded_only = graded_scores.notes(declared, lazy, options)
    told = () if graded_only else what_would_it_take.said(declared, result, lazy)
    notes = (*graded_only, *result.notes, *pooled, *paid, *told)
    return dataclasses.replace(result, notes=notes, outlook=told)


def _named_columns(declared: Analysis, chosen: dict[str, Any]) -> dict[str, Any]:
    """Turn names as typed into columns, in the options that take one."""
    takes = {o.name for o in declared.options if o.type in {"measure", "choice"}}
    return {
        n: (entry(v) or v) if n in takes and isinstance(v, str) else v for n, v in chosen.items()
    }


def _result(
    declared: Analysis, answer: "Answer", options: dict[str, Any], by: tuple[str, ...]
) -> "Result":
    """Say what every column of the answer means."""
    from workbench.analysis.core.result import Result

    schema = known_columns()
    meaning = {c.name: c for c in (*declared.columns, *answer.columns)}
    tables = (answer.frame, *answer.more.values())
    shown = dict.fromkeys(c for table in tables for c in table.columns)
    return Result(
        name=declared.name,
        frame=answer.frame,
        columns=tuple(meaning.get(c) or schema.get(c) or Column(c, "text") for c in shown),
        dropped={reason: n for reason, n in answer.dropped.items() if n},
        notes=answer.notes,
        options=options,
        by=by,
        more=dict(answer.more),
        source=declared.source,
    )


def _check_columns(declared: Analysis, lazy: "nw.LazyFrame[Any]", by: Sequence[str]) -> None:
    from workbench.analysis.inputs import grain

    present = lazy.collect_schema().names()
    grain.check(declared, lazy)
    if not by:
        raise AnalysisError("by: name at least one column to group by, for example configuration")
    if len(set(by)) < len(by):
        raise AnalysisError(f"by: a column is named twice in {', '.join(by)}")
    from workbench.analysis.core import entry_columns
    from workbench.analysis.core.options import MEASURES

    for column in by:
        if column not in present:
            if is_entry(column):
                raise AnalysisError(entry_columns.absent(column))
            raise AnalysisError(unknown("column to group by", column, present))
        if column in {"score", *MEASURES} or column.startswith(f"{METRICS}."):
            raise AnalysisError(f"by: {column} is measured, not a name; filter by it in the slice")
    if grain.are_figures(present):
        return  # the analysis looks its metrics up itself
    for column in declared.needs:
        if column not in present:
            reason = f"{declared.name} needs the column {column!r}, which the frame does not have"
            raise AnalysisError(f"{reason}; give it rows of {declared.rows}")

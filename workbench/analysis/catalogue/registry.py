"""Registry of analyses: finds them by file name and runs them.

A family is a folder of `analysis.families`, an analysis a file in it, named after the analysis with
underscores for hyphens. The CLI, the terminal app and the notebooks read its declaration, so that
adding the file is enough. Installed plug-ins add theirs (group `workbench.analyses`), and `load`
imports one that is named `file.py:name`.
"""

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench import plugins
from workbench.analysis.core.declaration import Analysis, unknown_name
from workbench.errors import AnalysisError, ConfigError
from workbench.external_code import is_external
from workbench.schema import Column, known_columns, with_columns
from workbench.slice.names import METRICS, columns, entry, is_entry

if TYPE_CHECKING:
    import narwhals as nw
    import numpy as np

    from workbench.analysis.core.result import Answer, Result
    from workbench.slice import Slice
    from workbench.trust import Trust

_PACKAGE = "workbench.analysis.families"
# families in the order of menus, with their titles
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
    "plugins": "Plug-ins",  # from outside the package
}
# former names of families → present names
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
def _module_paths() -> dict[str, str]:
    """Map the name of every analysis to its module by file names, without importing any."""
    root = importlib.import_module(_PACKAGE)
    paths: dict[str, str] = {}
    for family in pkgutil.iter_modules(root.__path__):
        if family.ispkg:
            folders = [f"{path}/{family.name}" for path in root.__path__]
            for module in pkgutil.iter_modules(folders):
                name = module.name.replace("_", "-")
                paths[name] = f"{_PACKAGE}.{family.name}.{module.name}"
    return dict(sorted(paths.items()))


# analyses that the user named by their code, under that name and their own
_LOADED: dict[str, Analysis] = {}


def shipped_names() -> tuple[str, ...]:
    """List the analyses that ship, without importing any."""
    return tuple(_module_paths())


def names() -> tuple[str, ...]:
    """List the analyses that ship and those of installed plug-ins, without importing any."""
    shipped = _module_paths()
    others = plugins.listed("analysis", shipped)
    return (*shipped, *(p.name for p in others if p.is_installed and p.problem is None))


def get(name: str) -> Analysis:
    """Import one analysis: one that ships, one of an installed plug-in, or one that `load` made.

    Raises:
        AnalysisError: there is none of that name (the message offers the nearest names), or it
            could not be imported.
    """
    if name in _LOADED:
        return _LOADED[name]
    if is_external(name):
        raise AnalysisError(
            f"the analysis {name!r} is code that is not imported yet; call"
            f" analysis.load({name!r}, trust=True) before, if you trust it"
        )
    name = name.replace("_", "-")
    if name in _LOADED:
        return _LOADED[name]
    paths = _module_paths()
    if name not in paths:
        plugin = plugins.find("analysis", name)
        if plugin is None:
            raise AnalysisError(unknown_name("analysis", name, names()))
        return _of_plugin(plugin)
    module = importlib.import_module(paths[name])
    declared = [value for value in vars(module).values() if isinstance(value, Analysis)]
    if [a.name for a in declared] != [name]:
        raise AnalysisError(f"{paths[name]} must declare the analysis {name!r}, and only that one")
    return declared[0]


def load(name: str, *, trust: "Trust" = False, is_typed: bool = False) -> Analysis:
    """Import an analysis that is named `module:name` or `file.py:name`.

    From then on `get` and `run` know it in this process, by this name and by its own.

    Args:
        name: as the user named it.
        trust: asks the user about code that is not trusted yet (see `workbench.trust`).
        is_typed: whether the user typed the name, so that no question is needed.

    Raises:
        ConfigError: it is not trusted, is not there, or its import failed.
        AnalysisError: it is no analysis, or bears the name of one that ships.
    """
    from workbench.trust import load_trusted

    imported = load_trusted("analysis", name, kind="analysis", trust=trust, is_typed=is_typed)
    declared = _external(imported, name)
    _LOADED[name] = _LOADED[declared.name] = declared
    return declared


def origin(name: str) -> str:
    """Return the origin of an analysis: "workbench", a distribution, or the code that was named."""
    if name in _module_paths():
        return plugins.SHIPPED
    plugin = plugins.find("analysis", name)
    return name if plugin is None else plugin.origin


def problems() -> dict[str, str]:
    """List the plug-ins that cannot be used, and why, by name and distribution."""
    errors: dict[str, str] = {}
    for plugin in plugins.listed("analysis", _module_paths()):
        try:
            if plugin.error is not None or not plugin.is_installed:
                plugin.load()  # raises the reason
            _of_plugin(plugin)
        except (AnalysisError, ConfigError) as error:
            errors[f"{plugin.name} ({plugin.origin})"] = str(error)
    return errors


def _of_plugin(plugin: plugins.Plugin) -> Analysis:
    """Import the analysis of an installed plug-in."""
    try:
        declared = _external(plugin.load(), f"{plugin.name} of {plugin.origin}")
    except ConfigError as error:
        raise AnalysisError(str(error)) from error
    if declared.name != plugin.name:
        raise AnalysisError(
            f"the analysis {plugin.name!r} of {plugin.origin} calls itself {declared.name!r}; its"
            " name must be that of its entry point"
        )
    return declared


def _external(imported: object, named: str) -> Analysis:
    """Check what came from outside the package; AnalysisError where it is no analysis."""
    if not isinstance(imported, Analysis):
        raise AnalysisError(
            f"{named} is no analysis; declare a function with the decorator"
            " `workbench.analysis.analysis(name=…, …)`"
        )
    if imported.name in _module_paths():
        raise AnalysisError(
            f"{named} calls itself {imported.name!r}, which is an analysis that ships; give it"
            " another name"
        )
    return dataclasses.replace(imported, family="plugins")


def catalogue() -> dict[str, Analysis]:
    """Import every analysis and return the declarations by name.

    Plug-ins that cannot be used are left out; `problems` names them.
    """
    shipped = _module_paths()
    declarations: dict[str, Analysis] = {}
    for name in names():
        try:
            declarations[name] = get(name)
        except AnalysisError:
            if name in shipped:
                raise
    return declarations


def by_family() -> dict[str, list[Analysis]]:
    """Import every analysis and return the declarations by the title of their family."""
    families: dict[str, list[Analysis]] = {title: [] for title in FAMILIES.values()}
    for declared in catalogue().values():
        families[FAMILIES[declared.family]].append(declared)
    return {title: found for title, found in families.items() if found}


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
        frame: a store, from which the rows of the analysis are opened; or these rows (see
            `Analysis.rows`): a Polars frame (lazy or not), a DuckDB relation or a narwhals frame.
            The engine does the grouping; only its result is fetched.
        where: which traces of a store.
        by: the columns that name a group. With "task" among them everything is computed per task.
        rng: the source of randomness; a generator with seed 0 where None.
        options: see the declaration.

    A cost is computed from listed prices; where that is impossible the billed amount is used, and a
    note counts such costs.

    Raises:
        AnalysisError: an unknown name, option, column or group, a value out of bounds, or rows of
            another grain.
    """
    import narwhals as nw
    import numpy as np

    from workbench.analysis.core import entry_columns
    from workbench.analysis.inputs import grain

    declared = get(name)
    parsed = declared.parse(options)
    chosen = _resolve_columns(declared, parsed)
    group_columns = columns((by,) if isinstance(by, str) else by)
    rng = np.random.default_rng(0) if rng is None else rng
    aliases = entry_columns.Aliases.of(declared, group_columns, parsed)
    with grain.opened(declared, frame, where, aliases.names) as rows:
        lazy: nw.LazyFrame[Any] = nw.from_native(rows).lazy()
        _check_columns(declared, lazy, group_columns)
        chosen, axis_notes = entry_columns.orient_axes(declared, options, chosen)
        lazy, function_options, metric_notes = entry_columns.metric_as_score(declared, lazy, chosen)
        with with_columns(aliases.declarations()), aliases.original_names_in_errors():
            result = _run_function(
                declared,
                aliases.rows(lazy),
                aliases.keys(group_columns),
                aliases.options(function_options),
                rng,
            )
        result = dataclasses.replace(aliases.result(result), by=group_columns, options=chosen)
        result = entry_columns.on_own_scale(declared, result, chosen.get("outcome"))
    notes = [n for n in result.notes if n not in result.outlook]
    return dataclasses.replace(result, notes=(*notes, *metric_notes, *axis_notes, *result.outlook))


def _run_function(
    declared: Analysis,
    lazy: "nw.LazyFrame[Any]",
    by: tuple[str, ...],
    options: dict[str, Any],
    rng: "np.random.Generator",
) -> "Result":
    """Run the function of an analysis; add notes on pooling and on how to settle the question."""
    from workbench.analysis.catalogue import billed_cost, graded_scores, pooling, what_would_it_take
    from workbench.analysis.inputs import counted_traces

    within = [c for name in declared.within for c in columns(options.get(name, name) or "")]
    replaced = counted_traces.n_replaced(lazy)
    lazy = counted_traces.counting(lazy)
    pooling_notes = pooling.notes(lazy, by, within)
    lazy, billed_note = billed_cost.fill_unknown_costs(lazy, by)
    answer = declared.function(lazy, by=by, rng=rng, **options)
    dropped = {**answer.dropped, counted_traces.REPLACED: replaced}
    result = _result(declared, dataclasses.replace(answer, dropped=dropped), options, by)
    billed_notes = (
        (billed_note,) if billed_note and any("USD" in c.unit for c in result.columns) else ()
    )
    graded_only = graded_scores.notes(declared, lazy, options)
    outlook = () if graded_only else what_would_it_take.notes(declared, result, lazy)
    notes = (*graded_only, *result.notes, *pooling_notes, *billed_notes, *outlook)
    return dataclasses.replace(result, notes=notes, outlook=outlook)


def _resolve_columns(declared: Analysis, chosen: dict[str, Any]) -> dict[str, Any]:
    """Resolve typed names to columns, in the options that take a column."""
    takes = {o.name for o in declared.options if o.type in {"measure", "choice"}}
    return {
        n: (entry(v) or v) if n in takes and isinstance(v, str) else v for n, v in chosen.items()
    }


def _result(
    declared: Analysis, answer: "Answer", options: dict[str, Any], by: tuple[str, ...]
) -> "Result":
    """Make the result, with the declaration of every column of the answer."""
    from workbench.analysis.core.result import Result

    schema = known_columns()
    declared_columns = {c.name: c for c in (*declared.columns, *answer.columns)}
    tables = (answer.frame, *answer.more.values())
    names = dict.fromkeys(c for table in tables for c in table.columns)
    return Result(
        name=declared.name,
        frame=answer.frame,
        columns=tuple(declared_columns.get(c) or schema.get(c) or Column(c, "text") for c in names),
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
                raise AnalysisError(entry_columns.missing_column(column))
            raise AnalysisError(unknown_name("column to group by", column, present))
        if column in {"score", *MEASURES} or column.startswith(f"{METRICS}."):
            raise AnalysisError(f"by: {column} is measured, not a name; filter by it in the slice")
    if grain.are_figures(present):
        return  # the analysis checks its metrics itself
    for column in declared.needs:
        if column not in present:
            reason = f"{declared.name} needs the column {column!r}, which the frame does not have"
            raise AnalysisError(f"{reason}; give it rows of {declared.rows}")

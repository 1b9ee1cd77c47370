"""Builder of reports from a store: facts about a slice, and the results of analyses."""

import datetime as dt
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from workbench import analysis
from workbench.analysis import Analysis
from workbench.analysis.catalogue.registry import FAMILIES, FORMER_FAMILIES
from workbench.analysis.core.declaration import unknown_name
from workbench.errors import AnalysisError
from workbench.report.answers import answer, message_of
from workbench.report.contents import Answered, Looked, Report, Unanswered, Value
from workbench.slice import Slice
from workbench.store import Store
from workbench.version import __version__

# The default analyses: pass rate, trade-off, cost per correct answer, latency, energy, gain from
# thinking and tools, and statistical power. All 53 take ten times as long to run and to read.
USUAL = (
    "summary",
    "frontier",
    "compare",
    "cost-of-pass",
    "latency",
    "energy",
    "coverage",
    "thinking-length",
    "ranking",
    "power",
    "tools",
)
# analysis → option → value; options under "" are for every analysis that has them
Options = Mapping[str, Mapping[str, Any]]
OnProgress = Callable[[int, int, str], None]  # (analyses finished, of how many, name of the next)


def select_analyses(
    names: Sequence[str] = (), families: Sequence[str] = (), *, all_: bool = False
) -> list[str]:
    """Select the analyses of a report, in reading order: by name, by family, or the default ones.

    Raises:
        AnalysisError: an unknown name or family.
    """
    wanted = {analysis.get(name).name for name in names}
    families = [_family(name) for name in families]
    if all_ or families:
        wanted |= {a.name for a in analysis.catalogue().values() if all_ or a.family in families}
    order = list(FAMILIES)
    analyses = [analysis.get(name) for name in wanted or USUAL]
    return [
        a.name for a in sorted(analyses, key=lambda a: (order.index(a.family), *_sort_key(a.name)))
    ]


def _family(name: str) -> str:
    """Check the name of a family; a former name is replaced, with a FutureWarning."""
    if name in FORMER_FAMILIES:
        warnings.warn(
            f"the family {name!r} of analyses is now called {FORMER_FAMILIES[name]!r}",
            FutureWarning,
            stacklevel=3,
        )
        return FORMER_FAMILIES[name]
    if name not in FAMILIES:
        raise AnalysisError(unknown_name("family of analyses", name, FAMILIES))
    return name


def _sort_key(name: str) -> tuple[int, str]:
    """Sort key within a family: default analyses first, then the others by name."""
    return (USUAL.index(name) if name in USUAL else len(USUAL), name)


def make(
    store: Store,
    names: Sequence[str] = (),
    *,
    where: Slice | str = "",
    by: str | Sequence[str] = ("configuration",),
    options: Options | None = None,
    seed: int = 0,
    title: str = "",
    now: dt.datetime | None = None,
    draw: bool = True,
    most: int = 40,
    on_progress: OnProgress | None = None,
    told: OnProgress | None = None,
) -> Report:
    """Run analyses on a store and make a report of their results.

    Args:
        store: the store.
        names: the analyses; () takes the default ones. `select_analyses` lists families, or all.
        where: filter of the traces.
        by: the columns that name a group.
        options: options by analysis name; under "" those for every analysis that has them.
        seed: seed of each analysis, as in `workbench analyze`.
        title: the headline; made from the store's name if empty.
        now: time of the report; the present if None.
        draw: whether to draw charts; only HTML shows them.
        most: rows of a table, at most.
        on_progress: called with (analyses finished, of how many, name of the next) before each one.
        told: the former name of `on_progress`; a FutureWarning says so.

    Raises:
        AnalysisError: an unknown name or option, or a value out of bounds. Later errors of single
            analyses are reported in the report.
    """
    if told is not None:
        message = "the argument told of report.make is now called on_progress"
        warnings.warn(message, FutureWarning, stacklevel=2)
        on_progress = on_progress or told
    now = now or dt.datetime.now(dt.UTC)
    where = Slice.of(where, now=now)
    keys = (by,) if isinstance(by, str) else tuple(by)
    wanted = [analysis.get(name) for name in dict.fromkeys(names or select_analyses())]
    _check_names(options or {}, wanted)
    parsed = [_options(declared, options or {}) for declared in wanted]
    before = store.stamp()
    looked = look(store, where)
    answers: list[Answered | Unanswered] = []
    for n, (declared, values) in enumerate(zip(wanted, parsed, strict=True)):
        if on_progress is not None:
            on_progress(n, len(wanted), declared.name)
        answers.append(
            _run(store, declared, where=where, by=keys, options=values, seed=seed, draw=draw)
        )
    if on_progress is not None:
        on_progress(len(wanted), len(wanted), "")
    return Report(
        title or f"What it cost and what it achieved: {store.path.stem}",
        looked,
        tuple(a for a in answers if isinstance(a, Answered)),
        tuple(a for a in answers if isinstance(a, Unanswered)),
        now,
        __version__,
        others=tuple(sorted({*analysis.names()} - {a.name for a in wanted})),
        by=keys,
        seed=seed,
        most=most,
        changed=store.stamp() != before,
    )


def _options(declared: Analysis, options: Options) -> dict[str, Any]:
    """Select and check the options of one analysis, before any analysis runs."""
    names = {o.name for o in declared.options}
    given = {k: v for k, v in options.get("", {}).items() if k in names}
    given |= options.get(declared.name, {})
    declared.parse(given)
    return given


def _check_names(options: Options, wanted: Sequence[Analysis]) -> None:
    for name in options:
        if name and name not in {a.name for a in wanted}:
            raise AnalysisError(
                unknown_name("analysis of this report", name, [a.name for a in wanted])
            )
    known = {o.name for a in wanted for o in a.options}
    for name in options.get("", {}):
        if name not in known:
            raise AnalysisError(unknown_name("option of any analysis of this report", name, known))


def _run(
    store: Store,
    declared: Analysis,
    *,
    where: Slice,
    by: Sequence[str],
    options: Mapping[str, Any],
    seed: int,
    draw: bool,
) -> Answered | Unanswered:
    """Run one analysis and draw it; an error in it is reported and does not stop the others."""
    import numpy as np

    try:
        rng = np.random.default_rng(seed)
        result = analysis.run(declared.name, store, where=where, by=tuple(by), rng=rng, **options)
    except Exception as error:  # noqa: BLE001 (also a bug in the analysis)
        return Unanswered(declared, message_of(error), failed=True)
    return answer(result, store=store.path.name, where=str(where), seed=seed, draw=draw)


def look(store: Store, where: Slice | str = "") -> Looked:
    """Count the models, tasks, runs and prices of a slice of a store."""
    counted = {c: _values(store, c, where) for c in ("model", "task", "strategy", "configuration")}
    runs = _values(store, "run_id", where)
    prices = _values(store, "price_id", where)
    return Looked(
        store=store.path.name,
        where=str(where),
        n_traces=store.count(where),
        n_all=store.count(),
        models=counted["model"],
        tasks=counted["task"],
        strategies=counted["strategy"],
        configurations=counted["configuration"],
        runs=_rows(store, "runs", "run_id", runs, "started_at"),
        first_at=_first(store, where, descending=False),
        last_at=_first(store, where, descending=True),
        prices=_rows(store, "prices", "price_id", prices, "model"),
        n_unpriced=next((v.n for v in prices if v.name is None), 0),
        methods=_methods(store, where),
    )


def _values(store: Store, column: str, where: Slice | str) -> tuple[Value, ...]:
    rows = store.facet(column, where, limit=Looked().most).select("value", "n").iter_rows()
    return tuple(Value(None if value is None else str(value), n) for value, n in rows)


def _rows(store: Store, table: str, key: str, values: Sequence[Value], order: str) -> pl.DataFrame:
    """Fetch rows of a table by key, with the number of traces of the slice that refer to each."""
    import narwhals as nw

    n = pl.DataFrame(
        [(v.name, v.n) for v in values if v.name is not None],
        schema={key: pl.String, "n_traces": pl.Int64},
        orient="row",
    )
    with store.facts("", table) as frame:
        rows: pl.DataFrame = (
            frame.filter(nw.col(key).is_in(n[key].to_list())).collect("polars").to_native()
        )
    return rows.join(n, on=key).sort(order, key, nulls_last=True)


def _first(store: Store, where: Slice | str, *, descending: bool) -> dt.datetime | None:
    page = store.page(where, columns=("started_at",), descending=descending, limit=1)
    first: dt.datetime | None = page["started_at"][0] if page.height else None
    return first


def _methods(store: Store, where: Slice | str) -> tuple[str, ...]:
    with store.facts(where, "energy_facts") as frame:
        rows: pl.DataFrame = frame.select("method").unique().collect("polars").to_native()
    return tuple(rows["method"].drop_nulls().sort())

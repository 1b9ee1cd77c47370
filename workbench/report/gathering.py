"""Asking a store for what a report says: what there is in a slice, and the answers of analyses."""

import datetime as dt
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from workbench import __version__, analysis
from workbench.analysis import Analysis
from workbench.analysis.catalogue.registry import FAMILIES, FORMER_FAMILIES
from workbench.analysis.core.declaration import unknown_name
from workbench.errors import AnalysisError
from workbench.report.answers import answer, words_of
from workbench.report.contents import Answered, Looked, Report, Unanswered, Value
from workbench.slice import Slice
from workbench.store import Store

# The usual questions, one figure each: how good, who is worth it, what a right answer costs, how
# long it takes, what it draws, what thinking and tools bring, and how many items it takes to tell.
# All 53 take ten times as long to make and to read; whoever wants them says so.
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
Options = Mapping[
    str, Mapping[str, Any]
]  # analysis → option → value; what stands under "" is for all that have it
Told = Callable[[int, int, str], None]  # how many are done, of how many, what comes next


def chosen(
    names: Sequence[str] = (), families: Sequence[str] = (), *, all_: bool = False
) -> list[str]:
    """Name the analyses of a report in the order of reading: those named, of families, or the usual ones.

    Raises:
        AnalysisError: an unknown name or family.
    """
    wanted = {analysis.get(name).name for name in names}
    families = [_family(name) for name in families]
    wanted |= {
        name
        for name in analysis.names()
        if all_ or (families and analysis.get(name).family in families)
    }
    order = list(FAMILIES)
    found = [analysis.get(name) for name in wanted or USUAL]
    return [a.name for a in sorted(found, key=lambda a: (order.index(a.family), *_place(a.name)))]


def _family(name: str) -> str:
    """Check the name of a family; one that it had before is replaced, with a warning."""
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


def _place(name: str) -> tuple[int, str]:
    """Read the usual ones of a family first, the others by their names."""
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
    told: Told | None = None,
) -> Report:
    """Ask a store and gather a report.

    Args:
        store: whom to ask.
        names: the analyses; () takes the usual ones. `chosen` lists families, or all.
        where: which traces.
        by: the columns that name a group.
        options: those of analyses, by the analysis' name; under "" those of all that have them.
        seed: of what is random; each analysis begins with it, as `workbench analyze` does.
        title: the headline; made from the store's name where empty.
        now: when it is made; the present where None.
        draw: whether to draw charts; only a page shows them.
        most: rows of a table.
        told: hears how far it is.

    Raises:
        AnalysisError: an unknown name or option, or a value out of bounds; what goes wrong later is
            in the report.
    """
    now = now or dt.datetime.now(dt.UTC)
    where, keys = Slice.of(where, now=now), (by,) if isinstance(by, str) else tuple(by)
    wanted = [analysis.get(name) for name in dict.fromkeys(names or chosen())]
    _check_names(options or {}, wanted)
    given = [_options(declared, options or {}) for declared in wanted]
    before = store.stamp()
    looked = look(store, where)
    found = []
    for n, (declared, own) in enumerate(zip(wanted, given, strict=True)):
        if told is not None:
            told(n, len(wanted), declared.name)
        found.append(_ask(store, declared, where=where, by=keys, options=own, seed=seed, draw=draw))
    if told is not None:
        told(len(wanted), len(wanted), "")
    return Report(
        title or f"What it cost and what it achieved: {store.path.stem}",
        looked,
        tuple(f for f in found if isinstance(f, Answered)),
        tuple(f for f in found if isinstance(f, Unanswered)),
        now,
        __version__,
        others=tuple(sorted({*analysis.names()} - {a.name for a in wanted})),
        by=keys,
        seed=seed,
        most=most,
        changed=store.stamp() != before,
    )


def _options(declared: Analysis, options: Options) -> dict[str, Any]:
    """Take the options of one analysis, and check them before anything is asked."""
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


def _ask(
    store: Store,
    declared: Analysis,
    *,
    where: Slice,
    by: Sequence[str],
    options: Mapping[str, Any],
    seed: int,
    draw: bool,
) -> Answered | Unanswered:
    """Run one analysis and draw it; whatever goes wrong in it must not cost the others their answer."""
    import numpy as np

    try:
        rng = np.random.default_rng(seed)
        result = analysis.run(declared.name, store, where=where, by=tuple(by), rng=rng, **options)
    except Exception as error:  # noqa: BLE001 (also a fault of the analysis itself)
        return Unanswered(declared, words_of(error), failed=True)
    return answer(result, store=store.path.name, where=str(where), seed=seed, draw=draw)


def look(store: Store, where: Slice | str = "") -> Looked:
    """Find out what there is in a slice of a store."""
    counted = {c: _values(store, c, where) for c in ("model", "task", "strategy", "configuration")}
    runs, prices = _values(store, "run_id", where), _values(store, "price_id", where)
    n_traces, n_all = store.count(where), store.count()
    return Looked(
        store=store.path.name,
        where=str(where),
        n_traces=n_traces,
        n_all=n_all,
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
    """Fetch the rows of a table by their keys, with how many traces of the slice belong to each."""
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
    found: dt.datetime | None = page["started_at"][0] if page.height else None
    return found


def _methods(store: Store, where: Slice | str) -> tuple[str, ...]:
    with store.facts(where, "energy_facts") as frame:
        rows: pl.DataFrame = frame.select("method").unique().collect("polars").to_native()
    return tuple(rows["method"].drop_nulls().sort())

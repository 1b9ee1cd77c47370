"""Variance of outcomes between items and between trials."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis
from workbench.analysis.core.options import ERRORS, LEVEL, SHARED
from workbench.analysis.core.result import Answer, empty, label
from workbench.analysis.inputs import clustered_means, variance_components
from workbench.analysis.inputs.panel import Panel, build, divide
from workbench.analysis.inputs.reduce import Items, mean_repeats, reduce_items
from workbench.analysis.stats.arrays import Floats
from workbench.schema import KEY_NULL, Column

_SINGLE = "no item has two trials"
_NULL_IF_FEW = "no item has two trials, or fewer than two items"
_ENDS = "no spread to judge it by, or fewer than three items"
_ROWS = (
    Column("n_items", "int", "count", "Items with a trace that counts.", KEY_NULL, "items"),
    Column(
        "n_repeated",
        "int",
        "count",
        "Items with two trials or more.",
        KEY_NULL,
        "items with repeats",
    ),
    Column("n", "int", "count", "Traces that count.", KEY_NULL, "traces"),
    Column(
        "pass_rate",
        "float",
        "0..1",
        "Mean over items of the share of trials that passed.",
        KEY_NULL,
    ),
    Column(
        "pass_rate_low",
        "float",
        "0..1",
        "Lower end of its interval.",
        "fewer than two items",
        "pass rate, low",
    ),
    Column(
        "pass_rate_high",
        "float",
        "0..1",
        "Upper end of its interval.",
        "fewer than two items",
        "pass rate, high",
    ),
    Column(
        "se",
        "float",
        "",
        "Standard error of the pass rate, clustered.",
        "fewer than two items",
        "standard error",
    ),
    Column(
        "naive_se",
        "float",
        "",
        "What it would be if all traces were independent.",
        "fewer than two traces",
        "naive standard error",
    ),
    Column(
        "within",
        "float",
        "",
        "Variance of an outcome between trials of an item.",
        _SINGLE,
        "variance within items",
    ),
    Column("within_low", "float", "", "Lower end of its interval.", _ENDS, "within, low"),
    Column("within_high", "float", "", "Upper end of its interval.", _ENDS, "within, high"),
    Column(
        "between",
        "float",
        "",
        "Variance of the items' true pass rates.",
        _NULL_IF_FEW,
        "variance between items",
    ),
    Column("between_low", "float", "", "Lower end of its interval.", _ENDS, "between, low"),
    Column("between_high", "float", "", "Upper end of its interval.", _ENDS, "between, high"),
    Column(
        "icc",
        "float",
        "0..1",
        "Share of the variance that lies between items.",
        "not known, or no variance",
        "intraclass correlation",
    ),
    Column(
        "icc_low",
        "float",
        "0..1",
        "Lower end of its interval.",
        _ENDS,
        "intraclass correlation, low",
    ),
    Column(
        "icc_high",
        "float",
        "0..1",
        "Upper end of its interval.",
        _ENDS,
        "intraclass correlation, high",
    ),
    Column(
        "design_effect",
        "float",
        "",
        "Factor by which repeats inflate the variance of a mean of traces.",
        "not known, or no variance",
        "design effect",
    ),
    Column(
        "expected_repeat_sd",
        "float",
        "",
        "Standard deviation of one repeat's pass rate that trials alone explain.",
        _SINGLE,
        "expected sd of a repeat",
    ),
)
_ONE = "fewer than two complete repeats"
_REPEATS = (
    Column(
        "n_repeats",
        "int",
        "count",
        "Repeats that cover every item of the group.",
        KEY_NULL,
        "complete repeats",
    ),
    Column(
        "repeat_sd",
        "float",
        "",
        "Standard deviation of the pass rate over the repeats.",
        _ONE,
        "sd over repeats",
    ),
    Column(
        "repeat_min",
        "float",
        "0..1",
        "Lowest pass rate of a repeat.",
        "no complete repeat",
        "worst repeat",
    ),
    Column(
        "repeat_max",
        "float",
        "0..1",
        "Highest pass rate of a repeat.",
        "no complete repeat",
        "best repeat",
    ),
    Column(
        "signal_to_noise",
        "float",
        "",
        "Mean over standard deviation of the repeats' pass rates.",
        "fewer than two complete repeats, or all alike",
    ),
)


@analysis(
    name="variance",
    title="Variance",
    question="How much of the spread is between items, how much between trials, and how much do "
    "repeats differ?",
    source="one-way random effects (Searle, Casella & McCulloch 1992); Miller 2024, arXiv "
    "2411.00640; Madaan et al. 2024, arXiv 2406.10229; Bjarnason et al. 2026, arXiv "
    "2602.07150",
    needs=("item_id", "passed"),
    options=(
        Option(
            "repeat",
            "choice",
            "trial",
            "what tells repeats of the whole set apart",
            choices=("trial", "run_id"),
        ),
        SHARED,
        ERRORS,
        LEVEL,
    ),
    columns=(*_ROWS, *_REPEATS),
    example={"where": "strategy:direct,cot,think,budgeted"},
    chart=ChartSpec("variance", x="within", y="group"),
    settles=Settles("icc", 0.5),
)
def variance(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Split the variance of right and wrong into items and trials, per task if `by` names it.

    Grain: one row per group, in order of their names. Only scored traces count.

    Estimators, with p̂ the share of an item's n trials that passed: within σ² = mean over the items
    with two trials or more of p̂ (1 − p̂) n / (n − 1); between τ² = variance of p̂ over all items
    (n − 1) minus σ² times the mean of 1 / n, not below 0; intraclass correlation τ² / (τ² + σ²);
    design effect 1 + (m − 1) times it, with m = Σ n² / Σ n. With a single trial per item the two
    cannot be distinguished: null, not 0. Intervals are mean ± t · SE of the jackknife over clusters
    of items, cut to where the figure can lie; that of the pass rate is Wilson's with the effective
    number of items.

    Repeats are the `trial` numbers (or runs) that cover every item of the group; their standard
    deviation (n − 1) is what a second run of the same items would show. It says nothing about other
    items. `expected_repeat_sd` is √(σ² / items): what independent trials explain of it.
    """
    errors_as_wrong = options["errors_as_wrong"]
    items = reduce_items(frame, by, errors_as_wrong=errors_as_wrong)
    panels = build(items, shared=options["shared"])
    repeat_runs = _kept(frame, items, [panel for _, panel in panels.parts])
    runs = mean_repeats(repeat_runs, by, options["repeat"], errors_as_wrong=errors_as_wrong)
    rows = []
    notes = panels.notes
    partial = 0
    for task, panel in panels.parts:
        where = [pl.lit(task, pl.String).alias("task")] if task is not None else []
        task_runs = runs if task is None else runs.filter(pl.col("task") == task)
        repeats, gone = _repeats(task_runs, panel)
        partial += gone
        table = _rows(panel, options["level"]).join(
            repeats, on=panel.groups.columns, how="left", nulls_equal=True, maintain_order="left"
        )
        table = table.with_columns(pl.col("n_repeats").fill_null(0))
        rows.append(table.with_columns(where))
        notes += _notes(table, panel, task)
    columns = (*_ROWS, *_REPEATS)
    table = pl.concat(rows).select(*by, *(c.name for c in columns)) if rows else empty(by, columns)
    dropped = panels.dropped | {"repeats that do not cover every item of their group": partial}
    return Answer(table, dropped=dropped, notes=notes)


def _kept(frame: "nw.LazyFrame[Any]", items: Items, panels: Sequence[Panel]) -> "nw.LazyFrame[Any]":
    """Leave out the traces of items that are in no panel."""
    lost = set(items.frame.filter(pl.col("n") > 0)["item_id"])
    lost = lost.difference(*(panel.items["item_id"] for panel in panels))
    return frame.filter(~nw.col("item_id").is_in(sorted(lost))) if lost else frame


def _notes(table: pl.DataFrame, panel: Panel, task: str | None) -> tuple[str, ...]:
    single = table.filter(pl.col("n_repeated") == 0).select(panel.groups.columns)
    names = "; ".join(label(row) for row in single.head(5).iter_rows())
    on = f" on {task}" if task else ""
    return (f"one trial per item{on}: nothing tells items from chance in {names}",) if names else ()


def _rows(panel: Panel, level: float) -> pl.DataFrame:
    n = panel.matrix("n_scored")
    passed = panel.matrix("outcome")
    parts = variance_components.sums(panel, n, passed)
    components = variance_components.added(parts)
    between = np.maximum(components.between, 0.0)
    icc = divide(between, between + components.within)
    total = np.nansum(n, axis=0)
    size = divide(np.nansum(n**2, axis=0), total)
    rate = clustered_means.share(panel, panel.outcome(), level)
    pooled = divide(np.nansum(passed, axis=0), total)
    ends: dict[str, tuple[float, Any]] = {
        "within": (0.0, 0.5),
        "between": (0.0, 0.25 * divide(components.items, components.items - 1)),
        "icc": (0.0, 1.0),
    }
    return panel.groups.with_columns(
        pl.Series("n_items", components.items).cast(pl.Int64),
        pl.Series("n_repeated", components.repeated).cast(pl.Int64),
        pl.Series("n", total).cast(pl.Int64),
        *rate.series("pass_rate"),
        _known("se", rate.se),
        _known("naive_se", np.sqrt(divide(pooled * (1 - pooled), total - 1))),
        _known("within", components.within),
        _known("between", between),
        _known("icc", icc),
        _known("design_effect", 1 + (size - 1) * icc),
        _known("expected_repeat_sd", np.sqrt(divide(components.within, components.items))),
        *(
            _known(f"{name}_{end}", np.minimum(np.maximum(values, least), most))
            for name, (least, most) in ends.items()
            for end, values in zip(
                ("low", "high"), variance_components.jackknife(parts, name, level), strict=True
            )
        ),
    )


def _known(name: str, values: Floats) -> pl.Series:
    return pl.Series(name, values).fill_nan(None)


def _repeats(runs: pl.DataFrame, panel: Panel) -> tuple[pl.DataFrame, int]:
    """Score every repeat that covers a group's items; also count those that do not."""
    by = panel.groups.columns
    whole = panel.rows.group_by(by).agg(pl.len().alias("_all"))
    run_scores = runs.join(whole, on=by, how="inner", nulls_equal=True).sort("score")
    complete = run_scores.filter(pl.col("n_items") == pl.col("_all"))
    spread = pl.col("score").std(ddof=1)
    spreads = complete.group_by(by).agg(
        n_repeats=pl.len().cast(pl.Int64),
        repeat_sd=spread,
        repeat_min=pl.col("score").min(),
        repeat_max=pl.col("score").max(),
        signal_to_noise=pl.when(spread > 1e-12).then(pl.col("score").mean() / spread),
    )
    return spreads, run_scores.height - complete.height

"""Swiss rounds over benchmarks: points, first places, and elimination."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis, unknown_name
from workbench.analysis.core.null_reasons import FEW_ITEMS
from workbench.analysis.core.options import ERRORS, LEVEL, OUTCOME
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.inputs.panel import Panel, build, divide
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import resampling, swiss_rounds
from workbench.analysis.stats.arrays import Floats, Ints
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_ROWS = (
    Column("rank", "int", "", "Place by expected points, 1 the most.", KEY_NULL),
    *ends(
        Column(
            "points", "float", "", "Expected points over all rounds.", KEY_NULL, "expected points"
        ),
        FEW_ITEMS,
    ),
    Column(
        "p_first",
        "float",
        "0..1",
        "Share of the tournaments with the most points, shared ones shared out.",
        KEY_NULL,
        "comes first",
    ),
    Column(
        "mean_outcome",
        "float",
        "0..1",
        "Mean over benchmarks of the score.",
        KEY_NULL,
        "mean score",
    ),
    Column("mean_rank", "int", "", "Place by that mean.", KEY_NULL, "place by mean score"),
    Column(
        "failure_slope",
        "float",
        "",
        "Points per elimination: expected points with `eliminate` minus without, over it; "
        "the lower the more is lost by being weak early.",
        "nobody is eliminated",
        "points per elimination",
    ),
    Column("n_benchmarks", "int", "count", "Rounds.", KEY_NULL, "benchmarks"),
)
_SENSITIVITY = (
    Column("eliminated", "int", "count", "How many leave after a round.", KEY_NULL),
    Column(
        "expected",
        "float",
        "",
        "Expected points with so many leaving.",
        KEY_NULL,
        "expected points",
    ),
)


@analysis(
    name="swiss",
    title="Swiss rounds",
    question="Which groups win when they meet benchmark by benchmark others of equal points, and "
    "which lose most by early failures?",
    source="competitive Swiss-system dynamics, arXiv 2512.21010 (from summaries); ties, late "
    "eliminations and the slope are ours",
    needs=("item_id", "task"),
    options=(
        Option(
            "order",
            "text",
            "",
            "benchmarks in the order of the rounds, comma-separated; empty is by name",
        ),
        Option(
            "eliminate", "int", 1, "how many of the last leave after each round but the last", low=0
        ),
        Option("times", "int", 2000, "tournaments", low=100, high=100_000),
        OUTCOME,
        ERRORS,
        LEVEL,
        Option(
            "resamples",
            "int",
            200,
            "bootstrap resamples of the items, a tenth of `times` tournaments each",
            low=50,
            high=5000,
        ),
    ),
    columns=(*_ROWS, *_SENSITIVITY),
    chart=ChartSpec("figures", x="points", y="group", also=("mean_outcome", "p_first")),
    example={"where": "strategy:direct,cot,think"},
)
def swiss(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Let groups meet in Swiss rounds, a task a round, the most points first.

    Grain: one row per group that has a score on every task, which `by` need not name;
    `more["sensitivity"]`: one row per group and number of eliminations. Trials are averaged within
    items and items within tasks.

    In each round those of equal points are paired at random; the higher score on the round's task
    gets a point, equal scores half each; a group that is left over gets none. Then `eliminate`
    of those with the fewest points leave, drawn at random. Expected points are means over simulated
    tournaments, so they carry the simulation's own error, about √(rounds / times) at most. The
    order of the tasks matters: the first tasks decide which groups stay.

    Intervals: expanded percentile bootstrap of item clusters, tournaments played anew on each
    resample; a wider one than the data's alone by the simulation's error.
    """
    whole_by, by = by, tuple(c for c in by if c != "task")
    if not by:
        raise AnalysisError("by: tasks are the rounds; group by what meets, as model")
    task_note = ("task is no group here: tasks are the rounds",) if len(by) < len(whole_by) else ()
    items = reduce_items(
        frame,
        by,
        outcome=options["outcome"],
        errors_as_wrong=options["errors_as_wrong"],
        about=("task",),
    )
    built = build(items)
    shape = {c: items.frame.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _ROWS}
    if not built.parts:
        return Answer(pl.DataFrame(schema=shape), dropped=built.dropped, notes=task_note)
    panel = built.parts[0][1]
    tasks = _order(panel.items["task"].fill_null("").unique().sort().to_list(), options["order"])
    rounds = (
        panel.items["task"]
        .fill_null("")
        .replace_strict({t: k for k, t in enumerate(tasks)}, return_dtype=pl.Int64)
    )
    outcome = panel.outcome()
    sums = _sums(panel, outcome, rounds.to_numpy(), len(tasks))
    scores = _scores(sums.sum(axis=0, keepdims=True), outcome.shape[1], len(tasks))[0]
    whole = ~np.isnan(scores).any(axis=1)
    groups = panel.groups.filter(pl.Series(whole))
    dropped = built.dropped | {"groups without a score on every task": int((~whole).sum())}
    if not whole.any():
        return Answer(pl.DataFrame(schema=shape), dropped=dropped, notes=(*built.notes, *task_note))
    table, more = _played(groups, scores[whole], rng, options)
    low, high = _interval(sums, panel.n_clusters, whole, len(tasks), rng=rng, options=options)
    table = table.with_columns(
        pl.Series("points_low", low).fill_nan(None), pl.Series("points_high", high).fill_nan(None)
    )
    table = table.select(*by, *(c.name for c in _ROWS)).sort(
        "points", *by, descending=[True, *[False] * len(by)]
    )
    notes = (*built.notes, *task_note, f"rounds: {', '.join(tasks)}")
    return Answer(table, more={"sensitivity": more}, dropped=dropped, notes=notes)


def _played(
    groups: pl.DataFrame, scores: Floats, rng: np.random.Generator, options: dict[str, Any]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Play with as many leaving as requested, and with fewer; scores are (n_groups, n_rounds)."""
    eliminated = options["eliminate"]
    n = len(groups)
    points, firsts = (
        x[0] for x in swiss_rounds.play(scores[None], eliminated, options["times"], rng)
    )
    levels = {0, 1, 2, eliminated} & set(range(n)) if n > 1 else {0}
    figures = {
        t: swiss_rounds.play(scores[None], t, options["times"], rng)[0][0] for t in sorted(levels)
    }
    figures[eliminated] = points
    slope = (points - figures[0]) / eliminated if eliminated else np.full(n, np.nan)
    table = groups.with_columns(
        pl.Series("points", points),
        pl.Series("p_first", firsts),
        pl.Series("mean_outcome", scores.mean(axis=1)),
        pl.Series("failure_slope", slope).fill_nan(None),
        n_benchmarks=pl.lit(scores.shape[1], pl.Int64),
    ).with_columns(
        rank=pl.col("points").rank("min", descending=True).cast(pl.Int64),
        mean_rank=pl.col("mean_outcome").round(9).rank("min", descending=True).cast(pl.Int64),
    )
    more = [
        groups.with_columns(pl.lit(t, pl.Int64).alias("eliminated"), pl.Series("expected", v))
        for t, v in sorted(figures.items())
    ]
    return table, pl.concat(more)


def _order(tasks: list[str], order: str) -> list[str]:
    named = [t.strip() for t in order.split(",") if t.strip()]
    for task in named:
        if task not in tasks:
            raise AnalysisError(unknown_name("task of option order", task, tasks))
    return [*named, *(t for t in tasks if t not in named)]


def _sums(panel: Panel, outcome: Floats, rounds: Ints, n_tasks: int) -> Floats:
    """Add up scores and how many, (n_clusters, columns × n_tasks), so that a resample is a product.

    The columns are the groups' scores, and how many there are of each, or of all where they share
    items.
    """
    known = ~np.isnan(outcome)
    if (known == known[:, :1]).all():
        known = known[:, :1]
    columns = [*np.where(np.isnan(outcome), 0.0, outcome).T, *known.T]
    place = panel.clusters * n_tasks + rounds
    out = np.empty((panel.n_clusters, len(columns), n_tasks))
    for j, column in enumerate(columns):
        out[:, j] = np.bincount(place, column, out.shape[0] * n_tasks).reshape(-1, n_tasks)
    return out.reshape(panel.n_clusters, -1)


def _scores(totals: Floats, n_groups: int, n_tasks: int) -> Floats:
    """Turn sums and counts into scores, (m, n_groups, n_tasks); NaN where a group has none."""
    columns = totals.reshape(len(totals), -1, n_tasks)
    return divide(columns[:, :n_groups], columns[:, n_groups:])


def _interval(
    sums: Floats,
    n_clusters: int,
    whole: Any,
    n_tasks: int,
    *,
    rng: np.random.Generator,
    options: dict[str, Any],
) -> tuple[Floats, Floats]:
    nothing = np.full(int(whole.sum()), np.nan)
    if n_clusters < 2:
        return nothing, nothing
    resampled = _scores(
        resampling.resampled_sums(sums, options["resamples"], rng), len(whole), n_tasks
    )[:, whole]
    complete = resampled[~np.isnan(resampled).any(axis=(1, 2))]
    if len(complete) < options["resamples"] / 2:
        return nothing, nothing  # too few items per task: most resamples miss one
    points, _ = swiss_rounds.play(
        complete, options["eliminate"], max(options["times"] // 10, 20), rng
    )
    return resampling.percentile(points, options["level"], n_clusters)

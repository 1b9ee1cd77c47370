"""Compare two groups item by item: difference, test, interval, and price."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis, unknown_name
from workbench.analysis.core.options import ERRORS, LEVEL, OUTCOME, RESAMPLES
from workbench.analysis.core.result import DTYPES, Answer, label
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import Items, reduce_items
from workbench.analysis.stats import intervals, paired_tests, resampling
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_NULL_IF_FEW = "fewer than two shared items, or no spread"
_ROWS = (
    Column("a", "text", doc="The group on the left of the difference.", null=KEY_NULL, title="A"),
    Column("b", "text", doc="The group on the right.", null=KEY_NULL, title="B"),
    Column("verdict", "text", doc="The finding in words.", null=KEY_NULL),
    Column("n_items", "int", "count", "Shared items.", KEY_NULL, "shared items"),
    Column(
        "n_clusters",
        "int",
        "count",
        "Clusters of them, which the intervals and tests rest on.",
        KEY_NULL,
        "clusters",
    ),
    Column("n", "int", "count", "Traces on them, of both.", KEY_NULL, "traces"),
    Column(
        "rate_a",
        "float",
        "0..1",
        "Mean outcome of A over the shared items.",
        "no shared items",
        "A",
    ),
    Column(
        "rate_b",
        "float",
        "0..1",
        "Mean outcome of B over the shared items.",
        "no shared items",
        "B",
    ),
    Column("difference", "float", "0..1", "A minus B.", "no shared items", "A − B"),
    Column(
        "difference_low", "float", "0..1", "Lower end of its interval.", _NULL_IF_FEW, "A − B, low"
    ),
    Column(
        "difference_high",
        "float",
        "0..1",
        "Upper end of its interval.",
        _NULL_IF_FEW,
        "A − B, high",
    ),
    Column(
        "joint_difference_low",
        "float",
        "0..1",
        "Lower end of the interval for all comparisons at once.",
        _NULL_IF_FEW,
        "A − B, low (joint)",
    ),
    Column(
        "joint_difference_high",
        "float",
        "0..1",
        "Upper end of the interval for all comparisons at once.",
        _NULL_IF_FEW,
        "A − B, high (joint)",
    ),
    Column(
        "se", "float", "0..1", "Paired standard error, clustered.", _NULL_IF_FEW, "standard error"
    ),
    Column("p_value", "float", "0..1", "Two-sided, of no difference.", "no shared items", "p"),
    Column(
        "p_holm",
        "float",
        "0..1",
        "Adjusted for all comparisons of the table.",
        "no shared items",
        "p (Holm)",
    ),
    Column("test", "text", doc="The test that gave p.", null="no shared items"),
    Column("n_a_better", "int", "count", "Items on which A did better.", KEY_NULL, "A better"),
    Column("n_b_better", "int", "count", "Items on which B did better.", KEY_NULL, "B better"),
    Column("n_same", "int", "count", "Items on which both did the same.", KEY_NULL, "same"),
    Column(
        "cost_a_usd",
        "float",
        "USD",
        "Mean cost of A's traces on shared items of known cost.",
        "none known",
        "cost of A",
    ),
    Column(
        "cost_b_usd",
        "float",
        "USD",
        "Mean cost of B's traces on shared items of known cost.",
        "none known",
        "cost of B",
    ),
    Column(
        "cost_ratio",
        "float",
        doc="Cost of A over that of B.",
        null="a cost is unknown or B is free",
        title="cost A / B",
    ),
    Column(
        "cost_ratio_low",
        "float",
        doc="Lower end of its interval.",
        null=_NULL_IF_FEW,
        title="cost A / B, low",
    ),
    Column(
        "cost_ratio_high",
        "float",
        doc="Upper end of its interval.",
        null=_NULL_IF_FEW,
        title="cost A / B, high",
    ),
)
_FLIPS = (
    Column("outcome_a", "float", "0..1", "Mean outcome of A on the item.", KEY_NULL, "A"),
    Column("outcome_b", "float", "0..1", "Mean outcome of B on the item.", KEY_NULL, "B"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class _Pair:
    """Two groups on the items that both were tried on, (n_items, 2): A first."""

    panel: Panel
    names: tuple[str, str]
    outcome: Floats
    cost: Floats
    trials: Floats


@analysis(
    name="compare",
    title="Compare",
    question="Is A really better than B, at what price, and on which items?",
    source="Miller 2024, arXiv 2411.00640 (paired, clustered); McNemar "
    "1947; Fisher 1935; Holm 1979",
    needs=("item_id",),
    measures=("cost_usd",),
    options=(
        Option("a", "group", None, "the group to judge; one of the two commonest if open"),
        Option("b", "group", None, "what to hold it against; every other group if only a is given"),
        OUTCOME,
        Option(
            "interval",
            "choice",
            "t",
            "interval of the difference",
            choices=("t", "percentile", "bca"),
        ),
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ROWS, *_FLIPS),
    chart=ChartSpec("compare", x="difference", y="pair"),
)
def compare(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Judge A against B on the items that both were tried on, per task if `by` names it.

    Grain: one row per comparison; `more["flips"]`: one row per comparison and item on which the two
    differ. Only scored traces count; trials are averaged within their item.

    The difference is the mean over shared items of A's outcome minus B's, its standard error paired
    and clustered (Miller 2024), its interval ± t with one degree of freedom fewer than clusters, or
    a bootstrap over clusters. p: exact McNemar where every shared item has one trial in both groups
    and is a cluster of its own; else a sign-flip permutation of the clusters' summed differences,
    exact up to 16 that differ.

    `difference_low`, `difference_high` and `p_value` are of each comparison alone. With several,
    `p_holm` is adjusted by Holm's method and `joint_difference_low`, `joint_difference_high` by
    Bonferroni's: together the intervals hold all true differences with probability `level`. The
    verdict is about these: "tied" unless p_holm is below 1 − level; "alike" where both are right on
    every shared item, or on none; "undecided" where the interval leaves out 0 though the test,
    which is exact, does not reject it; "too few" where not even a difference of the same sign in
    every cluster could be significant (p ≥ 2^(1 − clusters) times the number of comparisons).

    The cost ratio is of mean costs over the shared items where both are known, with an expanded
    percentile bootstrap.
    """
    items = reduce_items(
        frame,
        by,
        ("cost_usd",),
        outcome=options["outcome"],
        errors_as_wrong=options["errors_as_wrong"],
        about=("task", "item"),
    )
    panels = build(items)
    chosen = _choose(items, by, options["a"], options["b"])
    pair_rows = [
        (task, *_pair(panel, a, b))
        for task, panel in panels.parts
        for a, b in chosen
        if a in panel.labels and b in panel.labels
    ]
    n_tests = sum(len(pair.outcome) > 0 for _, pair, _ in pair_rows)
    rows = [
        ({"task": task} if task is not None else {}) | _judge(pair, rng, options, n_tests)
        for task, pair, _ in pair_rows
    ]
    flips = [_flips(pair) for _, pair, _ in pair_rows]
    alone = sum(unshared for *_, unshared in pair_rows)
    table = _verdicts(rows, options["level"])
    head = [*(["task"] if table.columns[:1] == ["task"] else []), *(c.name for c in _ROWS)]
    more = {"flips": pl.concat(flips)} if flips else {}
    dropped = panels.dropped | {"items that only one of the two was tried on": alone}
    notes = () if chosen else ("nothing to compare: there are fewer than two groups",)
    return Answer(table.select(head), more=more, dropped=dropped, notes=notes)


def _choose(items: Items, by: Sequence[str], a: str | None, b: str | None) -> list[tuple[str, str]]:
    """Name the comparisons: the two commonest groups, A against B, or A against every other."""
    keys = [c for c in by if c != "task"] or list(by)
    counts = items.frame.filter(pl.col("n") > 0).group_by(keys).agg(pl.col("n").sum())
    counts = counts.sort("n", *keys, descending=[True] + [False] * len(keys), nulls_last=True)
    labels = [label(row) for row in counts.select(keys).iter_rows()]
    for side, name in (("a", a), ("b", b)):
        if name is not None and name not in labels:
            raise AnalysisError(unknown_name(f"group for {side}", name, labels))
    if a is not None and a == b:
        raise AnalysisError(f"a and b are the same group: {a}")
    if a is None and b is None:
        return [(labels[0], labels[1])] if len(labels) > 1 else []
    if a is None:
        return [(next(n for n in labels if n != b), str(b))] if len(labels) > 1 else []
    return [(a, b)] if b is not None else [(a, other) for other in sorted(labels) if other != a]


def _pair(panel: Panel, a: str, b: str) -> tuple[_Pair, int]:
    """Take two groups on their shared items; also count the items that only one has."""
    at = [panel.labels.index(a), panel.labels.index(b)]
    tried = panel.tried[:, at]
    both = np.asarray(tried.all(axis=1))
    shared = panel.restrict(both)
    if not both.any():
        nothing = np.empty((0, 2))
        return _Pair(shared, (a, b), nothing, nothing, nothing), int(tried.any(axis=1).sum())
    at = [shared.labels.index(a), shared.labels.index(b)]
    pair = _Pair(
        shared,
        (a, b),
        shared.outcome()[:, at],
        shared.measure("cost_usd")[:, at],
        shared.matrix("n_scored")[:, at],
    )
    return pair, int((tried.any(axis=1) & ~both).sum())


def _judge(
    pair: _Pair, rng: np.random.Generator, options: dict[str, Any], n_tests: int
) -> dict[str, Any]:
    """Measure one comparison; the verdict comes when all p-values are known."""
    n = len(pair.outcome)
    row: dict[str, Any] = dict.fromkeys(c.name for c in _ROWS)
    row |= {"a": pair.names[0], "b": pair.names[1], "n_items": n, "n": int(pair.trials.sum())}
    row["n_clusters"] = pair.panel.n_clusters if n else 0
    d = pair.outcome[:, 0] - pair.outcome[:, 1]
    better = {"n_a_better": d > 0, "n_b_better": d < 0, "n_same": d == 0}
    row |= {name: int(flag.sum()) for name, flag in better.items()}
    if n == 0:
        return row
    row |= {
        "rate_a": float(pair.outcome[:, 0].mean()),
        "rate_b": float(pair.outcome[:, 1].mean()),
        "difference": float(d.mean()),
    }
    row |= _interval(pair, d, rng, options, n_tests)
    row |= _test(pair, d, rng, options)
    return row | _cost(pair, rng, options)


def _interval(
    pair: _Pair, d: Floats, rng: np.random.Generator, options: dict[str, Any], n_tests: int
) -> dict[str, Any]:
    """Compute the difference's interval at the level, and at that adjusted for n_tests."""
    panel = pair.panel
    if panel.n_clusters < 2 or np.ptp(d) < 1e-12:
        return {}
    residuals = panel.cluster_sums((d - d.mean())[:, None])
    se = intervals.clustered_se(residuals, [len(d)], [panel.n_clusters])
    alone = options["level"]
    levels = {"difference": alone, "joint_difference": 1 - (1 - alone) / n_tests}
    if options["interval"] == "t":
        ends = {
            name: intervals.student(d.mean(), se, panel.n_clusters, level)
            for name, level in levels.items()
        }
    else:
        ends = _bootstrap(panel, d, rng, options, levels)
    row = {"se": float(se[0])}
    for name, (low, high) in ends.items():
        row[f"{name}_low"] = max(float(low[0]), -1.0)
        row[f"{name}_high"] = min(float(high[0]), 1.0)
    return row


def _bootstrap(
    panel: Panel,
    d: Floats,
    rng: np.random.Generator,
    options: dict[str, Any],
    levels: dict[str, float],
) -> dict[str, tuple[Floats, Floats]]:
    sums = panel.cluster_sums(np.column_stack([d, np.ones_like(d)]))
    draws = resampling.resampled_sums(sums, options["resamples"], rng)
    draws = draws[:, :1] / draws[:, 1:]
    if options["interval"] == "percentile":
        return {
            name: resampling.percentile(draws, level, len(sums)) for name, level in levels.items()
        }
    jackknife = resampling.left_out_sums(sums)
    jackknife = jackknife[:, :1] / jackknife[:, 1:]
    mean = np.array([d.mean()])
    return {
        name: resampling.bca(mean, draws, jackknife, level, len(sums))
        for name, level in levels.items()
    }


def _test(
    pair: _Pair, d: Floats, rng: np.random.Generator, options: dict[str, Any]
) -> dict[str, Any]:
    single = bool((pair.trials == 1).all()) and pair.panel.n_clusters == len(d)
    if single and options["outcome"] == "passed":
        p = paired_tests.mcnemar(int((d > 0).sum()), int((d < 0).sum()))
        return {"p_value": p, "test": "McNemar, exact"}
    sums = pair.panel.cluster_sums(d[:, None])[:, 0]
    sums = np.where(np.abs(sums) < 1e-12, 0.0, sums)
    p, exact = paired_tests.sign_flip(sums, options["resamples"], rng)
    return {"p_value": p, "test": "sign flips, exact" if exact else "sign flips, drawn"}


def _cost(pair: _Pair, rng: np.random.Generator, options: dict[str, Any]) -> dict[str, Any]:
    known = np.asarray(~np.isnan(pair.cost).any(axis=1))
    if not known.any():
        return {}
    cost = np.where(known[:, None], pair.cost, np.nan)
    a, b = (float(x) for x in np.nanmean(cost, axis=0))
    costs: dict[str, Any] = {"cost_a_usd": a, "cost_b_usd": b}
    if b <= 0:
        return costs
    costs["cost_ratio"] = a / b
    sums = pair.panel.cluster_sums(np.column_stack([cost, known.astype(float)]))
    sums = sums[sums[:, 2] > 0][:, :2]
    if len(sums) < 2:
        return costs
    draws = resampling.resampled_sums(sums, options["resamples"], rng)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = draws[:, :1] / draws[:, 1:]
        low, high = resampling.percentile(ratios, options["level"], len(sums))
    ends = {"cost_ratio_low": float(low[0]), "cost_ratio_high": float(high[0])}
    return costs | {k: v for k, v in ends.items() if not np.isnan(v)}


def _flips(pair: _Pair) -> pl.DataFrame:
    """List the items on which the two differ, the widest first."""
    items = pair.panel.items.select("task", "item", "item_id")
    outcome = pair.outcome
    cost = pair.cost
    table = items.select(
        pl.lit(pair.names[0]).alias("a"), pl.lit(pair.names[1]).alias("b"), pl.all()
    ).with_columns(
        pl.Series("outcome_a", outcome[:, 0]),
        pl.Series("outcome_b", outcome[:, 1]),
        pl.Series("difference", outcome[:, 0] - outcome[:, 1]),
        pl.Series("cost_a_usd", cost[:, 0]).fill_nan(None),
        pl.Series("cost_b_usd", cost[:, 1]).fill_nan(None),
    )
    differ = table.filter(pl.col("difference") != 0)
    return differ.sort("difference", "item_id", descending=[True, False])


def _verdicts(rows: list[dict[str, Any]], level: float) -> pl.DataFrame:
    """Adjust the p-values for one another and say what each comparison found."""
    tested = [row for row in rows if row["p_value"] is not None]
    adjusted = paired_tests.holm([row["p_value"] for row in tested])
    for row, p in zip(tested, adjusted, strict=True):
        row["p_holm"] = float(p)
    for row in rows:
        row["verdict"] = _verdict(row, level, len(tested))
    schema: dict[str, type[pl.DataType]] = {c.name: DTYPES[c.type] for c in _ROWS}
    if any("task" in row for row in rows):
        schema = {"task": pl.String} | schema
    return pl.DataFrame(rows, schema=schema)


def _verdict(row: dict[str, Any], level: float, n_tests: int) -> str:
    if row["difference"] is None:
        return "no shared items"
    points = 100 * row["difference"]
    if row["p_holm"] < 1 - level:
        words = f"{'A' if points > 0 else 'B'} is better by {abs(points):.1f} points"
    else:
        words = _not_told_apart(row, paired_tests.clusters_needed(1 - level, n_tests))
    ratio = row["cost_ratio"]
    return words if ratio is None else f"{words}; A costs {ratio:.2g} × B"


def _not_told_apart(row: dict[str, Any], needed: int) -> str:
    """Explain why a comparison has no winner, with the p-value and interval of all comparisons."""
    p, clusters = f"p = {row['p_holm']:.2g}", row["n_clusters"]
    if row["rate_a"] == row["rate_b"] and row["rate_a"] in {0.0, 1.0}:
        right = "right on every shared item" if row["rate_a"] else "right on no shared item"
        return f"alike: both are {right}"
    if clusters < needed:
        unit = "items" if clusters == row["n_items"] else "clusters of items"
        return (
            f"too few to tell: with {clusters} shared {unit} no difference could be significant,"
            f" it takes {needed} or more"
        )
    if row["joint_difference_low"] is None:
        return f"tied ({p})"
    low = row["joint_difference_low"]
    high = row["joint_difference_high"]
    word = "tied" if low <= 0 <= high else "undecided"
    return f"{word} ({p}): A − B is {100 * low:+.1f} to {100 * high:+.1f} points"

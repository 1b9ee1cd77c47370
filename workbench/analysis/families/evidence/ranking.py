"""Ranking of groups by pairwise wins on items, and the agreement of rankings."""

import itertools
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, analysis
from workbench.analysis.core.options import ERRORS, LEVEL, OUTCOME
from workbench.analysis.core.result import Answer, empty
from workbench.analysis.inputs import clustered_means
from workbench.analysis.inputs.panel import Panel, build, divide
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.stats import bradley_terry, intervals
from workbench.analysis.stats.arrays import Floats
from workbench.analysis.stats.rank_correlation import tau_b
from workbench.schema import KEY_NULL, Column

_ELO = 400 / np.log(10)
_LOOSE = "no chain of wins joins all groups"
_NULL_IF_FEW = "no chain of wins joins all groups, or fewer than two items"
_ROWS = (
    Column(
        "rank",
        "int",
        "",
        "Place by strength, 1 for the strongest; equal ones share the better.",
        _LOOSE,
    ),
    Column("strength", "float", "", "Log odds of beating an average group on an item.", _LOOSE),
    Column(
        "strength_low", "float", "", "Lower end of its interval.", _NULL_IF_FEW, "strength, low"
    ),
    Column(
        "strength_high", "float", "", "Upper end of its interval.", _NULL_IF_FEW, "strength, high"
    ),
    Column(
        "elo", "float", "", "Strength in Elo's unit: 400 points are odds of 10 to 1.", _LOOSE, "Elo"
    ),
    Column(
        "win_rate",
        "float",
        "0..1",
        "Share of its comparisons that it won, ties half.",
        "compared with nobody",
    ),
    Column(
        "tie_rate",
        "float",
        "0..1",
        "Share of its comparisons that were ties.",
        "compared with nobody",
    ),
    Column(
        "n_comparisons",
        "int",
        "count",
        "Pairs of this group and another on a shared item.",
        KEY_NULL,
        "comparisons",
    ),
    Column("n_items", "int", "count", "Items with a trace that counts.", KEY_NULL, "items"),
    Column(
        "mean_outcome",
        "float",
        "0..1",
        "Mean over items of the mean outcome of their trials.",
        KEY_NULL,
        "mean outcome",
    ),
)
_AGREEMENT = (
    Column("a", "text", doc="One ranking.", null=KEY_NULL, title="A"),
    Column("b", "text", doc="The other.", null=KEY_NULL, title="B"),
    Column("n_groups", "int", "count", "Groups in both.", KEY_NULL, "groups"),
    Column(
        "kendall_tau",
        "float",
        "",
        "Kendall's τ-b: 1 where they agree, −1 where one is the other reversed.",
        "fewer than two groups, or all tied",
        "Kendall's τ",
    ),
)


@analysis(
    name="ranking",
    title="Ranking",
    question="Who is strongest when groups meet item by item, and do rankings agree?",
    source="Bradley & Terry 1952; Kendall 1945 (τ-b); clustered errors: Liang & Zeger 1986",
    needs=("item_id",),
    measures=("cost_usd",),
    options=(OUTCOME, ERRORS, LEVEL),
    columns=(*_ROWS, *_AGREEMENT),
    chart=ChartSpec("ranking", x="strength", y="group"),
)
def ranking(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Rank groups by Bradley and Terry's strengths, the strongest first, per task if `by` names it.

    Grain: one row per group; `more["agreement"]`: one row per pair of rankings. Only scored traces
    count; trials are averaged within their item. On every item that two groups were tried on, the
    one with the higher mean outcome wins; equal ones take half a win each.

    Estimator: maximum likelihood of P(i beats j) = 1 / (1 + exp(θ_j − θ_i)), strengths of mean 0.
    Unlike a mean it compares groups on shared items only, so that an easy set of items lifts
    nobody. Where no chain of wins leads from each group to each other the likelihood has no
    maximum, and strengths are null, not large. Intervals: ± t · SE of the sandwich estimator with
    the items' clusters, since the comparisons on one item are not independent.

    Agreement is Kendall's τ-b between strength, mean outcome and cheapness (the lower mean cost the
    better), and between the strengths on two tasks, over the groups in both.
    """
    items = reduce_items(
        frame,
        by,
        ("cost_usd",),
        outcome=options["outcome"],
        errors_as_wrong=options["errors_as_wrong"],
    )
    panels = build(items)
    rows = []
    notes = panels.notes
    agreement = []
    strengths: list[tuple[str, dict[str, float]]] = []
    for task, panel in panels.parts:
        on = f" on {task}" if task else ""
        table, theta = _rows(panel, options["level"])
        if np.isnan(theta).any() and len(theta) > 1:
            notes += (f"no chain of wins joins all groups{on}: strengths would be infinite",)
        where = [pl.lit(task, pl.String).alias("task")] if task is not None else []
        rows.append(table.with_columns(where))
        outcome, cost = (_mean(x) for x in (panel.outcome(), panel.measure("cost_usd")))
        lists = {"strength": theta, "mean outcome": outcome, "cheapness": -cost}
        named = [(f"{n}{on}", dict(zip(panel.labels, v, strict=True))) for n, v in lists.items()]
        agreement += [_agree(a, b) for a, b in itertools.combinations(named, 2)]
        strengths.append(named[0])
    agreement += [_agree(a, b) for a, b in itertools.combinations(strengths, 2)]
    table = pl.concat(rows).select(*by, *(c.name for c in _ROWS)) if rows else empty(by, _ROWS)
    more = (
        {"agreement": pl.DataFrame(agreement, schema=empty((), _AGREEMENT).schema)} if rows else {}
    )
    return Answer(table, more=more, dropped=panels.dropped, notes=notes)


def _mean(values: Floats) -> Floats:
    """Mean over the known items, (n_groups,); NaN where none is known."""
    return divide(np.nansum(values, axis=0), (~np.isnan(values)).sum(axis=0))


def _agree(a: tuple[str, dict[str, float]], b: tuple[str, dict[str, float]]) -> dict[str, Any]:
    """Compare two rankings on the groups that both have a value of."""
    both = [
        (x, b[1][name])
        for name, x in a[1].items()
        if name in b[1] and not np.isnan(x) and not np.isnan(b[1][name])
    ]
    tau = float("nan")
    if len(both) > 1:
        left, right = np.array(both).T
        tau = float(tau_b(left, right))
    agreement = None if np.isnan(tau) else tau
    return {"a": a[0], "b": b[0], "n_groups": len(both), "kendall_tau": agreement}


def _rows(panel: Panel, level: float) -> tuple[pl.DataFrame, Floats]:
    """Fit a panel; also give the strengths, NaN where there are none."""
    outcome = panel.outcome()
    wins, ties = _meetings(outcome)
    games = (wins + wins.T).sum(axis=1)
    n = len(wins)
    theta, low, high = (np.full(n, np.nan) for _ in range(3))
    if n > 1 and bradley_terry.connected(wins):
        theta = bradley_terry.strengths(wins)
        low, high = intervals.student(
            theta, _errors(panel, outcome, wins, theta), panel.n_clusters, level
        )
    table = panel.groups.with_columns(
        *(
            pl.Series(name, values).fill_nan(None)
            for name, values in {
                "strength": theta,
                "strength_low": low,
                "strength_high": high,
                "elo": _ELO * theta,
                "win_rate": divide(wins.sum(axis=1), games),
                "tie_rate": divide(ties, games),
                "mean_outcome": clustered_means.share(panel, outcome, level).value,
            }.items()
        ),
        pl.Series("n_comparisons", games).cast(pl.Int64),
        pl.Series("n_items", panel.tried.sum(axis=0)).cast(pl.Int64),
    )
    # Strengths that differ by rounding only share a place.
    rank = pl.col("strength").round(9).rank("min", descending=True).cast(pl.Int64)
    table = table.with_columns(rank=rank)
    order = ["strength", "win_rate", *panel.groups.columns]
    down = [True, True, *[False] * len(panel.groups.columns)]
    return table.sort(order, descending=down, nulls_last=True), theta


def _meetings(outcome: Floats) -> tuple[Floats, Floats]:
    """Count wins, (n_groups, n_groups), ties as half a win for each, and ties, (n_groups,)."""
    n = outcome.shape[1]
    wins = np.zeros((n, n))
    ties = np.zeros(n)
    for g in range(n):
        won, tied = _against(outcome, g)
        wins[g], ties[g] = np.nansum(won, axis=0), np.nansum(tied)
    return wins, ties


def _against(outcome: Floats, g: int) -> tuple[Floats, Floats]:
    """Points of a group against each other, (n_items, n_groups): 1, ½ or 0; NaN if unpaired."""
    away = outcome[:, g : g + 1] - outcome
    away[:, g] = np.nan
    # Means of the same share may differ by rounding.
    tied = np.where(np.isnan(away), np.nan, np.abs(away) < 1e-12)
    return np.where(tied == 1, 0.5, np.where(np.isnan(away), np.nan, away > 0)), tied


def _errors(panel: Panel, outcome: Floats, wins: Floats, theta: Floats) -> Floats:
    """Standard errors from the clusters' scores: √ diag(H⁻ Σ_c u_c u_cᵀ H⁻), times m / (m − 1)."""
    n = len(theta)
    m = panel.n_clusters
    if m < 2:
        return np.full(n, np.nan)
    p = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
    scores = np.column_stack([np.nansum(_against(outcome, g)[0] - p[g], axis=1) for g in range(n)])
    sums = panel.cluster_sums(scores)
    _, information = bradley_terry.derivatives(wins, theta)
    inverse = np.linalg.inv(information + np.ones((n, n)))
    # What is along the ones is not part of the strengths, which have mean 0.
    inverse = inverse - inverse.mean(axis=0)
    covariance = inverse @ (sums.T @ sums) @ inverse.T * m / (m - 1)
    return np.asarray(np.sqrt(np.diag(covariance)))

"""Portfolio risk of choosing candidates by a cheap estimate: the Sharpe ratio at k."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis, unknown_name
from workbench.analysis.core.options import ERRORS, OUTCOME
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.inputs.panel import Panel, build, divide
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_CELLS = 400_000  # random numbers held at once
_ONE = "one candidate, or all candidates alike"
_LEVEL = Option(
    "level", "float", 0.95, "share of the looks that the ranges span", low=0.5, high=0.999
)
_NAMED = 20  # candidates in a note
_ROWS = (
    Column(
        "k",
        "int",
        "count",
        "Candidates in the portfolio, the best by the cheap look.",
        KEY_NULL,
        "portfolio size",
    ),
    Column(
        "sharpe_ratio",
        "float",
        "",
        "Best true score of the portfolio above the incumbent's, at least 0, over the "
        "standard deviation of its true scores; median over looks.",
        _ONE,
        "Sharpe ratio",
    ),
    Column("sharpe_ratio_low", "float", "", "Low end over looks.", _ONE, "Sharpe ratio, low"),
    Column("sharpe_ratio_high", "float", "", "High end over looks.", _ONE, "Sharpe ratio, high"),
    Column(
        "best",
        "float",
        "0..1",
        "Best true score of the portfolio; mean over looks.",
        KEY_NULL,
        "best in portfolio",
    ),
    Column(
        "worst",
        "float",
        "0..1",
        "Worst true score of it; mean over looks.",
        KEY_NULL,
        "worst in portfolio",
    ),
    Column(
        "regret",
        "float",
        "0..1",
        "Best true score of all candidates minus that; mean over looks.",
        KEY_NULL,
    ),
    Column(
        "holds_best",
        "float",
        "0..1",
        "Share of looks whose portfolio holds the best candidate.",
        KEY_NULL,
        "holds the best",
    ),
)
_TOTALS = (
    Column("incumbent", "text", doc="Whom the portfolio is held against.", null="the mean of all"),
    Column("incumbent_score", "float", "0..1", "Its true score.", KEY_NULL),
    Column(
        "rank_correlation",
        "float",
        doc="Spearman's ρ of look and true score; mean over looks.",
        null="all alike",
        title="rank correlation",
    ),
    Column(
        "mse",
        "float",
        "",
        "Mean squared distance of look and true score; mean over looks.",
        "the look is no score",
        "mean squared error",
    ),
    Column("n_candidates", "int", "count", "Candidates.", KEY_NULL, "candidates"),
    Column("n_looked", "int", "count", "Items of a look.", KEY_NULL, "items looked at"),
)


@analysis(
    name="portfolio",
    title="Portfolio",
    question="If candidates were picked by a cheap look, how good would the picked ones be against "
    "the risk of trying them?",
    source="SharpeRatio@k: Kiyohara et al. (scope-rl, code: sample standard deviation, numerator "
    "at least 0)",
    needs=("item_id",),
    options=(
        Option(
            "look",
            "choice",
            "items",
            "the cheap look: a few items, or a mean that costs no labels",
            choices=("items", "confidence", "verifier_score"),
        ),
        Option("items", "int", 10, "items of a look, drawn at random", low=1),
        Option(
            "incumbent",
            "group",
            None,
            "the group that the portfolio is compared with; the mean of all where none is named",
        ),
        Option("looks", "int", 500, "looks drawn", low=10, high=20_000),
        OUTCOME,
        ERRORS,
        _LEVEL,
    ),
    columns=(*_ROWS, *_TOTALS),
    chart=ChartSpec("figures", x="sharpe_ratio", y="k", also=("best", "regret", "holds_best")),
    settles=None,  # its ranges are over looks, not over what other items would show
    example={"by": ("model", "strategy"), "where": "strategy:direct,cot,think"},
)
def portfolio(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Pick the k best groups by a cheap look and hold them against what they are worth.

    Grain: one row per portfolio size, per task if `by` names it; `more["totals"]`: one row, or one
    per task. Candidates are the groups, on the items that all of them were tried on; true scores
    are their means over these items.

    SharpeRatio@k = (best@k − J(incumbent)) / std@k over the true scores of the k best by the look:
    what the best of a tried portfolio brings, over the risk of trying all of it. The numerator is
    at least 0; std has k − 1 in its denominator (the paper's text has k), so that one candidate has
    none. Ties among a few items are broken at random (the paper's code
    prefers the truly better, which a look cannot). The look is the mean score over `items` items
    drawn at random, or the groups' mean confidence or verifier score, the same for every look.
    There is no interval: the ranges say how the figure differs from look to look.
    """
    measures = () if options["look"] == "items" else (options["look"],)
    items = reduce_items(
        frame,
        by,
        measures,
        outcome=options["outcome"],
        errors_as_wrong=options["errors_as_wrong"],
    )
    built = build(items, shared=True)
    rows = []
    totals = []
    for task, panel in built.parts:
        portfolios, total = _portfolios(panel, rng, options)
        at = {"task": task} if task is not None else {}
        rows += [at | row for row in portfolios]
        totals.append(at | total)
    keys = {"task": pl.String} if any(t is not None for t, _ in built.parts) else {}
    shapes = [keys | {c.name: DTYPES[c.type] for c in cs} for cs in (_ROWS, _TOTALS)]
    table = pl.DataFrame(rows, schema=shapes[0])
    listed = dict.fromkeys(label for _, panel in built.parts for label in panel.labels)
    grouped = ", ".join(c for c in by if c not in keys)
    candidates = f"{len(listed)} candidates by {grouped}: {', '.join([*listed][:_NAMED])}"
    notes = (candidates + (" …" if len(listed) > _NAMED else ""),) if listed else ()
    return Answer(
        table,
        more={"totals": pl.DataFrame(totals, schema=shapes[1])},
        dropped=built.dropped,
        notes=(*built.notes, *notes),
    )


def _portfolios(
    panel: Panel, rng: np.random.Generator, options: dict[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    outcome = panel.outcome()
    true = outcome.mean(axis=0)
    n_items, n = outcome.shape
    name = options["incumbent"]
    size = min(options["items"], n_items)
    labels = panel.labels
    if name is not None and name not in labels:
        raise AnalysisError(unknown_name("group of option incumbent", name, labels))
    reference = float(true.mean()) if name is None else float(true[labels.index(name)])
    if options["look"] == "items":
        looks = _looks(outcome, size, options["looks"], rng)
        # Few items tie often; ties are broken at random.
        estimates = looks + 1e-9 * rng.random(looks.shape)
    else:
        values = panel.measure(options["look"])
        looks = divide(np.nansum(values, axis=0), (~np.isnan(values)).sum(axis=0))[None]
        estimates = looks
        size = n_items
    if np.isnan(looks).any():
        raise AnalysisError(f"{options['look']} is not known of every group; look at items instead")
    sharpe = sharpe_ratios(estimates, true, reference)
    rows = []
    tails = [(1 - options["level"]) / 2, 0.5, (1 + options["level"]) / 2]
    for k in range(1, n + 1):
        ratios = sharpe.ratio[:, k - 1]
        known = ratios[~np.isnan(ratios)]
        low, middle, high = np.quantile(known, tails) if len(known) else (None, None, None)
        rows.append(
            {
                "k": k,
                "sharpe_ratio": middle,
                "sharpe_ratio_low": low,
                "sharpe_ratio_high": high,
                "best": float(sharpe.best[:, k - 1].mean()),
                "worst": float(sharpe.worst[:, k - 1].mean()),
                "regret": float((true.max() - sharpe.best[:, k - 1]).mean()),
                "holds_best": float((sharpe.best[:, k - 1] >= true.max() - 1e-12).mean()),
            }
        )
    total = {
        "incumbent": name,
        "incumbent_score": reference,
        "n_candidates": n,
        "n_looked": size,
        "rank_correlation": _spearman(estimates, true),
        "mse": float(((looks - true) ** 2).mean()) if options["look"] == "items" else None,
    }
    return rows, total


def _looks(outcome: Floats, size: int, looks: int, rng: np.random.Generator) -> Floats:
    """Average the scores of items drawn without replacement, (looks, n_groups)."""
    n_items = len(outcome)
    if size == n_items:
        return np.tile(outcome.mean(axis=0), (looks, 1))
    chunks = []
    chunk = max(_CELLS // n_items, 1)
    for begin in range(0, looks, chunk):
        keys = rng.random((min(chunk, looks - begin), n_items))
        chunks.append(outcome[np.argpartition(keys, size - 1, axis=1)[:, :size]].mean(axis=1))
    return np.concatenate(chunks)


class Portfolios(NamedTuple):
    """Figures of portfolios, each (looks, n_candidates), sizes from 1."""

    ratio: Floats
    best: Floats
    worst: Floats


def sharpe_ratios(looks: Floats, true: Floats, incumbent: float) -> Portfolios:
    """Compute SharpeRatio@k, best@k and worst@k; ratios are NaN at k = 1 and without spread.

    Args:
        looks: (m, n) what the candidates seem to be worth.
        true: (n,) what they are worth.
        incumbent: what is held against.
    """
    order = np.lexsort((np.broadcast_to(-true, looks.shape), -looks), axis=1)
    picked = true[order]
    best, worst = (f.accumulate(picked, axis=1) for f in (np.maximum, np.minimum))
    ratio = np.full(looks.shape, np.nan)
    for k in range(2, len(true) + 1):
        sd = picked[:, :k].std(axis=1, ddof=1)
        some = sd > 1e-12
        ratio[some, k - 1] = np.maximum(best[some, k - 1] - incumbent, 0.0) / sd[some]
    return Portfolios(ratio, best, worst)


def _spearman(looks: Floats, true: Floats) -> float | None:
    from scipy import stats

    if np.ptp(true) < 1e-12:
        return None
    places = stats.rankdata(looks, axis=1), stats.rankdata(true)
    correlations = [np.corrcoef(p, places[1])[0, 1] for p in places[0] if np.ptp(p) > 0]
    return float(np.mean(correlations)) if correlations else None

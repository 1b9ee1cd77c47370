"""Economics: value of right answers, margin of a run, and break-even of an investment."""

import dataclasses
import functools
import operator
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis, unknown_name
from workbench.analysis.core.null_reasons import FEW_ITEMS_OR_UNKNOWN
from workbench.analysis.core.options import ERRORS, LEVEL, OUTCOME, RESAMPLES, SHARED
from workbench.analysis.core.result import Answer
from workbench.analysis.inputs import sample
from workbench.analysis.inputs.panel import Panel
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_UNVALUED = "no value of a right answer: the items have none, and none is given"
_COUNTS = (
    Column("n_items", "int", "count", "Items with a scored trace.", KEY_NULL, "items"),
    Column("n", "int", "count", "Scored traces.", KEY_NULL, "traces"),
    *ends(
        Column(
            "rate",
            "float",
            "0..1",
            "Mean over items of the outcome of their trials.",
            KEY_NULL,
            "accuracy",
        )
    ),
)
_EARNED = (
    Column(
        "n_valued",
        "int",
        "count",
        "Scored traces of items whose right answer has a value.",
        KEY_NULL,
        "valued",
    ),
    Column(
        "total_value_usd",
        "float",
        "USD",
        "Value of all these items, each once.",
        _UNVALUED,
        "offered",
    ),
    *ends(
        Column(
            "total_earnings_usd",
            "float",
            "USD",
            "Earned of it by one attempt at each.",
            _UNVALUED,
            "earned",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
    *ends(
        Column(
            "earnings_share",
            "float",
            "0..1",
            "Earned over offered.",
            f"{_UNVALUED}, or it is 0",
            "share earned",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
)
_LEFT = (
    Column(
        "revenue_usd",
        "float",
        "USD",
        "Mean earned by a run.",
        f"{_UNVALUED}, or no cost",
        "revenue per run",
    ),
    Column(
        "run_cost_usd",
        "float",
        "USD",
        "Mean cost of a run: tokens, what each run costs beside, and what a wrong one costs.",
        f"{_UNVALUED}, or no cost",
        "cost per run",
    ),
    *ends(
        Column(
            "margin_usd",
            "float",
            "USD",
            "Mean revenue minus cost of a run.",
            f"{_UNVALUED}, or no cost",
            "margin per run",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
    *ends(
        Column(
            "break_even_runs",
            "float",
            "count",
            "Runs until the fixed cost is earned back; infinite where a run leaves nothing.",
            "no fixed cost given, or no margin",
            "runs to break even",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
)
_AGAINST = (
    Column(
        "n_referenced",
        "int",
        "count",
        "Items whose reference cost is known, with a priced trace.",
        KEY_NULL,
        "with a reference",
    ),
    *ends(
        Column(
            "cost_aware_success",
            "float",
            "",
            "Mean over items of the outcome × cost of the reference / own cost: above 1 beats it.",
            "no reference, or no cost",
            "cost-aware success",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
)
_MEASURES = ("value", "earned", "spent", "worth", "cost_usd")


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """Figures of the same traces: those that have what is required."""

    require: tuple[str, ...]
    columns: tuple[Column, ...]


_PARTS = (
    _Part((), _COUNTS),
    _Part(("value",), _EARNED),
    _Part(("value", "spent"), _LEFT),
    _Part(("worth",), _AGAINST),
)


@analysis(
    name="economics",
    title="Economics",
    question="What do right answers earn, what does a run leave, and when "
    "is an investment paid back?",
    source="Earnings: arXiv 2505.13511 (abstract); margin and break-even: CostNav, arXiv "
    "2511.20216 (docs/cost_model.md at 144b293); cost-aware success: SimulCost-Bench at "
    "72c7c4a (evaluation/*/eval.py)",
    needs=("item_id",),
    measures=("cost_usd",),
    options=(
        Option(
            "value_usd",
            "float",
            None,
            "what a right answer is worth, where the item does not say",
            low=0,
        ),
        Option("other_usd", "float", 0.0, "what a run costs beside its tokens", low=0),
        Option("wrong_usd", "float", 0.0, "what a wrong answer costs: compensation, repair", low=0),
        Option(
            "fixed_usd",
            "float",
            None,
            "what is spent once, before the first run; no break-even if open",
            low=0,
        ),
        Option(
            "against",
            "group",
            None,
            "the reference method of the cost-aware success; what an expert charges if open",
        ),
        OUTCOME,
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=tuple(c for part in _PARTS for c in part.columns),
    example={"by": ("strategy",), "value_usd": 0.0001, "fixed_usd": 10.0, "against": "direct"},
    chart=ChartSpec(
        "figures", x="margin_usd", y="group", also=("earnings_share", "cost_aware_success")
    ),
    settles=Settles("margin_usd", 0.0),
)
def economics(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compare the value of right answers with the cost of runs, the largest margin first.

    Results are per task if `by` names the task.

    Grain: one row per group. A run is a scored trace. Earned = Σ over items of value × mean outcome
    of its trials; a partial pass earns nothing unless `outcome` is the score. Share = earned /
    offered.

    Margin of a run = value · outcome − cost of tokens − `other_usd` − `wrong_usd` · (1 − outcome).
    Break-even = `fixed_usd` / margin, infinite where the margin is not above 0 (never negative).
    Mean over items of the mean over trials, over the traces whose value and cost are both known.

    Cost-aware success of an item = mean over trials of outcome · C_ref / C, C_ref the mean cost of
    the group `against` on that item, or what an expert charges; 0 where it failed or nothing was
    paid (SimulCost: there with analytic costs of simulations). Above 1 a group does the work for
    less than the reference would. The mean is over items: group by task and average its rows to
    give tasks equal weights, as SimulCost does. Judges' calls are no part of any cost. Intervals:
    expanded percentile bootstrap of item clusters.
    """
    source = sample.Source(
        _valued(frame, options), tuple(by), _MEASURES, rng, options, ("human_cost_usd",)
    )
    _check(source, options)
    table = None
    dropped = dict[str, int]()
    notes = tuple[str, ...]()
    for part in _PARTS:
        built = source.built(part.require, scored=True)
        rows = functools.partial(_figures, source, part)
        part_table = sample.tabulate(built, by, part.columns, rows)
        if table is None:
            table = part_table
            dropped = dict(built.dropped)
            notes = built.notes
        else:
            table = table.join(
                part_table, on=list(by), how="left", nulls_equal=True, maintain_order="left"
            )
            dropped |= _lost(part, built.dropped)
    assert table is not None  # the parts are a constant
    table = table.with_columns(pl.col("n_valued", "n_referenced").fill_null(0))
    first = ["task"] if "task" in by else []
    down = [False] * len(first) + [True, True] + [False] * len(by)
    table = table.sort(*first, "margin_usd", "rate", *by, descending=down, nulls_last=True)
    return Answer(table, dropped=dropped, notes=(*notes, *_notes(table, options)))


def _lost(part: _Part, dropped: dict[str, int]) -> dict[str, int]:
    """Count what a part left out that the others did not."""
    words = {
        ("value",): "traces without a value, left out of what is earned",
        ("value", "spent"): "traces without a value or a cost, left out of the margin",
        ("worth",): "traces without a cost, left out of the cost-aware success",
    }
    key = f"traces without {' or '.join(part.require)}"
    short = [n for name, n in dropped.items() if name.startswith("traces without")]
    return {words[part.require]: dropped.get(key, short[0] if short else 0)}


def _valued(frame: "nw.LazyFrame[Any]", options: dict[str, Any]) -> "nw.LazyFrame[Any]":
    """Add value, earnings, spendings and right answers per dollar of every trace as columns."""
    present = set(frame.collect_schema().names())
    needed = ("value_usd", "cost_usd", options["outcome"])
    missing = {c: nw.lit(None, nw.Float64) for c in needed if c not in present}
    frame = frame.with_columns(**missing) if missing else frame
    value, cost, outcome = (nw.col(c).cast(nw.Float64) for c in needed)
    if options["value_usd"] is not None:
        value = nw.when(value.is_null()).then(nw.lit(options["value_usd"])).otherwise(value)
    if options["errors_as_wrong"] and "error_type" in present:
        failed = ~nw.col("error_type").is_null()
        outcome = nw.when(failed).then(nw.lit(0.0)).otherwise(outcome)
    wrong = options["wrong_usd"] * (1 - outcome)
    nothing = (outcome == 0) | (cost <= 0)
    return frame.with_columns(
        value=value,
        earned=value * outcome,
        spent=cost + options["other_usd"] + wrong,
        worth=nw.when(~cost.is_null()).then(
            nw.when(nothing).then(nw.lit(0.0)).otherwise(outcome / cost)
        ),
    )


def _check(source: sample.Source, options: dict[str, Any]) -> None:
    """Refuse a reference that is no group."""
    if options["against"] is None:
        return
    labels = {name for _, p in source.built((), scored=True).parts for name in p.labels}
    if labels and options["against"] not in labels:
        raise AnalysisError(unknown_name("group for against", options["against"], labels))


def _figures(source: sample.Source, part: _Part, panel: Panel) -> list[pl.Series]:
    options = source.options
    counts = sample.counts(panel)
    if part.columns is _AGAINST:
        return _against(source, panel)
    bootstrap = source.draw(panel)
    if part.columns is _COUNTS:
        return [*counts, *bootstrap.series("rate", operator.itemgetter("rate"))]
    if part.columns is _EARNED:
        n_items = panel.tried.sum(axis=0).astype(float)
        return [
            counts[1].alias("n_valued"),
            pl.Series("total_value_usd", n_items * bootstrap.means["value"]),
            *bootstrap.series("total_earnings_usd", lambda m: n_items * m["earned"]),
            *bootstrap.series("earnings_share", lambda m: sample.per(m["earned"], m["value"])),
        ]

    def margin(means: sample.Means) -> Floats:
        margin_usd: Floats = means["earned"] - means["spent"]
        return margin_usd

    def runs(means: sample.Means) -> Floats:
        margin_usd = margin(means)
        fixed = options["fixed_usd"]
        paid = np.full_like(margin_usd, np.nan if fixed is None else fixed)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(
                margin_usd > 0,
                paid / margin_usd,
                np.where(np.isnan(margin_usd + paid), np.nan, np.inf),
            )

    return [
        pl.Series("revenue_usd", bootstrap.means["earned"]),
        pl.Series("run_cost_usd", bootstrap.means["spent"]),
        *bootstrap.series("margin_usd", margin),
        *bootstrap.series("break_even_runs", runs),
    ]


def _against(source: sample.Source, panel: Panel) -> list[pl.Series]:
    """Weigh right answers per dollar by what the reference pays for the item."""
    name = source.options["against"]
    if name is None:
        human = panel.items["human_cost_usd"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        paid = human[:, None]
    elif name in panel.labels:
        paid = panel.measure("cost_usd")[:, [panel.labels.index(name)]]
    else:
        paid = np.full((panel.items.height, 1), np.nan)
    success = panel.measure("worth") * paid
    bootstrap = sample.draw(panel, {"success": success}, source.rng, source.options)
    known = (~np.isnan(success)).sum(axis=0)
    return [
        pl.Series("n_referenced", known).cast(pl.Int64),
        *bootstrap.series("cost_aware_success", operator.itemgetter("success")),
    ]


def _notes(table: pl.DataFrame, options: dict[str, Any]) -> tuple[str, ...]:
    if table.is_empty():
        return ()
    notes = []
    if not table["n_valued"].sum():
        notes.append("no right answer has a value: give value_usd, or items with a value_usd")
    if not table["n_referenced"].sum():
        notes.append(
            "no reference: name a group (against), or give items a human_cost_usd"
            if options["against"] is None
            else "the reference has no priced trace of any item that others have"
        )
    return tuple(notes)

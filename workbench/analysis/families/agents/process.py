"""Process of revision: budget overruns and the effects of revisions over a series of attempts."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS_OR_NO_SPREAD
from workbench.analysis.core.options import LEVEL, cost_axis
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.inputs import per_trace, rounds
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import ratios
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_ONE = "no series of two rounds"
_ROWS = (
    Column("n_items", "int", "count", "Items with a series.", KEY_NULL, "items"),
    Column("n_series", "int", "count", "Series of attempts.", KEY_NULL, "series"),
    Column("n_rounds", "int", "count", "Rounds that count.", KEY_NULL, "rounds"),
    *ends(
        Column(
            "win_rate",
            "float",
            "0..1",
            "Share of the rounds that were right.",
            KEY_NULL,
            "right rounds",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "over_budget_rate",
            "float",
            "0..1",
            "Share of the rounds that spent more than the budget.",
            "no budget given, or spending unknown",
            "over budget",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "revision_rate",
            "float",
            "0..1",
            "Share of the steps from round to round that revised.",
            _ONE,
            "revisions",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "correction_success",
            "float",
            "0..1",
            "Share of the revisions after which the round was right.",
            "nothing was revised",
            "revisions that were right",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "correction_rate",
            "float",
            "0..1",
            "Share of the revisions of a wrong round that made it right.",
            "nothing wrong was revised",
            "wrong made right",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "overcorrection_rate",
            "float",
            "0..1",
            "Share of the revisions of a right round that made it wrong.",
            "nothing right was revised",
            "right made wrong",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "improvement_slope",
            "float",
            "0..1",
            "Least squares slope of right or wrong on the round, averaged over series.",
            _ONE,
            "improvement per round",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    Column(
        "source",
        "text",
        doc="Rounds noted in the traces, or the trials of an item in order.",
        null=KEY_NULL,
    ),
)
_SUMS = (
    "win",
    "over",
    "known",
    "round",
    "step",
    "revised",
    "landed",
    "of_wrong",
    "mended",
    "of_right",
    "spoilt",
    "slope",
    "sloped",
)


@analysis(
    name="process",
    title="Process",
    question="Over a series of attempts: how often over budget, how often revised, with what "
    "success, and does it improve?",
    source="AdvGameBench (over-budget ratio, revision rate, success of revisions, improvement "
    "slope; from its code)",
    needs=("item_id", "passed"),
    measures=("cost_usd",),
    options=(
        cost_axis(
            "spent", "cost_usd", "what the budget is of; of rounds noted in traces only cost_usd"
        ),
        Option("budget", "float", None, "what a round may spend, in the unit of `spent`", low=0.0),
        Option(
            "revised_by",
            "choice",
            "answer",
            "what tells a revision: another answer, or other spending (as AdvGameBench)",
            choices=("answer", "spent"),
        ),
        Option(
            "series",
            "choice",
            "auto",
            "what a series is: rounds noted in traces (where there are any), or the trials "
            "of an item",
            choices=("auto", "rounds", "trials"),
        ),
        Option("skip", "int", 0, "first rounds that do not count", low=0),
        LEVEL,
    ),
    columns=_ROWS,
    rows="trace_details",
    chart=ChartSpec(
        "figures",
        x="win_rate",
        y="group",
        also=("correction_success", "overcorrection_rate", "improvement_slope"),
    ),
    settles=Settles("improvement_slope", 0.0),
    example={"by": ("model", "strategy"), "where": "strategy:self_refine"},
)
def process(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Follow series of rounds: spending against a budget, revisions and what they do, improvement.

    Grain: one row per group. A series is the rounds that a trace notes (self-refinement,
    reflexion), or the trials of an item in their order, as rounds of a game whose player remembers.
    Independent trials are no process: there revisions are chance, and the slope is 0 but for
    chance. Failed and unscored attempts are left out.

    A step from one round to the next revised if the answer differs, or with `revised_by` spent if
    the spending does (the paper's code knows a revision by its cost alone). Correction success:
    right after a revision, over revisions. Wrong made right and right made wrong: over the
    revisions of a wrong, of a right round. Slope: of right or wrong on the place in the series,
    over series of two rounds or more. `skip` leaves out the first rounds, as the paper does with
    one; that it keeps every other round of a game is for the slice. Rates are of all rounds or
    steps of a group.

    Intervals: t · SE of ratios, clustered by item.
    """
    series, dropped, source = _series(frame, by, options)
    series_rows = []
    for key, part in per_trace.parts(series, by):
        table = _sums(
            _ordered(part) if source == "trials" else part.sort("_series", "_round"), options
        )
        if table.height:
            series_rows.append(
                dict(zip(by, key, strict=True)) | _row(table, options) | {"source": source}
            )
    schema = {c: series.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _ROWS}
    notes = []
    if source == "trials" and series_rows:
        notes.append("series are trials: where they were independent, revisions are chance")
    if options["budget"] is None:
        notes.append("no budget given: set --budget in the unit of --spent")
    frame_ = pl.DataFrame([dict.fromkeys(schema) | row for row in series_rows], schema=schema)
    return Answer(frame_, dropped=dropped, notes=tuple(notes))


def _series(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], options: dict[str, Any]
) -> tuple[pl.DataFrame, dict[str, int], str]:
    """Make one row per round: `by`, _item, _code, _series, _round, _right, _revised, _spent.

    Of trials there are _run, _trial and _told, what tells a revision, in place of the series, the
    round and whether it revised: see `_ordered`.
    """
    if options["series"] != "trials":
        noted = rounds.read(frame, by)
        if noted.traces.height or options["series"] == "rounds":
            if options["spent"] != "cost_usd":
                raise AnalysisError(
                    "option spent: of rounds noted in traces only cost_usd is known, not "
                    f"{options['spent']}; use series trials"
                )
            return _noted(noted, options), noted.dropped, "rounds"
    spent = f"_{options['spent']}"
    answer = pl.col("_answer").str.strip_chars()
    by_spent = options["revised_by"] == "spent"

    def read(rows: pl.DataFrame) -> pl.DataFrame:
        # Numbers do to tell answers and runs apart.
        value = pl.col(spent) if by_spent else pl.when(answer.is_not_null()).then(answer.hash())
        return rows.with_columns(
            pl.col("_trial").cast(pl.Int32), _run=pl.col("_run_id").hash(), _told=value
        ).drop("_answer", "_run_id")

    rows = per_trace.fetch(
        frame,
        by,
        ("trial", options["spent"]),
        texts=("answer", "run_id"),
        flags=("passed",),
        transform=read,
    )
    rows, dropped = per_trace.keep_passing(
        rows,
        {"failed traces": ~pl.col("_failed"), "unscored traces": pl.col("_passed").is_not_null()},
    )
    return rows.rename({spent: "_spent"}).drop("_failed"), dropped, "trials"


def _ordered(trials: pl.DataFrame) -> pl.DataFrame:
    """Sort the trials of a group; those of an item in one run are a series."""
    last = trials["_trial"].fill_null(np.iinfo(np.int32).max)
    # Polars takes three times as long to sort by several columns.
    order = np.lexsort([c.to_numpy() for c in (last, trials["_run"], trials["_item"])])
    ordered = trials.select(pl.all().gather(order)).with_columns(
        _series=pl.struct("_item", "_run").rle_id().cast(pl.Int64),
        _right=pl.col("_passed").cast(pl.Float64),
    )
    place = pl.int_range(pl.len())
    value = pl.col("_told")
    begins = pl.col("_series") != pl.col("_series").shift(fill_value=-1)
    return ordered.with_columns(
        _round=place - pl.when(begins).then(place).forward_fill(),
        # unknown where one of the two is
        _revised=pl.when(~begins).then((value != value.shift()).cast(pl.Float64)),
    )


def _noted(noted: rounds.RecordedRounds, options: dict[str, Any]) -> pl.DataFrame:
    """Unfold noted rounds, one row each; rounds that were not made are no rows."""
    at, place = np.nonzero(noted.is_round)
    spent = np.diff(noted.cost, axis=1, prepend=0.0)[at, place]
    before = np.where(place > 0, np.roll(spent, 1), np.nan)
    revised = noted.changed[at, place].astype(float)
    if options["revised_by"] == "spent":
        revised = np.where(np.isnan(spent) | np.isnan(before), np.nan, spent != before)
    return noted.traces[at].with_columns(
        _series=pl.Series(at.astype(np.int64)),
        _round=pl.Series(place.astype(np.int64)),
        _right=pl.Series(noted.right[at, place]),
        _revised=pl.Series(np.where(place > 0, revised, np.nan)).fill_nan(None),
        _spent=pl.Series(spent).fill_nan(None),
    )


def _sums(series: pl.DataFrame, options: dict[str, Any]) -> pl.DataFrame:
    """Add the rounds of each series of a group up; they come in order."""
    counted_rounds = series.filter(pl.col("_round") >= options["skip"]).with_columns(
        pl.col("_series").set_sorted()
    )
    one = pl.lit(1.0)
    right = pl.col("_right")
    same = pl.col("_series") == pl.col("_series").shift()
    before = pl.when(same).then(right.shift())
    stepped = pl.col("_revised").is_not_null() & before.is_not_null()
    revised = pl.when(stepped).then(pl.col("_revised")).otherwise(0.0)
    budget = options["budget"]
    over = pl.col("_spent") > budget if budget is not None else pl.lit(None, pl.Boolean)
    marked = counted_rounds.with_columns(
        win=right,
        round=one,
        over=over.cast(pl.Float64).fill_null(0.0),
        known=over.is_not_null().cast(pl.Float64),
        step=stepped.cast(pl.Float64),
        revised=revised,
        landed=revised * right,
        of_wrong=revised * (1 - before.fill_null(0.0)),
        mended=revised * (1 - before.fill_null(0.0)) * right,
        of_right=revised * before.fill_null(0.0),
        spoilt=revised * before.fill_null(0.0) * (1 - right),
    )
    x = pl.col("_round").cast(pl.Float64)
    n = pl.len()
    # Counted from 0 in each series, so that the plain sums lose no digits.
    product = (x * right).sum() - x.sum() * right.sum() / n
    slope = pl.when(n > 1).then(product / ((x * x).sum() - x.sum() ** 2 / n)).otherwise(0.0)
    return marked.group_by("_series", maintain_order=True).agg(
        *[pl.col(c).first() for c in ("_item", "_code")],
        *[pl.col(c).sum() for c in _SUMS if c not in {"slope", "sloped"}],
        slope=slope,
        sloped=(n > 1).cast(pl.Float64),
    )


def _row(part: pl.DataFrame, options: dict[str, Any]) -> dict[str, Any]:
    codes = part["_code"].to_numpy()
    sums = {c: part[c].to_numpy() for c in _SUMS}
    row: dict[str, Any] = {
        "n_items": part["_item"].n_unique(),
        "n_series": part.height,
        "n_rounds": int(sums["round"].sum()),
    }
    shares = {
        "win_rate": ("win", "round"),
        "over_budget_rate": ("over", "known"),
        "revision_rate": ("revised", "step"),
        "correction_success": ("landed", "revised"),
        "correction_rate": ("mended", "of_wrong"),
        "overcorrection_rate": ("spoilt", "of_right"),
        "improvement_slope": ("slope", "sloped"),
    }
    for name, (top, bottom) in shares.items():
        bounds = (-1.0, 1.0) if name == "improvement_slope" else (0.0, 1.0)
        estimate = ratios.ratio(sums[top], sums[bottom], codes, options["level"], bounds)
        row |= ratios.figures(name, estimate)
    return row

"""What a cap on the number of turns would have saved, and lost, replayed from recorded traces."""

import dataclasses
import itertools
import re
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis import resampling
from workbench.analysis.calls import is_calls
from workbench.analysis.options import LEVEL, RESAMPLES
from workbench.analysis.panel import divide
from workbench.analysis.registry import ChartSpec, Option, analysis
from workbench.analysis.result import Answer, empty, label
from workbench.analysis.sample import Means, Sample, ends
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

C = Column
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_FEW = "fewer than two items"
_UNKNOWN = "turns unknown"
_UNPRICED = "cost of the turns unknown"
_MOST_TURNS = 500
_ROWS = (
    C("rule", "text", doc="none; limit: stop after so many turns; extend: begin with one limit, and extend to the next where the run has not ended.", null=KEY_NULL),
    C("turns", "float", "count", "Turns after which a run is stopped; a mean where the limit comes from other items.", _UNKNOWN, "limit"),
    C("extended", "float", "count", "Turns to which it is extended.", "not extended", "extended to"),
    C("n_items", "int", "count", "Items.", KEY_NULL, "items"),
    C("n", "int", "count", "Scored traces.", KEY_NULL, "traces"),
    *ends(C("stopped_rate", "float", "0..1", "Share of runs that the limit stops.", _UNKNOWN, "runs stopped"), _FEW),
    *ends(C("rate", "float", "0..1", "Accuracy if every run that is stopped fails: the least that the rule keeps.", _UNKNOWN, "accuracy kept, at least"), _FEW),
    *ends(C("rate_most", "float", "0..1", "Accuracy if the stopped runs that passed would still have passed; under `extend`, if all that reach the longer limit may.", _UNKNOWN, "accuracy kept, at most"), _FEW),
    *ends(C("saving", "float", "0..1", "Share of the cost that is saved: the least.", _UNPRICED, "saved, at least"), _FEW),
    C("saving_most", "float", "0..1", "The most: under `extend`, if nothing were extended.", _UNPRICED, "saved, at most"),
    *ends(C("cost_usd", "float", "USD", "Mean cost of a run under the rule: the most.", _UNPRICED, "cost, at most"), _FEW),
    *ends(C("per_pass_usd", "float", "USD", "That over the least accuracy.", "cost of the turns unknown, or turns unknown", "cost per right answer, at most"), _FEW),
)  # fmt: skip
_CURVE = (
    C("limit", "int", "count", "Turns after which a run is stopped.", KEY_NULL, "turns allowed"),
    C("kept", "float", "0..1", "Accuracy if every run that is stopped fails.", KEY_NULL, "accuracy kept"),
    C("kept_low", "float", "0..1", "Lower end of its interval.", _FEW, "accuracy kept, low"),
    C("kept_high", "float", "0..1", "Upper end of its interval.", _FEW, "accuracy kept, high"),
    C("saved", "float", "0..1", "Share of the cost that is saved.", _UNPRICED, "cost saved"),
)  # fmt: skip
_TURNS = (
    C("mean_turns", "float", "count", "Mean turns of a run.", KEY_NULL, "turns"),
    C("mean_turns_passed", "float", "count", "Of the runs that passed.", "none passed", "turns of right runs"),
    C("mean_turns_failed", "float", "count", "Of the others.", "all passed", "turns of wrong runs"),
    *(C(f"turns_p{p}", "float", "count", f"{p}th percentile of the turns, linear between runs.", KEY_NULL, f"turns, P{p}") for p in (25, 50, 75)),
    C("most_turns", "float", "count", "Turns of the longest run.", KEY_NULL, "most turns"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class _Runs:
    """One group's runs.

    Attributes:
        turns: (n,) of each run; passed: (n,); item: (n,) its item's place; clusters: (n_items,).
        spent: (n_items, t) cost of turn 1, 2, … added up over the item's runs; None where unknown.
    """

    names: pl.DataFrame
    turns: Ints
    passed: Floats
    item: Ints
    clusters: Ints
    spent: Floats | None

    def percentile(self, q: float, keep: npt.NDArray[np.bool_]) -> float:
        """A percentile of the turns of some runs, linear between them."""
        return float(np.quantile(self.turns[keep], q / 100)) if keep.any() else float("nan")


@analysis(
    name="turn-control",
    title="Turn control",
    question="What would a cap on the number of turns have saved, and what would it have lost?",
    source="arXiv 2510.16786 (limits at percentiles, extension on demand; from abstract and summaries); replay and its bounds are derived here",
    needs=("item_id", "passed"),
    measures=("cost_usd",),
    options=(
        Option("limits", "text", "p25,p50,p75", "limits to replay, comma-separated: turns (8), or percentiles of the group's own turns (p75)"),
        Option("held_out", "flag", default=False, help="take percentiles from one half of the items and replay the other"),
        LEVEL, RESAMPLES,
    ),
    columns=(*_ROWS, *_CURVE, *_TURNS),
    rows="call_outcomes",
    chart=ChartSpec("curve", x="limit", y="kept", also=("saved",)),
    example={"where": "strategy:think", "limits": "1"},
)  # fmt: skip
def turn_control(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Replay caps on turns: which runs would have been stopped, what that saves and loses.

    Grain: one row per group and rule; `more["curve"]`: one per group and number of turns allowed;
    `more["turns"]`: one per group. A turn is a call of the subject that did not fail; calls in other
    roles cost with the turn before them, judges not at all. Failed and unscored traces are left out.
    Given traces without calls, turns are `n_turns`, and a run's cost is shared out as 1 : 2 : 3 …, since
    every turn reads all that went before.

    A limit L of turns costs the first L turns of every run, exactly, if the run would have gone the same
    way. What it solves is only bounded: at least the runs that passed within L turns (an agent that is told
    how many turns are left may hurry, and half a patch may pass), at most all that passed. Beginning with L0
    and extending to L1 on demand lies between the two limits in both, wherever the decision falls; the
    rule `extend` gives those bounds. A percentile is rounded down to whole turns, 1 at least.

    Intervals: percentile bootstrap of item clusters, items weighing alike for accuracy, runs for cost.
    They hold for the given limits and leave their choice out; `held_out` shows what that is worth.
    """
    wanted = _wanted(options["limits"])
    runs, dropped, notes = _runs(frame, by)
    rows, curves, turns = [], [], []
    for each in runs:
        rows.append(_rules(each, wanted, rng, options))
        curves.append(_curve(each, rng, options))
        turns.append(_turns(each))
    silent = _silent(frame, by, [r.names for r in runs])
    parts = [*rows, *silent]
    names = [c.name for c in _ROWS]
    table = pl.concat(parts).select(*by, *names) if parts else empty(by, _ROWS)
    short = [label(r.names.row(0)) for r in runs if r.turns.max() == 1]
    if short:
        notes.append(f"every run has one turn, nothing to cap: {'; '.join(short[:5])}")
    if silent and not runs:
        notes.append("no turns recorded: give call_facts, or traces with n_turns")
    blank = silent[0].select(by).with_columns(_nothing(_CURVE)) if silent else None
    if not curves and blank is not None:
        curves = [blank]
    more = {"curve": pl.concat(curves)} if curves else {}
    more |= {"turns": pl.concat(turns)} if turns else {}
    return Answer(table, more=more, dropped=dropped, notes=tuple(notes))


def _nothing(columns: Sequence[Column]) -> list[pl.Expr]:
    return [pl.lit(None, d).alias(c) for c, d in empty((), columns).schema.items()]


def _silent(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], known: Sequence[pl.DataFrame]
) -> list[pl.DataFrame]:
    """One row of nulls for each group whose turns nobody recorded."""
    groups: pl.DataFrame = frame.select(*by).unique().collect("polars").to_native()
    if known:
        groups = groups.join(pl.concat(known), on=list(by), how="anti", nulls_equal=True)
    if groups.is_empty():
        return []
    blank = groups.sort(by, nulls_last=True).with_columns(_nothing(_ROWS))
    zero = pl.lit(0, pl.Int64)
    return [blank.with_columns(rule=pl.lit("none"), n_items=zero, n=zero).select(*by, *(c.name for c in _ROWS))]  # fmt: skip


def _wanted(text: str) -> list[tuple[bool, float]]:
    """Read limits: (is a percentile, value), as asked."""
    found = []
    for word in (w.strip().lower() for w in text.split(",")):
        if not re.fullmatch(r"p?\d{1,4}(\.\d{1,4})?", word):
            raise AnalysisError(f"option limits: {word[:20]!r} is neither a number of turns nor a percentile, as 8,p75")  # fmt: skip
        is_percentile, value = word.startswith("p"), float(word.lstrip("p"))
        if (is_percentile and value > 100) or (not is_percentile and value < 1):
            raise AnalysisError(f"option limits: {word} is out of range")
        found.append((is_percentile, value))
    return found


def _runs(
    frame: "nw.LazyFrame[Any]", by: Sequence[str]
) -> tuple[list[_Runs], dict[str, int], list[str]]:
    """Reduce to runs, and to the cost of each turn per item; both in the engine."""
    present = set(frame.collect_schema().names())
    of_calls = is_calls(frame)
    error = "trace_error_type" if of_calls else "error_type"
    for column, dtype in ((error, nw.String), ("cluster", nw.String), ("task_id", nw.String), ("cost_usd", nw.Float64), ("n_turns", nw.Int64)):  # fmt: skip
        if column not in present:
            frame = frame.with_columns(nw.lit(None, dtype).alias(column))
    frame = frame.with_columns(_item=nw.col("item_id"), _ok=nw.col("passed").cast(nw.Float64))
    fine = nw.col(error).is_null() & ~nw.col("_ok").is_null()
    lost = {"failed or unscored traces": _count(frame.filter(~fine), of_calls=of_calls)}
    spent = None
    if of_calls:
        numbered = _numbered(frame.filter(fine))
        keys = [*by, "_item", "trace_id"]
        told = numbered.group_by(*keys).agg(
            nw.col("_turn").max().alias("_turns"), nw.col("_ok").max(), nw.col("cluster").max(),
            nw.col("task_id").max(), nw.col("_dear").sum().alias("_unknown"),
        )  # fmt: skip
        spent = numbered.group_by(*by, "_item", "_turn").agg(nw.col("_cost").sum())
    else:
        told = frame.filter(fine & ~nw.col("n_turns").is_null()).with_columns(
            _turns=nw.col("n_turns"), _cost=nw.col("cost_usd").cast(nw.Float64),
            _unknown=nw.when(nw.col("cost_usd").is_null()).then(nw.lit(1)).otherwise(nw.lit(0)),
        )  # fmt: skip
    kept = ["_turns", "_ok", "cluster", "task_id", "_unknown"] + ([] if of_calls else ["_cost"])
    rows: pl.DataFrame = told.select(*by, "_item", *kept).collect("polars").to_native()
    costs = spent.collect("polars").to_native() if spent is not None else None
    rows = rows.filter(pl.col("_turns") > 0).sort(*by, "_item", "_turns", "_ok", nulls_last=True)
    notes = [] if of_calls or rows.is_empty() else ["cost is shared out over turns as 1 : 2 : 3 …: give call_facts"]  # fmt: skip
    found = [_group(part, by, costs) for _, part in rows.group_by(by, maintain_order=True)]
    unpriced = [label(r.names.row(0)) for r in found if r.spent is None]
    if unpriced:
        notes.append(f"a call without a cost, so no saving: {'; '.join(unpriced[:5])}")
    return found, lost, notes


def _count(frame: "nw.LazyFrame[Any]", *, of_calls: bool) -> int:
    one = nw.col("trace_id").n_unique() if of_calls else nw.len()
    counted: pl.DataFrame = frame.select(one.alias("n")).collect("polars").to_native()
    return int(counted["n"][0] or 0)


def _numbered(calls: "nw.LazyFrame[Any]") -> "nw.LazyFrame[Any]":
    """Give every call the number of its turn, its cost, and whether that is unknown."""
    present = set(calls.collect_schema().names())
    if "role" in present:
        calls = calls.filter((nw.col("role") != "judge") | nw.col("role").is_null())
    own = nw.col("role").is_null() | (nw.col("role") == "subject") if "role" in present else nw.lit(value=True)  # fmt: skip
    failed = ~nw.col("error_type").is_null() if "error_type" in present else nw.lit(value=False)
    place = "ordinal" if "ordinal" in present else "call_id"
    zero, one = nw.lit(0), nw.lit(1)
    calls = calls.with_columns(_is_turn=nw.when(own & ~failed).then(one).otherwise(zero))
    calls = calls.with_columns(
        _turn=nw.col("_is_turn").cum_sum().over("trace_id", order_by=place),
        _dear=nw.when(nw.col("cost_usd").is_null() & ~failed).then(one).otherwise(zero),
        _cost=nw.col("cost_usd").cast(nw.Float64).fill_null(0.0),
    )
    # What is said before the first turn belongs to it; a run of failed calls alone has no turn.
    first = nw.when(nw.col("_turn") < 1).then(one).otherwise(nw.col("_turn"))
    ever = nw.col("_is_turn").sum().over("trace_id")
    return calls.with_columns(_turn=nw.when(ever > 0).then(first).otherwise(zero))


def _group(rows: pl.DataFrame, by: Sequence[str], costs: pl.DataFrame | None) -> _Runs:
    """Make one group's runs of its rows."""
    names = rows.head(1).select(by)
    items = rows["_item"].unique().sort()
    item = rows["_item"].rank("dense").cast(pl.Int64).to_numpy() - 1
    cluster = pl.when(pl.col("cluster").is_null()).then(pl.concat_str(pl.lit("i "), pl.col("_item").cast(pl.String))).otherwise(pl.concat_str(pl.lit("c "), pl.col("task_id").fill_null(""), pl.lit(" "), "cluster"))  # fmt: skip
    first = rows.group_by("_item").agg(cluster.max().alias("c")).sort("_item")
    clusters = first["c"].rank("dense").cast(pl.Int64).to_numpy() - 1
    turns = rows["_turns"].cast(pl.Int64).to_numpy()
    spent = None
    if not rows["_unknown"].sum():
        spent = np.zeros((len(items), int(turns.max())))
        if costs is not None:
            own = costs.join(names, on=list(by), how="semi", nulls_equal=True).filter(
                pl.col("_turn") > 0
            )
            place = own.join(
                items.to_frame("_item").with_row_index("_row"), on="_item", how="inner"
            )
            spent[place["_row"].to_numpy(), place["_turn"].cast(pl.Int64).to_numpy() - 1] = place[
                "_cost"
            ]
        else:
            each = 2.0 * rows["_cost"].to_numpy() / (turns * (turns + 1.0))
            for t in range(1, spent.shape[1] + 1):
                np.add.at(spent[:, t - 1], item, np.where(turns >= t, t * each, 0.0))
    return _Runs(names, turns, rows["_ok"].to_numpy(), item, clusters, spent)


def _rules(
    runs: _Runs, wanted: Sequence[tuple[bool, float]], rng: np.random.Generator,
    options: dict[str, Any],
) -> pl.DataFrame:  # fmt: skip
    """One row per rule: none, each limit, and each extension from one limit to the next."""
    n_items = len(runs.clusters)
    half = np.zeros(n_items, np.int64)
    if options["held_out"]:
        dealt = rng.permutation(int(runs.clusters.max()) + 1) % 2
        half = dealt[runs.clusters]
    limits = []
    for is_percentile, value in wanted:
        per_half = [value, value]
        if is_percentile:
            sides = [half[runs.item] != h if options["held_out"] else half[runs.item] == 0 for h in (0, 1)]  # fmt: skip
            sides = sides if options["held_out"] else [sides[0], sides[0]]
            per_half = [max(np.floor(runs.percentile(value, side)), 1.0) if side.any() else np.nan for side in sides]  # fmt: skip
        limits.append(np.array(per_half)[half])
    never = np.full(n_items, float(runs.turns.max()))
    known = {tuple(x): x for x in limits if not np.isnan(x).any() and (x < never).any()}
    limits = sorted(known.values(), key=lambda x: float(x.mean()))
    rules = [("none", never, None), *(("limit", x, None) for x in limits)]
    rules += [("extend", a, b) for a, b in itertools.pairwise([*limits, never]) if b.mean() > a.mean()]  # fmt: skip
    drawn = _draw(runs, [*limits, never], rng, options)
    at = {id(x): j for j, x in enumerate([*limits, never])}
    return pl.concat([_rule(runs, rule, (a, b), at, drawn) for rule, a, b in rules])


def _draw(
    runs: _Runs, limits: Sequence[Floats], rng: np.random.Generator, options: dict[str, Any]
) -> Sample:
    """Average what each limit keeps, stops and costs over items, and over resamples of their clusters."""
    n = np.bincount(runs.item).astype(float)
    parts: dict[str, list[Floats]] = {"kept": [], "stopped": [], "cost": []}
    for limit in limits:
        within = runs.turns <= limit[runs.item]
        parts["kept"].append(np.bincount(runs.item, runs.passed * within) / n)
        parts["stopped"].append(np.bincount(runs.item, ~within) / n)
        cost = np.full(len(n), np.nan)
        if runs.spent is not None:
            upto = np.column_stack([np.zeros(len(n)), np.cumsum(runs.spent, axis=1)])
            last = np.minimum(limit, runs.spent.shape[1]).astype(np.int64)
            cost = upto[np.arange(len(n)), last]
        parts["cost"].append(cost)
    stacked = np.column_stack(
        [*(v for values in parts.values() for v in values), np.ones(len(n)), n]
    )
    _, codes = np.unique(runs.clusters, return_inverse=True)
    sums = np.zeros((int(codes.max()) + 1, stacked.shape[1]))
    np.add.at(sums, codes, np.nan_to_num(stacked))
    k = len(limits)

    def means(totals: Floats) -> dict[str, Floats]:
        items, count = totals[:, -2:-1], totals[:, -1:]
        cost = totals[:, 2 * k : 3 * k] / count
        unknown = np.full_like(cost, np.nan) if runs.spent is None else cost
        return {
            "kept": totals[:, :k] / items,
            "stopped": totals[:, k : 2 * k] / items,
            "cost": unknown,
        }

    draws = (
        means(resampling.resampled_sums(sums, options["resamples"], rng)) if len(sums) > 1 else None
    )
    whole = {name: value[0] for name, value in means(sums.sum(axis=0, keepdims=True)).items()}
    return Sample(whole, draws, np.full(1, float(len(sums))), options["level"])


def _rule(
    runs: _Runs, rule: str, limits: tuple[Floats, Floats | None], at: dict[int, int], drawn: Sample
) -> pl.DataFrame:
    """Make the row of a rule: what it keeps at least and at most, what it costs at most and at least."""
    first, longer = limits
    low = at[id(first)]
    high = low if longer is None else at[id(longer)]

    def of(name: str, j: int) -> Any:
        return lambda m: m[name][..., j : j + 1]

    def saving(j: int) -> Any:
        def share(m: Means) -> Floats:
            return 1 - divide(m["cost"][..., j : j + 1], m["cost"][..., -1:])

        return share

    most = high if rule == "extend" else -1
    last = of("kept", most) if most >= 0 else lambda m: m["kept"][..., -1:]
    least_saved = np.asarray(saving(low)(drawn.means))
    return runs.names.with_columns(
        rule=pl.lit(rule), turns=pl.lit(float(first.mean())),
        extended=pl.lit(None if longer is None else float(longer.mean()), pl.Float64),
        n_items=pl.lit(len(runs.clusters), pl.Int64), n=pl.lit(len(runs.turns), pl.Int64),
    ).with_columns(
        *drawn.series("stopped_rate", of("stopped", high)),
        *drawn.series("rate", of("kept", low)), *drawn.series("rate_most", last),
        *drawn.series("saving", saving(high)),
        pl.Series("saving_most", least_saved).fill_nan(None),
        *drawn.series("cost_usd", of("cost", high)),
        *drawn.series("per_pass_usd", lambda m: _over(of("cost", high)(m), of("kept", low)(m))),
    )  # fmt: skip


def _over(cost: Floats, rate: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.where(rate == 0, np.where(np.isnan(cost), np.nan, np.inf), cost / rate)
    return ratio


def _curve(runs: _Runs, rng: np.random.Generator, options: dict[str, Any]) -> pl.DataFrame:
    """Replay every limit up to the longest run."""
    longest = int(runs.turns.max())
    at = np.unique(np.linspace(1, longest, min(longest, 60)).round().astype(np.int64))
    drawn = _draw(runs, [np.full(len(runs.clusters), float(t)) for t in at], rng, options)
    kept = drawn.series("kept", lambda m: m["kept"])
    saved = 1 - divide(drawn.means["cost"], drawn.means["cost"][-1:])
    table = pl.DataFrame([pl.Series("limit", at, pl.Int64), *kept, pl.Series("saved", saved).fill_nan(None)])  # fmt: skip
    return runs.names.join(table, how="cross")


def _turns(runs: _Runs) -> pl.DataFrame:
    """Describe the runs as they were."""
    right, everyone = runs.passed > 0, np.ones(len(runs.turns), bool)
    means = [runs.turns[keep].mean() if keep.any() else None for keep in (everyone, right, ~right)]
    values = [
        *means,
        *(runs.percentile(p, everyone) for p in (25, 50, 75)),
        float(runs.turns.max()),
    ]
    return runs.names.with_columns(
        pl.lit(v, pl.Float64).alias(c.name) for c, v in zip(_TURNS, values, strict=True)
    )

"""Code efficiency: right solutions scored against reference solutions of different cost."""

import itertools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS_OR_NO_SPREAD
from workbench.analysis.core.options import LEVEL
from workbench.analysis.core.result import DTYPES, Answer, label
from workbench.analysis.inputs import per_trace
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import ratios
from workbench.analysis.stats.arrays import Floats
from workbench.schema import KEY_NULL, Column

_NONE = "no right solution with a known cost, on enough items"
_ROWS = (
    Column(
        "n_items",
        "int",
        "count",
        "Items with enough right solutions of known cost.",
        KEY_NULL,
        "items",
    ),
    Column(
        "n", "int", "count", "Right solutions of known cost on them.", KEY_NULL, "right solutions"
    ),
    *ends(
        Column(
            "dps",
            "float",
            "0..1",
            "Mean over items of the share of solutions that a right one is at least level "
            "with (differential performance score).",
            _NONE,
            "performance score",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "dps_norm",
            "float",
            "0..1",
            "The same by places among the references.",
            _NONE,
            "performance score, by level",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "dps_all",
            "float",
            "0..1",
            "The performance score with wrong solutions counted 0, over all its scored "
            "items with references.",
            "nothing scored",
            "performance score, wrong as 0",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
    *ends(
        Column(
            "pass_rate",
            "float",
            "0..1",
            "Share of its scored solutions that are right, trials averaged within items.",
            "nothing scored",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
)
_PAIRS = (
    Column("a", "text", doc="One group.", null=KEY_NULL, title="A"),
    Column("b", "text", doc="The other.", null=KEY_NULL, title="B"),
    Column("n_common", "int", "count", "Items that both solved.", KEY_NULL, "items both solved"),
    *ends(
        Column(
            "win_rate",
            "float",
            "0..1",
            "Share of them on which A's performance score is higher, ties half.",
            "none in common",
            "A more efficient",
        ),
        FEW_ITEMS_OR_NO_SPREAD,
    ),
)


class References(NamedTuple):
    """Reference solutions of an item, the slowest first.

    Attributes:
        cost: of each reference.
        score: the score of a solution that is as fast as the reference.
    """

    cost: Floats
    score: Floats

    def place(self, costs: npt.ArrayLike) -> Floats:
        """Return score and rank over references of solutions, (2, n); NaN where unknown.

        Both are 0 where a solution is slower than all references.
        """
        cost = np.asarray(costs, float)
        level = len(self.cost) - np.searchsorted(self.cost[::-1], cost, side="left")
        scores = np.stack([np.concatenate([[0.0], self.score])[level], level / len(self.cost)])
        return np.where(np.isnan(cost), np.nan, scores)


@analysis(
    name="code-efficiency",
    title="Code efficiency",
    question="How efficient are the right solutions, level by level against reference solutions?",
    source="differential performance evaluation: EvalPerf (Liu et al. 2024; from its code); the "
    "rule that tells levels apart is ours",
    needs=("item_id", "passed"),
    options=(
        Option(
            "cost",
            "text",
            "solution_s",
            "what a solution costs: a column of the traces, or a key of their metadata",
        ),
        Option(
            "references",
            "text",
            "references",
            "the key of an item's metadata that lists reference costs, or [cost, score] pairs",
        ),
        Option(
            "gap",
            "float",
            0.2,
            "without references: how much dearer, relatively, the next level of solutions is",
            low=0.0,
        ),
        Option(
            "least",
            "int",
            1,
            "right solutions that an item needs to count (EvalPerf's tables: 10)",
            low=1,
        ),
        LEVEL,
    ),
    columns=(*_ROWS, *_PAIRS),
    rows="trace_details",
    chart=ChartSpec("figures", x="dps", y="group", also=("dps_norm", "dps_all", "pass_rate")),
    example={"by": ("model", "strategy"), "cost": "output_tokens"},
)
def code_efficiency(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Score right solutions by the fastest reference that they are at least level with.

    Grain: one row per group, the most efficient first; `more["pairs"]`: one row per pair of groups.
    Only right solutions have a cost that means something, so `dps` says how good the solved ones
    are; read it beside the pass rate, or take `dps_all`. Costs may be seconds, instructions,
    joules, tokens.

    References stand from slow to fast. A solution's score is that of the fastest reference it is
    not slower than, 0 if it is slower than all; by level it is that reference's place over their
    number. The items' metadata give references as costs, whose scores are then their places, or as
    [cost, score in per cent] pairs. Without them levels are made of all right solutions of the
    slice, as EvalPerf makes its own: sorted by cost, a level ends where the next cost is more than
    `gap` above; its slowest solution is the reference, its score the share of solutions at that
    level or slower. Then the score is relative to whom the slice holds, and a group's own solutions
    are among them.

    An item's value is the mean of its right solutions, a group's the mean over its items with at
    least `least` of them. Pairs: on items both solved. Intervals: t · SE over items, clustered.
    """
    rows, dropped = _solutions(frame, by, options)
    given = _references(frame, options["references"])
    scores, n_from_solutions = _scores(rows, given, options["gap"])
    rows = rows.with_columns(*scores)
    records = []
    values = {}
    for key, part in per_trace.parts(rows, by):
        items = _items(part, options["least"])
        values[label(key)] = items.select("_item", "_code", "dps")
        records.append(dict(zip(by, key, strict=True)) | _row(items, options["level"]))
    schema = {c: rows.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _ROWS}
    first = ["task"] if "task" in by else []
    table = pl.DataFrame([dict.fromkeys(schema) | row for row in records], schema=schema).sort(
        *first,
        "dps",
        *by,
        descending=[*[False] * len(first), True, *[False] * len(by)],
        nulls_last=True,
    )
    notes = []
    if n_from_solutions:
        notes.append(
            f"{n_from_solutions} items have no references: their levels are made of the slice's "
            "own right solutions"
        )
    if rows.height and not n_from_solutions and not given:
        notes.append(
            f"no right solution has a {options['cost']}; name a column or a key of the "
            "traces' metadata by --cost"
        )
    pairs = _pairs(values, options["level"])
    shape = {c.name: DTYPES[c.type] for c in _PAIRS}
    return Answer(
        table,
        more={"pairs": pl.DataFrame(pairs, schema=shape)},
        dropped=dropped,
        notes=tuple(notes),
    )


def _solutions(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], options: dict[str, Any]
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Fetch the scored solutions with what each costs, `_spent`; null where unknown."""
    cost = options["cost"]

    def read(rows: pl.DataFrame) -> pl.DataFrame:
        noted = [_number(_key(text, cost)) for text in rows["_metadata"].to_list()]
        return rows.drop("_metadata").with_columns(_spent=pl.Series(noted, dtype=pl.Float64))

    if cost in frame.collect_schema().names():
        rows = per_trace.fetch(frame, by, (cost,), flags=("passed",)).rename({f"_{cost}": "_spent"})
    else:
        rows = per_trace.fetch(
            frame, by, (), texts=("metadata",), flags=("passed",), transform=read
        )
    rows, dropped = per_trace.keep_passing(
        rows,
        {"failed traces": ~pl.col("_failed"), "unscored traces": pl.col("_passed").is_not_null()},
    )
    unknown = pl.col("_passed") & (pl.col("_spent").is_null() | pl.col("_spent").is_nan())
    dropped[f"right solutions without {cost}"] = int(rows.select(unknown.sum()).item())
    return rows.drop("_failed").with_columns(pl.col("_spent").fill_nan(None)), dropped


def _key(text: str | None, key: str) -> Any:
    try:
        return json.loads(text).get(key) if text else None
    except (ValueError, AttributeError):
        return None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and np.isfinite(value) else None


def _references(frame: "nw.LazyFrame[Any]", key: str) -> dict[int, References]:
    """Read the references of items, by the number of the item; what cannot be read is not there."""
    if "item_metadata" not in frame.collect_schema().names():
        return {}
    noted = frame.group_by("item_id").agg(nw.col("item_metadata").max())
    rows = per_trace.fetch(noted, (), (), texts=("item_metadata",))
    read = {
        item: read_references(_key(text, key))
        for item, text in rows.select("_item", "_item_metadata").drop_nulls().iter_rows()
    }
    return {item: ladder for item, ladder in read.items() if ladder is not None}


def _scores(
    rows: pl.DataFrame, given: dict[int, References], gap: float
) -> tuple[list[pl.Series], int]:
    """Score the right solutions of known cost, as columns `_score`, `_norm` and `_laddered`.

    `_laddered` tells whether the item has references.

    Also count the items whose references were made of these solutions.
    """
    solved = rows["_passed"] & rows["_spent"].is_not_null()
    at = np.flatnonzero(solved.to_numpy())
    items = rows["_item"].to_numpy()[at]
    costs = rows["_spent"].to_numpy()[at]
    order = np.lexsort((costs, items))
    at, items, costs = at[order], items[order], costs[order]
    ends_ = np.flatnonzero(
        np.diff(items, append=0)
    )  # the last solution of each item; numbers begin at 1
    scores = np.full((2, rows.height), np.nan)
    own_levels = set()
    begin = 0
    for end, item in zip((ends_ + 1).tolist(), items[ends_].tolist(), strict=True):
        item_rows = slice(begin, end)
        if item not in given:
            own_levels.add(item)
        ladder = given[item] if item in given else levels(costs[item_rows], gap)
        scores[:, at[item_rows]] = ladder.place(costs[item_rows])
        begin = end
    laddered = np.zeros((rows.select(pl.col("_item").max()).item() or 0) + 1, np.bool_)
    laddered[[i for i in (*given, *own_levels) if i < len(laddered)]] = True
    return [
        *(pl.Series(n, s).fill_nan(None) for n, s in zip(("_score", "_norm"), scores, strict=True)),
        pl.Series("_laddered", laddered[rows["_item"].to_numpy()]),
    ], len(own_levels)


def read_references(value: Any) -> References | None:
    """Read costs, or [cost, score in per cent] pairs, in any order; None where they are neither."""
    if not isinstance(value, list) or not value:
        return None
    pairs = [v if isinstance(v, list) and len(v) == 2 else (v, None) for v in value]
    costs = [_number(cost) for cost, _ in pairs]
    scores = [_number(score) for _, score in pairs]
    if None in costs:
        return None
    order = np.argsort(-np.array(costs, float), kind="stable")
    cost = np.array(costs, float)[order]
    if None in scores:
        return References(cost, np.arange(1, len(cost) + 1) / len(cost))
    return References(cost, np.array(scores, float)[order] / 100)


def levels(costs: npt.ArrayLike, gap: float) -> References:
    """Make references from solutions: a level ends where the cost rises by more than `gap`."""
    ordered = np.sort(np.asarray(costs, float))
    jumps = ordered[1:] > ordered[:-1] * (1 + gap)
    last = np.flatnonzero(np.append(jumps, True))  # the slowest of each level, the fastest first
    begins = np.concatenate([[0], last[:-1] + 1])
    slower = (len(ordered) - begins) / len(ordered)
    return References(ordered[last][::-1], slower[::-1])


def _items(part: pl.DataFrame, least: int) -> pl.DataFrame:
    right = pl.col("_score").is_not_null()
    enough = right.sum() >= least
    passed = pl.col("_passed").cast(pl.Float64)
    return (
        part.group_by("_item")
        .agg(
            pl.col("_code").first(),
            right.sum().alias("n"),
            passed.mean().alias("passed"),
            pl.when(enough).then(pl.col("_score").mean()).alias("dps"),
            pl.when(enough).then(pl.col("_norm").mean()).alias("norm"),
            pl.when(pl.col("_laddered").first())
            .then(pl.when(right).then("_score").when(~pl.col("_passed")).then(0.0).mean())
            .alias("all"),
        )
        .sort("_item")
    )


def _row(items: pl.DataFrame, level: float) -> dict[str, Any]:
    codes = items["_code"].to_numpy()
    solved = items.filter(pl.col("dps").is_not_null())
    row: dict[str, Any] = {"n_items": solved.height, "n": int(solved["n"].sum())}
    columns = (("dps", "dps"), ("dps_norm", "norm"), ("dps_all", "all"), ("pass_rate", "passed"))
    for name, column in columns:
        values = items[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
        row |= ratios.figures(name, ratios.mean(values, codes, level, (0.0, 1.0)))
    return row


def _pairs(values: dict[str, pl.DataFrame], level: float) -> list[dict[str, Any]]:
    """Compare every two groups on the items that both solved."""
    most = max((v.select(pl.col("_item").max()).item() for v in values.values()), default=0) + 1
    scores = {}
    codes = np.zeros(most, np.int64)
    for name, solutions in values.items():
        at = solutions["_item"].to_numpy()
        codes[at] = solutions["_code"].to_numpy()
        scores[name] = np.full(most, np.nan)
        scores[name][at] = solutions["dps"].fill_null(np.nan).to_numpy()
    pairs = []
    for a, b in itertools.combinations(scores, 2):
        gap = scores[a] - scores[b]
        both = ~np.isnan(gap)
        won = np.where(np.abs(gap[both]) < 1e-12, 0.5, gap[both] > 0)
        rate = ratios.mean(won, codes[both], level, (0.0, 1.0))
        pairs.append({"a": a, "b": b, "n_common": len(won)} | ratios.figures("win_rate", rate))
    return pairs

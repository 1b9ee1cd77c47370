"""How efficient right solutions are, matched with the levels of reference solutions."""

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis import fetched, ratios
from workbench.analysis.options import LEVEL
from workbench.analysis.registry import ChartSpec, Option, analysis
from workbench.analysis.result import DTYPES, Answer, label
from workbench.analysis.sample import ends
from workbench.schema import KEY_NULL, Column

C = Column
Floats = npt.NDArray[np.float64]
_FEW = "fewer than two items, or no spread"
_NONE = "no right solution with a known cost, on enough items"
_ROWS = (
    C("n_items", "int", "count", "Items with enough right solutions of known cost.", KEY_NULL, "items"),
    C("n", "int", "count", "Right solutions of known cost on them.", KEY_NULL, "right solutions"),
    *ends(C("dps", "float", "0..1", "Mean over items of the share of solutions that a right one is at least level with (differential performance score).", _NONE, "performance score"), _FEW),
    *ends(C("dps_norm", "float", "0..1", "The same by places among the references.", _NONE, "performance score, by level"), _FEW),
    *ends(C("dps_all", "float", "0..1", "The performance score with wrong solutions counted 0, over all its scored items with references.", "nothing scored", "performance score, wrong as 0"), _FEW),
    *ends(C("pass_rate", "float", "0..1", "Share of its scored solutions that are right, trials averaged within items.", "nothing scored"), _FEW),
)  # fmt: skip
_PAIRS = (
    C("a", "text", doc="One group.", null=KEY_NULL, title="A"),
    C("b", "text", doc="The other.", null=KEY_NULL, title="B"),
    C("n_common", "int", "count", "Items that both solved.", KEY_NULL, "items both solved"),
    *ends(C("win_rate", "float", "0..1", "Share of them on which A's performance score is higher, ties half.", "none in common", "A more efficient"), _FEW),
)  # fmt: skip


class Ladder(NamedTuple):
    """References of an item, the slowest first: what each costs, and the score of being level with it."""

    cost: Floats
    score: Floats

    def place(self, costs: npt.ArrayLike) -> Floats:
        """Give (score, rank over references) of solutions, (2, n): 0 where slower than all, NaN where unknown."""
        cost = np.asarray(costs, float)
        level = len(self.cost) - np.searchsorted(self.cost[::-1], cost, side="left")
        found = np.stack([np.concatenate([[0.0], self.score])[level], level / len(self.cost)])
        return np.where(np.isnan(cost), np.nan, found)


@analysis(
    name="code-efficiency",
    title="Code efficiency",
    question="How efficient are the right solutions, level by level against reference solutions?",
    source="differential performance evaluation: EvalPerf (Liu et al. 2024; from its code); the rule that tells levels apart is ours",
    needs=("item_id", "passed"),
    options=(
        Option("cost", "text", "solution_s", "what a solution costs: a column of the traces, or a key of their metadata"),
        Option("references", "text", "references", "the key of an item's metadata that lists reference costs, or [cost, score] pairs"),
        Option("gap", "float", 0.2, "without references: how much dearer, relatively, the next level of solutions is", low=0.0),
        Option("least", "int", 1, "right solutions that an item needs to count (EvalPerf's tables: 10)", low=1),
        LEVEL,
    ),
    columns=(*_ROWS, *_PAIRS),
    rows="trace_details",
    chart=ChartSpec("figures", x="dps", y="group", also=("dps_norm", "dps_all", "pass_rate")),
    example={"by": ("model", "strategy"), "cost": "output_tokens"},
)  # fmt: skip
def code_efficiency(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Score right solutions by the fastest reference that they are at least level with.

    Grain: one row per group, the most efficient first; `more["pairs"]`: one row per pair of groups.
    Only right solutions have a cost that means something, so `dps` says how good the solved ones are;
    read it beside the pass rate, or take `dps_all`. Costs may be seconds, instructions, joules, tokens.

    References stand from slow to fast. A solution's score is that of the fastest reference it is not
    slower than, 0 if it is slower than all; by level it is that reference's place over their number.
    The items' metadata give references as costs, whose scores are then their places, or as [cost,
    score in per cent] pairs. Without them levels are made of all right solutions of the slice, as
    EvalPerf makes its own: sorted by cost, a level ends where the next cost is more than `gap` above;
    its slowest solution is the reference, its score the share of solutions at that level or slower. Then
    the score is relative to whom the slice holds, and a group's own solutions are among them.

    An item's value is the mean of its right solutions, a group's the mean over its items with at least
    `least` of them. Pairs: on items both solved. Intervals: t · SE over items, clustered.
    """
    rows, dropped = _solutions(frame, by, options)
    ladders, made = _ladders(rows, options)
    scores = np.full((2, rows.height), np.nan)
    spent = rows["_spent"].to_numpy()
    places = rows.with_row_index("_at").group_by("_item").agg("_at")
    for item, at in zip(places["_item"].to_list(), places["_at"], strict=True):
        if item in ladders:
            scores[:, at.to_numpy()] = ladders[item].place(spent[at.to_numpy()])
    right = (pl.col("_passed") == 1) & pl.col("_score").is_not_null()
    rows = rows.with_columns(
        pl.Series("_score", scores[0]).fill_nan(None),
        pl.Series("_norm", scores[1]).fill_nan(None),
        pl.col("_item").is_in(list(ladders)).alias("_laddered"),
    ).with_columns(_right=right)
    found, values = [], {}
    for key, part in rows.sort(by, nulls_last=True).group_by(by, maintain_order=True):
        items = _items(part, options["least"])
        values[label(key)] = items
        found.append(dict(zip(by, key, strict=True)) | _row(items, options["level"]))
    schema = {c: rows.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _ROWS}
    first = ["task"] if "task" in by else []
    table = pl.DataFrame([dict.fromkeys(schema) | row for row in found], schema=schema).sort(
        *first, "dps", *by, descending=[*[False] * len(first), True, *[False] * len(by)], nulls_last=True
    )  # fmt: skip
    notes = []
    if made:
        notes.append(f"{made} items have no references: their levels are made of the slice's own right solutions")  # fmt: skip
    if rows.height and not ladders:
        notes.append(f"no right solution has a {options['cost']}; name a column or a key of the traces' metadata by --cost")  # fmt: skip
    pairs = [_pair(a, b, values, options["level"]) for a, b in itertools.combinations(values, 2)]
    shape = {c.name: DTYPES[c.type] for c in _PAIRS}
    return Answer(table, more={"pairs": pl.DataFrame(pairs, schema=shape)}, dropped=dropped, notes=tuple(notes))  # fmt: skip


def _solutions(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], options: dict[str, Any]
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Fetch the scored solutions with what each costs, `_spent`; NaN where unknown."""
    cost = options["cost"]
    is_column = cost in frame.collect_schema().names()
    rows = fetched.fetch(
        frame, by, (cost,) if is_column else (), texts=("metadata", "item_metadata"), flags=("passed",)
    )  # fmt: skip
    done = rows.filter(~pl.col("_failed"))
    scored = done.filter(pl.col("_passed").is_not_null())
    if is_column:
        spent = scored[f"_{cost}"].cast(pl.Float64).fill_null(np.nan)
    else:
        found = [_number(_key(text, cost)) for text in scored["_metadata"].to_list()]
        spent = pl.Series(found, dtype=pl.Float64).fill_null(np.nan)
    known = scored.with_columns(spent.alias("_spent"), pl.col("_passed").cast(pl.Float64))
    dropped = {
        "failed traces": rows.height - done.height,
        "unscored traces": done.height - scored.height,
        f"right solutions without {cost}": known.filter((pl.col("_passed") == 1) & pl.col("_spent").is_nan()).height,
    }  # fmt: skip
    return known, dropped


def _key(text: str | None, key: str) -> Any:
    try:
        return json.loads(text).get(key) if text else None
    except (ValueError, AttributeError):
        return None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and np.isfinite(value) else None


def _ladders(rows: pl.DataFrame, options: dict[str, Any]) -> tuple[dict[Any, Ladder], int]:
    """Read or make each item's references; also count the items whose references were made."""
    ladders, made = {}, 0
    right = pl.when((pl.col("_passed") == 1) & ~pl.col("_spent").is_nan()).then(pl.col("_spent"))
    for item, metadata, costs in (
        rows.group_by("_item", maintain_order=True)
        .agg(pl.col("_item_metadata").drop_nulls().first(), right.drop_nulls().alias("costs"))
        .iter_rows()
    ):
        given = read_references(_key(metadata, options["references"]))
        if given is not None:
            ladders[item] = given
        elif costs:
            ladders[item] = levels(costs, options["gap"])
            made += 1
    return ladders, made


def read_references(value: Any) -> Ladder | None:
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
        return Ladder(cost, np.arange(1, len(cost) + 1) / len(cost))
    return Ladder(cost, np.array(scores, float)[order] / 100)


def levels(costs: Iterable[float], gap: float) -> Ladder:
    """Make references of solutions: a level ends where the next dearer cost is more than `gap` above."""
    ordered = np.sort(np.array(list(costs), float))
    jumps = ordered[1:] > ordered[:-1] * (1 + gap)
    last = np.flatnonzero(np.append(jumps, True))  # the slowest of each level, the fastest first
    begins = np.concatenate([[0], last[:-1] + 1])
    slower = (len(ordered) - begins) / len(ordered)
    return Ladder(ordered[last][::-1], slower[::-1])


def _items(part: pl.DataFrame, least: int) -> pl.DataFrame:
    right = pl.col("_right")
    enough = right.sum() >= least
    return part.group_by("_item", maintain_order=True).agg(
        pl.col("_code").first(), right.sum().alias("n"), pl.col("_passed").mean().alias("passed"),
        pl.when(enough).then(pl.col("_score").filter(right).mean()).alias("dps"),
        pl.when(enough).then(pl.col("_norm").filter(right).mean()).alias("norm"),
        pl.when(pl.col("_laddered").first()).then(
            pl.when(right).then(pl.col("_score")).when(pl.col("_passed") == 0).then(0.0).mean()
        ).alias("all"),
    )  # fmt: skip


def _row(items: pl.DataFrame, level: float) -> dict[str, Any]:
    codes = items["_code"].to_numpy()
    solved = items.filter(pl.col("dps").is_not_null())
    row: dict[str, Any] = {"n_items": solved.height, "n": int(solved["n"].sum())}
    columns = (("dps", "dps"), ("dps_norm", "norm"), ("dps_all", "all"), ("pass_rate", "passed"))
    for name, column in columns:
        values = items[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
        row |= ratios.figures(name, ratios.mean(values, codes, level, (0.0, 1.0)))
    return row


def _pair(a: str, b: str, values: dict[str, pl.DataFrame], level: float) -> dict[str, Any]:
    left, right = (values[g].filter(pl.col("dps").is_not_null()) for g in (a, b))
    both = left.join(right, on="_item", suffix="_b", maintain_order="left")
    gap = (both["dps"] - both["dps_b"]).to_numpy()
    won = np.where(np.abs(gap) < 1e-12, 0.5, gap > 0)
    found = ratios.mean(won.astype(float), both["_code"].to_numpy(), level, (0.0, 1.0))
    return {"a": a, "b": b, "n_common": both.height} | ratios.figures("win_rate", found)

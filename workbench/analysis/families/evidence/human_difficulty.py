"""Human difficulty of items against the difficulty for models."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import numpy.typing as npt
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis
from workbench.analysis.core.options import LEVEL
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.inputs import per_trace
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import ratios
from workbench.schema import KEY_NULL, Column

_ROUNDING = 1e-12  # closer to 0 a correlation is what is left of sums that cancel
_NONE = "fewer than three items, or difficulty or misses all alike"
_NULL_IF_FEW = "fewer than four clusters, or perfect agreement"
_ROWS = (
    Column(
        "n_items",
        "int",
        "count",
        "Items with a known difficulty and a scored trace.",
        KEY_NULL,
        "items",
    ),
    Column("n", "int", "count", "Scored traces on them.", KEY_NULL, "traces"),
    *ends(
        Column(
            "pearson_r",
            "float",
            "",
            "Correlation over items of difficulty and the share of trials that missed.",
            _NONE,
            "r with difficulty",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "spearman_r",
            "float",
            "",
            "The same of places: for difficulties that are only an order.",
            _NONE,
            "ρ with difficulty",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "easy_rate",
            "float",
            "0..1",
            "Pass rate on the easiest part.",
            "no items",
            "pass rate, easiest",
        ),
        "fewer than two items",
    ),
    *ends(
        Column(
            "hard_rate",
            "float",
            "0..1",
            "Pass rate on the hardest part.",
            "no items",
            "pass rate, hardest",
        ),
        "fewer than two items",
    ),
)
_PARTS = (
    Column("part", "int", "", "Part of the items by difficulty, from 1, the easiest.", KEY_NULL),
    Column("difficulty_from", "float", "", "Least difficulty of the part.", KEY_NULL, "from"),
    Column("difficulty_to", "float", "", "Greatest difficulty of the part.", KEY_NULL, "to"),
    Column("part_items", "int", "count", "Items of the part.", KEY_NULL, "items"),
    *ends(
        Column("part_rate", "float", "0..1", "Pass rate on them.", KEY_NULL, "pass rate"),
        "fewer than two items",
    ),
)


@analysis(
    name="human-difficulty",
    title="Agreement with difficulty",
    question="Does a model miss what people find hard?",
    source="orthographic calibration (from a review: r of human difficulty and miss rate, recall "
    "by quartile); interval: Fisher 1921",
    needs=("item_id", "passed", "difficulty"),
    options=(
        Option(
            "parts", "int", 4, "parts that the items are cut into by difficulty", low=2, high=20
        ),
        LEVEL,
    ),
    columns=(*_ROWS, *_PARTS),
    chart=ChartSpec("figures", x="pearson_r", y="group", also=("easy_rate", "hard_rate")),
    settles=Settles("pearson_r", 0.0),
    example={"by": ("model", "strategy")},
)
def human_difficulty(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Correlate the items' difficulty with how often a group misses them.

    Grain: one row per group; `more["parts"]`: one row per group and part of the difficulties. Items
    have equal weights, trials averaged within them. Difficulty is what the task set says, higher is
    harder: a share of people who failed, or grades; where it is only an order, look at ρ. Tasks may
    grade on scales of their own: group by task, or slice one, before believing a correlation over
    several.

    With few trials the miss rate of an item is noise around its own, which pulls r towards 0.
    Parts: by quantiles of the items' difficulty; equal difficulties stay together, so that parts
    may be unequal or missing. Intervals: r and ρ by Fisher's z, tanh(artanh r ± z / √(n − 3)) with
    n the clusters of items; pass rates Wilson's with the effective number of items.
    """
    rows = per_trace.fetch(frame, by, ("difficulty",), flags=("passed",))
    scored, dropped = per_trace.keep_passing(
        rows,
        {"failed traces": ~pl.col("_failed"), "unscored traces": pl.col("_passed").is_not_null()},
    )
    of_by = {c: scored.schema[c] for c in by}
    groups = scored.select(by).unique().sort(by, nulls_last=True)
    known, gone = per_trace.keep_passing(
        scored, {"traces whose item has no difficulty": pl.col("_difficulty").is_finite()}
    )
    of_groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    parts = []
    for key, group_rows_of in per_trace.parts(known, by):
        names = dict(zip(by, key, strict=True))
        items = (
            group_rows_of.group_by("_item")
            .agg(
                pl.col("_difficulty").first(),
                pl.col("_code").first(),
                pl.col("_passed").cast(pl.Float64).mean(),
            )
            .sort("_item")
        )
        cut = _cut(items, options["parts"])
        row = {"n_items": items.height, "n": group_rows_of.height} | _agreement(
            items, options["level"]
        )
        of = [
            names | _part(k, items.filter(pl.Series(cut == k)), options["level"])
            for k in np.unique(cut)
        ]
        for name, part in (("easy_rate", of[0]), ("hard_rate", of[-1])):
            row |= {f"{name}{e}": part[f"part_rate{e}"] for e in ("", "_low", "_high")}
        of_groups[key] = row
        parts += of
    group_rows = [
        dict(zip(by, key, strict=True)) | of_groups.get(key, {"n_items": 0, "n": 0})
        for key in groups.iter_rows()
    ]
    shapes = [of_by | {c.name: DTYPES[c.type] for c in cs} for cs in (_ROWS, _PARTS)]
    return Answer(
        pl.DataFrame([dict.fromkeys(shapes[0]) | r for r in group_rows], schema=shapes[0]),
        more={"parts": pl.DataFrame(parts, schema=shapes[1])},
        dropped=dropped | gone,
    )


def _cut(items: pl.DataFrame, parts: int) -> npt.NDArray[np.int64]:
    """Number each item's part by difficulty, from 1; equal difficulties share one."""
    # Ranks are whole or half numbers: multiplied first, a quotient that is whole comes out whole.
    rank = items["_difficulty"].rank("average").to_numpy()
    return np.floor(rank * parts / (items.height + 1)).astype(np.int64) + 1


def _agreement(items: pl.DataFrame, level: float) -> dict[str, Any]:
    x = items["_difficulty"]
    y = 1 - items["_passed"]
    row: dict[str, Any] = {}
    if items.height < 3 or x.n_unique() < 2 or y.n_unique() < 2:
        return row
    clusters = items["_code"].n_unique()
    for name, a, b in (("pearson_r", x, y), ("spearman_r", x.rank(), y.rank())):
        r = float(np.corrcoef(a.to_numpy(), b.to_numpy())[0, 1])
        r = r if abs(r) > _ROUNDING else 0.0
        row |= ratios.figures(name, (r, *fisher(r, clusters, level)))
    return row


def fisher(r: float, n: int, level: float) -> tuple[float, float]:
    """Compute the interval of a correlation by Fisher's z; NaN below four or if it is perfect."""
    from statistics import NormalDist

    if n < 4 or abs(r) >= 1 - 1e-12:
        return float("nan"), float("nan")
    half = NormalDist().inv_cdf((1 + level) / 2) / (n - 3) ** 0.5
    return float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half))


def _part(number: int, items: pl.DataFrame, level: float) -> dict[str, Any]:
    x = items["_difficulty"].to_numpy()
    row: dict[str, Any] = {
        "part": int(number),
        "difficulty_from": float(x.min()),
        "difficulty_to": float(x.max()),
        "part_items": items.height,
    }
    rate = ratios.share(items["_passed"].to_numpy(), items["_code"].to_numpy(), level)
    return row | ratios.figures("part_rate", rate)

"""Itemised ranking: strengths of groups in a model with a difficulty for every item."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.options import ERRORS, LEVEL
from workbench.analysis.core.result import DTYPES, Answer, empty
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import rasch
from workbench.schema import KEY_NULL, Column

_LEAST = "fewer than two groups or items"
_ROWS = (
    Column("rank", "int", "", "Place by strength, 1 the strongest.", _LEAST),
    *ends(
        Column(
            "strength",
            "float",
            "",
            "Log odds of being right on an item of middling difficulty, above the average group.",
            _LEAST,
        ),
        _LEAST,
    ),
    *ends(
        Column(
            "p_average",
            "float",
            "0..1",
            "Chance of being right on an item of difficulty 0 of an average author.",
            _LEAST,
            "right on an average item",
        ),
        _LEAST,
    ),
    Column(
        "mean_outcome",
        "float",
        "0..1",
        "Mean over items of the share of right trials.",
        KEY_NULL,
        "mean outcome",
    ),
    Column("n_items", "int", "count", "Items with a trace that counts.", KEY_NULL, "items"),
    Column("n", "int", "count", "Scored traces.", KEY_NULL, "traces"),
)
_ITEMS = (
    Column("item_id", "text", doc="The item.", null=KEY_NULL),
    Column("item", "text", doc="Key of the item within its task.", null="not known"),
    Column("author", "text", doc="Who set it, as the option says.", null="not known"),
    Column(
        "difficulty_fitted",
        "float",
        doc="Log odds by which it is harder than an average one of its author.",
        null=KEY_NULL,
        title="difficulty",
    ),
    Column(
        "difficulty_se",
        "float",
        doc="Its standard error, the strengths taken as known.",
        null=KEY_NULL,
        title="standard error",
    ),
)
_AUTHORS = (
    Column(
        "author_fitted",
        "float",
        doc="Log odds by which an author's items are hard.",
        null=KEY_NULL,
        title="difficulty of the author",
    ),
    Column("n_author", "int", "count", "Items of the author.", KEY_NULL, "items"),
)


@analysis(
    name="itemised-ranking",
    title="Itemised ranking",
    question="Which groups are strongest once each item and its author have their own difficulty?",
    source="itemised Bradley–Terry of Benchmarking at the Edge of Comprehension (from its code): "
    "logit P = β − α − δ, Gaussian priors; Rasch 1960",
    needs=("item_id", "passed"),
    options=(
        Option("author", "text", "task", "the column whose values set items: task, cluster"),
        ERRORS,
        LEVEL,
    ),
    columns=(*_ROWS, *_ITEMS, *_AUTHORS),
    chart=ChartSpec("figures", x="strength", y="group", also=("p_average", "mean_outcome")),
    example={"by": ("model", "strategy")},
)
def itemised_ranking(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Fit strengths of groups beside difficulties of items and their authors, the strongest first.

    Grain: one row per group; `more["items"]`: one row per item, the hardest first;
    `more["authors"]`: one row per author. Per task if `by` names it. Only scored traces count,
    right or wrong; trials of an item are binomial.

    logit P(group b is right on question q of author a) = β_b − α_a − δ_q with Gaussian priors on
    all three, Σβ = 0; the most probable values, with the priors' spreads that make the data most
    probable (Laplace's approximation). Groups that were tried on harder items are not punished for
    it, as long as some items are shared; a group that is always right has a finite strength, held
    by the prior. The authors' part is one common difficulty where there is one author.

    Intervals: ± z · SE of the posterior (Laplace), the authors' difficulties taken as known;
    clusters of items are not distinguished, the items being in the model.
    """
    set_by = _authors(frame, options["author"])
    built = build(
        reduce_items(frame, by, errors_as_wrong=options["errors_as_wrong"], about=("item",))
    )
    rows = []
    found_items = []
    found_authors = []
    notes = list(built.notes)
    for task, panel in built.parts:
        on = [pl.lit(task, pl.String).alias("task")] if task is not None else []
        table, of_items, of_authors = _fitted(panel, set_by, options["level"])
        rows.append(table.with_columns(on).select(*by, *(c.name for c in _ROWS)))
        found_items.append(of_items.with_columns(on))
        found_authors.append(of_authors.with_columns(on))
    if not rows:
        return Answer(empty(by, _ROWS), dropped=built.dropped)
    more = {"items": pl.concat(found_items), "authors": pl.concat(found_authors)}
    return Answer(pl.concat(rows), more=more, dropped=built.dropped, notes=tuple(notes))


def _authors(frame: "nw.LazyFrame[Any]", author: str) -> dict[str, str | None]:
    """Map items to their authors; traces of one item have one author."""
    if author not in frame.collect_schema().names():
        return {}
    of_items = frame.group_by("item_id").agg(nw.col(author).max().alias("_author"))
    pairs: pl.DataFrame = of_items.collect("polars").to_native()
    return dict(pairs.select(pl.all().cast(pl.String)).iter_rows())


def _fitted(
    panel: Panel, set_by: dict[str, str | None], level: float
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    from statistics import NormalDist

    n, right = (np.nan_to_num(panel.matrix(c)) for c in ("n_scored", "outcome"))
    ids = panel.items["item_id"].cast(pl.String).to_list()
    names = [set_by.get(i) for i in ids]
    authors = sorted(set(names), key=lambda a: (a is None, a or ""))
    places = {a: k for k, a in enumerate(authors)}
    codes = np.array([places[a] for a in names], np.int64)
    mean = np.divide(right, n, out=np.full(n.shape, np.nan), where=n > 0)
    table = panel.groups.with_columns(
        pl.Series("mean_outcome", np.nanmean(mean, axis=0)),
        pl.Series("n_items", (n > 0).sum(axis=0)).cast(pl.Int64),
        pl.Series("n", n.sum(axis=0)).cast(pl.Int64),
    )
    if n.shape[1] < 2 or len(ids) < 2:
        nothing = [
            pl.lit(None, DTYPES[c.type]).alias(c.name) for c in _ROWS if c.name not in table.columns
        ]
        of = [
            pl.DataFrame(schema={c.name: DTYPES[c.type] for c in cs})
            for cs in (_ITEMS, (_ITEMS[2], *_AUTHORS))
        ]
        return table.with_columns(nothing), of[0], of[1]
    fit, _ = rasch.learn(n, right, codes)
    half = NormalDist().inv_cdf((1 + level) / 2) * np.sqrt(np.maximum(np.diag(fit.covariance), 0))
    common = float(fit.author.mean())
    figures = {
        f"{name}{end}": shape(fit.strength + sign * half)
        for name, shape in (
            ("strength", np.asarray),
            ("p_average", lambda b: 1 / (1 + np.exp(common - b))),
        )
        for end, sign in (("", 0.0), ("_low", -1.0), ("_high", 1.0))
    }
    table = table.with_columns(pl.Series(k, v) for k, v in figures.items()).with_columns(
        rank=pl.col("strength").round(9).rank("min", descending=True).cast(pl.Int64)
    )
    of_items = pl.DataFrame(
        {
            "item_id": ids,
            "item": panel.items["item"].to_list(),
            "author": names,
            "difficulty_fitted": fit.item,
            "difficulty_se": fit.item_sd,
        },
        schema={c.name: DTYPES[c.type] for c in _ITEMS},
    ).sort("difficulty_fitted", "item_id", descending=[True, False])
    of_authors = pl.DataFrame(
        {
            "author": authors,
            "author_fitted": fit.author,
            "n_author": np.bincount(codes, minlength=len(authors)),
        },
        schema={c.name: DTYPES[c.type] for c in (_ITEMS[2], *_AUTHORS)},
    )
    order = panel.groups.columns
    ranked = table.sort(
        "rank", *order
    )  # of equals, whose strengths may differ by rounding, by name
    return ranked, of_items, of_authors

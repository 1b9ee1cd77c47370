"""Quantization: score and cost of coarser number formats, relative to a baseline."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis, unknown_name
from workbench.analysis.core.options import ERRORS, LEVEL, OUTCOME, RESAMPLES
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.inputs import sample
from workbench.analysis.inputs.panel import build as build_panels
from workbench.analysis.inputs.panel import divide
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.inputs.sample import Means, Statistic, ends
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_NULL_IF_FEW = "fewer than two items, or the baseline itself"
_ROWS = (
    Column("precision", "text", doc="Number format of the weights.", null="not known"),
    Column("baseline", "text", doc="The format that it is held against.", null="not known"),
    Column(
        "bits",
        "float",
        "bits",
        "Bits of a weight, as the format's name says; blocks and scales come on top.",
        "the name does not say",
    ),
    Column(
        "n_items",
        "int",
        "count",
        "Items that every format of the group was tried on.",
        KEY_NULL,
        "items",
    ),
    Column("n", "int", "count", "Traces that count.", KEY_NULL, "traces"),
    *ends(
        Column(
            "rate",
            "float",
            "0..1",
            "Mean over items of the mean outcome of their trials.",
            KEY_NULL,
            "score",
        ),
        "fewer than two items",
    ),
    *ends(
        Column(
            "change",
            "float",
            "0..1",
            "Score minus that of the baseline, on the same items.",
            "the baseline has none",
            "change of the score",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "recovered",
            "float",
            "",
            "Score over that of the baseline.",
            "the baseline scored 0",
            "score recovered",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "speedup",
            "float",
            "",
            "Time of an attempt at the baseline over its own; above 1 is faster.",
            "a time is unknown",
            "times as fast",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "tokens_factor",
            "float",
            "",
            "Its output tokens over those at the baseline.",
            "tokens unknown",
            "times the tokens",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "energy_factor",
            "float",
            "",
            "Its joules over those at the baseline; below 1 saves.",
            "an energy is unknown",
            "times the energy",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "cost_factor",
            "float",
            "",
            "Its cost over that at the baseline; below 1 saves.",
            "a cost is unknown",
            "times the cost",
        ),
        _NULL_IF_FEW,
    ),
    Column(
        "memory_factor",
        "float",
        "",
        "Bits over those of the baseline: memory of the weights alone.",
        "a format's bits are unknown",
        "times the memory of the weights",
    ),
    Column(
        "ties_baseline",
        "bool",
        doc="Whether the interval of the change holds 0: no loss is shown, which does not say "
        "there is none.",
        null=_NULL_IF_FEW,
        title="loss not shown",
    ),
)
_MEASURES = ("e2e_s", "output_tokens", "energy_j", "cost_usd")


@analysis(
    name="quantization",
    title="Quantization",
    question="How much of the score does a coarser number format keep, and what does it gain in "
    "time, energy, memory and money?",
    source="paired comparison by number format on shared items; bits as the formats' names say",
    needs=("item_id",),
    measures=_MEASURES,
    options=(
        Option(
            "baseline",
            "text",
            "",
            "the format that others are held against; empty for the one with the most bits",
        ),
        OUTCOME,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=_ROWS,
    by_hand={
        "by": ("model",),
        "where": "model:made-up-large",
        "worked": "BF16 runs on two GPUs, where a request has 200 W for "
        "10 s, INT4 on one, where it "
        "has 100 W for 6 s: 600 J"
        " in place of 2,000 J.",
    },
    within=("precision",),
    chart=ChartSpec("lines", x="bits", y="rate"),
    example={"by": ("model",)},
)
def quantization(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compare every number format of a group with its baseline, item by item.

    Grain: one row per group and format, the most bits first. Group by what stays the same, as model
    or model and strategy: `by` leaves the format out, and a configuration has only one. Only scored
    traces count, on the items that every format of the group was tried on; trials are averaged
    within their item. What the groups differ in beside the format counts as its doing: with several
    models in a group the models are compared, not the formats.

    Bits are read from the format's name: FP16, BF16, F32, int8, Q4_K_M, W4A16 (of the weights),
    4-bit, MXFP4. Memory is the weights' alone, without blocks' scales, caches or activations.
    Ratios are of means. Intervals: expanded percentile bootstrap of item clusters, the same
    resample for all formats.
    """
    if "precision" in by:
        raise AnalysisError("by: precision is what varies; group by what stays the same, as model")
    if "precision" not in frame.collect_schema().names():
        frame = frame.with_columns(nw.lit(None).cast(nw.String).alias("precision"))
    items = reduce_items(
        frame,
        (*by, "precision"),
        _MEASURES,
        outcome=options["outcome"],
        errors_as_wrong=options["errors_as_wrong"],
    )
    counted_rows = items.frame.filter(pl.col("n") > 0)
    tables = []
    lost = 0
    lone = 0
    several = 0
    for _, part in counted_rows.sort(by, nulls_last=True).group_by(by, maintain_order=True):
        format_items = dataclasses.replace(items, frame=part, by=("precision",))
        table, gone = _group(format_items, rng, options)
        lost += gone
        lone += table.height == 1
        several += table.height > 1
        tables.append(table.with_columns(pl.lit(part[c][0], part.schema[c]).alias(c) for c in by))
    notes = []
    if lone:
        notes.append(
            f"{lone} of {lone + several} groups have one number format: group by what stays "
            "the same, as model"
        )
    if mixed := _mixed(frame, by):
        notes.append(
            f"{mixed} groups hold several models: what differs between formats may be the "
            "model's doing"
        )
    dropped = items.dropped() | {"items that not every format was tried on": lost}
    if not tables:
        shape = {c: counted_rows.schema[c] for c in by} | {c.name: DTYPES[c.type] for c in _ROWS}
        return Answer(pl.DataFrame(schema=shape), dropped=dropped, notes=tuple(notes))
    columns = list(dict.fromkeys((*by, *(c.name for c in _ROWS))))
    return Answer(pl.concat(tables).select(columns), dropped=dropped, notes=tuple(notes))


def _mixed(frame: "nw.LazyFrame[Any]", by: Sequence[str]) -> int:
    """Count the groups with more than one model."""
    if "model" in by or "model" not in frame.collect_schema().names():
        return 0
    pairs: pl.DataFrame = (
        frame.group_by(*by, "model").agg(nw.len().alias("_n")).collect("polars").to_native()
    )
    return pairs.group_by(by).len().filter(pl.col("len") > 1).height


def bits(precision: str | None) -> float | None:
    """Read the bits of a weight from the name of a format; None where it does not say.

    >>> [bits(p) for p in ("bf16", "Q4_K_M", "int8", "W4A16", "IQ2_XS", "AWQ", None)]
    [16.0, 4.0, 8.0, 4.0, 2.0, None, None]
    """
    text = (precision or "").lower()
    if text in {"float", "single", "full"}:
        return 32.0
    if text == "half":
        return 16.0
    named = re.search(
        r"(?:^|[^a-z0-9])(?:i?q|w|fp|bf|mxfp|nvfp|nf|f|int|uint|float|bfloat|e)(\d+(?:\.\d+)?)",
        " " + text,
    )
    match = named or re.search(r"(\d+(?:\.\d+)?)[ _-]?bits?\b", text)
    return float(match[1]) if match and 1 <= float(match[1]) <= 64 else None


def _group(
    items: Any, rng: np.random.Generator, options: dict[str, Any]
) -> tuple[pl.DataFrame, int]:
    """Compare the formats of one group; also count the items left out."""
    whole = build_panels(items).parts[0][1]
    panel = whole.restrict(whole.everywhere)
    lost = whole.items.height - panel.items.height
    if not panel.items.height:
        names = whole.groups["precision"].to_list()
        empty = {c.name: DTYPES[c.type] for c in _ROWS}
        rows = [
            dict.fromkeys(empty) | {"precision": p, "bits": bits(p), "n_items": 0, "n": 0}
            for p in names
        ]
        return pl.DataFrame(rows, schema=empty), lost
    names = panel.groups["precision"].to_list()
    base = _baseline(names, options["baseline"])
    values = {"rate": panel.outcome()} | {m: panel.measure(m) for m in _MEASURES}
    # A mean of some items is no mean of all: then the figure is unknown.
    values = {n: np.where(np.isnan(v).any(axis=0), np.nan, v) for n, v in values.items()}
    bootstrap = sample.draw(panel, values, rng, options)

    def against(name: str, *, inverse: bool = False) -> Statistic:
        def factor(m: Means) -> Floats:
            own = m[name]
            reference = m[name][..., base : base + 1]
            return divide(reference, own) if inverse else divide(own, reference)

        return factor

    figures: dict[str, Statistic] = {
        "change": lambda m: np.asarray(m["rate"] - m["rate"][..., base : base + 1]),
        "recovered": against("rate"),
        "speedup": against("e2e_s", inverse=True),
        "tokens_factor": against("output_tokens"),
        "energy_factor": against("energy_j"),
        "cost_factor": against("cost_usd"),
    }
    width = [bits(p) for p in names]
    columns = list(bootstrap.series("rate", lambda m: m["rate"]))
    for name, figure in figures.items():
        columns += [_but(s, base) if s.name != name else s for s in bootstrap.series(name, figure)]
    table = panel.groups.with_columns(
        *columns,
        *sample.counts(panel),
        pl.Series("bits", width, pl.Float64),
        pl.lit(names[base], pl.String).alias("baseline"),
    ).with_columns(
        memory_factor=pl.col("bits") / pl.lit(width[base], pl.Float64),
        ties_baseline=(pl.col("change_low") <= 0) & (pl.col("change_high") >= 0),
    )
    table = table.select(c.name for c in _ROWS)
    return table.sort("bits", "precision", descending=[True, False], nulls_last=True), lost


def _but(column: pl.Series, base: int) -> pl.Series:
    """Leave the baseline's own interval open: it is held against itself."""
    return pl.Series(
        column.name, [None if k == base else v for k, v in enumerate(column)], pl.Float64
    )


def _baseline(names: list[str | None], baseline: str) -> int:
    if baseline:
        if baseline not in names:
            raise AnalysisError(
                unknown_name("number format of option baseline", baseline, [str(n) for n in names])
            )
        return names.index(baseline)
    return max(range(len(names)), key=lambda k: (bits(names[k]) or 0.0, str(names[k])))

"""Efficiency scores: right answers per token, dollar, joule and watt."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.options import ERRORS, LEVEL, OUTCOME, RESAMPLES, SHARED
from workbench.analysis.core.result import Answer
from workbench.analysis.inputs import sample
from workbench.analysis.inputs.panel import Built, Panel
from workbench.analysis.inputs.sample import ends
from workbench.schema import KEY_NULL, Column

_NULL_IF_FEW = "fewer than two items with both known"
_HEAD = (
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
_TOKENS = (
    Column(
        "n_tokens",
        "int",
        "count",
        "Scored traces whose output tokens are known.",
        KEY_NULL,
        "traces with tokens",
    ),
    *ends(
        Column(
            "e3",
            "float",
            "1/token",
            "Accuracy squared over mean output tokens.",
            "tokens unknown, or 0",
            "E³",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "rate_per_ktok",
            "float",
            "1/ktok",
            "Accuracy per thousand output tokens.",
            "tokens unknown, or 0",
            "accuracy per 1k tokens",
        ),
        _NULL_IF_FEW,
    ),
)
_COST = (
    Column(
        "n_priced",
        "int",
        "count",
        "Scored traces whose cost is known.",
        KEY_NULL,
        "traces with a cost",
    ),
    *ends(
        Column(
            "rate_per_dollar",
            "float",
            "1/USD",
            "Accuracy per dollar of mean cost.",
            "cost unknown, or 0",
            "accuracy per dollar",
        ),
        _NULL_IF_FEW,
    ),
)
_ENERGY = (
    Column(
        "n_metered",
        "int",
        "count",
        "Scored traces whose energy is known.",
        KEY_NULL,
        "traces with energy",
    ),
    *ends(
        Column(
            "rate_per_joule",
            "float",
            "1/J",
            "Accuracy per joule of mean energy.",
            "energy not measured, or 0",
            "accuracy per joule",
        ),
        _NULL_IF_FEW,
    ),
)
_POWER = (
    *ends(
        Column(
            "rate_per_watt",
            "float",
            "1/W",
            "Accuracy per watt: mean energy over mean time.",
            "energy or time unknown, or 0",
            "accuracy per watt",
        ),
        _NULL_IF_FEW,
    ),
)
_MEASURES = ("output_tokens", "cost_usd", "energy_j", "e2e_s")


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """One denominator: what a trace must have, and the columns made of those that have it."""

    require: tuple[str, ...]
    count: str
    columns: tuple[Column, ...]
    figures: dict[str, sample.Statistic]


_PARTS = (
    _Part((), "n", _HEAD, {"rate": lambda m: m["rate"]}),
    _Part(
        ("output_tokens",),
        "n_tokens",
        _TOKENS,
        {
            "e3": lambda m: sample.per(m["rate"] ** 2, m["output_tokens"]),
            "rate_per_ktok": lambda m: 1000 * sample.per(m["rate"], m["output_tokens"]),
        },
    ),
    _Part(
        ("cost_usd",),
        "n_priced",
        _COST,
        {
            "rate_per_dollar": lambda m: sample.per(m["rate"], m["cost_usd"]),
        },
    ),
    _Part(
        ("energy_j",),
        "n_metered",
        _ENERGY,
        {
            "rate_per_joule": lambda m: sample.per(m["rate"], m["energy_j"]),
        },
    ),
    _Part(
        ("energy_j", "e2e_s"),
        "",
        _POWER,
        {
            "rate_per_watt": lambda m: sample.per(m["rate"], sample.per(m["energy_j"], m["e2e_s"])),
        },
    ),
)


@analysis(
    name="efficiency-scores",
    title="Efficiency scores",
    question="How much accuracy does a token, a dollar, a joule or a watt buy?",
    source="E³: Plan-and-Budget, arXiv 2505.16122; accuracy per length: DLER, arXiv 2510.15110",
    needs=("item_id",),
    measures=_MEASURES,
    options=(
        Option(
            "scale",
            "choice",
            "percent",
            "accuracy in E³ and the ratios: 0..100 or 0..1",
            choices=("percent", "fraction"),
        ),
        OUTCOME,
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=tuple(c for part in _PARTS for c in part.columns),
    chart=ChartSpec("efficiency_scores", x="e3", y="group"),
)
def efficiency_scores(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Relate accuracy to tokens, cost, energy and power, best E³ first, per task if `by` names it.

    Grain: one row per group. A is the mean over items of the mean outcome of their trials, T the
    mean output tokens (thinking included), both over the same traces: the scored ones whose tokens
    are known; likewise for cost and energy, so that each score has its own traces, counted beside
    it.

    E³ = A² / T (Plan-and-Budget, arXiv 2505.16122, in the form that its reviews state; the scale of
    A is not settled there). With `scale` percent A runs to 100, and E³ is 10⁴ times, the ratios 100
    times what they are with `fraction`. Accuracy per 1k tokens = 1000 A / T is linear in A, so that
    short wrong answers can win; E³ weighs accuracy twice. Per watt: A over mean energy / mean time.
    A = 0 gives 0; T = 0 or unknown gives null. Intervals: expanded percentile bootstrap of item
    clusters.
    """
    tables = []
    dropped = dict[str, int]()
    notes = tuple[str, ...]()
    source = sample.Source(frame, tuple(by), _MEASURES, rng, options)
    for part in _PARTS:
        built = source.built(part.require, scored=True)
        tables.append(_table(source, built, part))
        if not part.require:
            dropped = dict(built.dropped)
            notes = built.notes
        elif len(part.require) == 1:
            name = part.require[0]
            lost = built.dropped.get(f"traces without {name}", 0)
            dropped[f"traces without {name}, left out of its scores"] = lost
    table = tables[0]
    for more in tables[1:]:
        table = table.join(more, on=list(by), how="left", nulls_equal=True, maintain_order="left")
    counted = [part.count for part in _PARTS[1:] if part.count]
    table = table.with_columns(pl.col(counted).fill_null(0))
    first = ["task"] if "task" in by else []
    down = [False] * len(first) + [True, True] + [False] * len(by)
    table = table.sort(*first, "e3", "rate", *by, descending=down, nulls_last=True)
    return Answer(table, _scaled(options["scale"]), dropped=dropped, notes=notes)


def _table(source: sample.Source, built: Built, part: _Part) -> pl.DataFrame:
    """Work out the scores of one denominator."""
    # The accuracy itself stays a share; only what is made of it is scaled.
    factor = 100.0 if part.require and source.options["scale"] == "percent" else 1.0

    def scaled(figure: sample.Statistic) -> sample.Statistic:
        return lambda means: figure({**means, "rate": means["rate"] * factor})

    def rows(panel: Panel) -> list[pl.Series]:
        bootstrap = source.draw(panel)
        counts = sample.counts(panel)
        part_counts = (
            counts if not part.require else [counts[1].alias(part.count)] if part.count else []
        )
        return [
            *part_counts,
            *(s for name, f in part.figures.items() for s in bootstrap.series(name, scaled(f))),
        ]

    return sample.tabulate(built, source.by, part.columns, rows)


def _scaled(scale: str) -> tuple[Column, ...]:
    """Set the units of columns to the scale of the accuracy."""
    if scale == "fraction":
        return ()
    units = {
        "1/token": "%²/token",
        "1/ktok": "%/ktok",
        "1/USD": "%/USD",
        "1/J": "%/J",
        "1/W": "%/W",
    }
    columns = [c for part in _PARTS for c in part.columns]
    return tuple(dataclasses.replace(c, unit=units.get(c.unit, c.unit)) for c in columns)

"""Energy and carbon per trace, per token and per right answer."""

import dataclasses
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench import hardware
from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.options import ERRORS, LEVEL, OUTCOME, RESAMPLES, SHARED
from workbench.analysis.core.result import Answer
from workbench.analysis.inputs import energy_coverage, model_shapes, sample
from workbench.analysis.inputs.panel import Panel
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

JOULES_PER_KWH = 3.6e6
_NOT = "not measured"
_NULL_IF_FEW = "fewer than two items, or not measured"
_ALL = (
    Column("n_items", "int", "count", "Items with a trace that did not fail.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces that did not fail.", KEY_NULL, "traces"),
)
_METERED = (
    Column("n_metered", "int", "count", "Those whose energy is known.", KEY_NULL, "with energy"),
    *ends(
        Column(
            "energy_j",
            "float",
            "J",
            "Mean energy of a trace, at the device.",
            _NOT,
            "energy per trace",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "carbon_g",
            "float",
            "g",
            "Mean carbon of a trace: energy × PUE × g/kWh.",
            _NOT,
            "carbon per trace",
        ),
        _NULL_IF_FEW,
    ),
)
_PER_TOKEN = (
    *ends(
        Column(
            "energy_per_token",
            "float",
            "J/token",
            "Mean energy over mean output tokens, thinking included.",
            "not measured, or no output tokens",
            "energy per output token",
        ),
        _NULL_IF_FEW,
    ),
)
_POWER = (
    *ends(
        Column(
            "power_w",
            "float",
            "W",
            "Mean energy over mean time of a trace.",
            "energy or time unknown",
            "mean power",
        ),
        _NULL_IF_FEW,
    ),
)
_PER_PASS = (
    Column(
        "n_scored",
        "int",
        "count",
        "Scored traces whose energy is known.",
        KEY_NULL,
        "scored with energy",
    ),
    *ends(
        Column(
            "rate", "float", "0..1", "Accuracy of those.", "none scored and measured", "accuracy"
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "energy_per_pass_j",
            "float",
            "J",
            "Mean energy over accuracy: joules per right answer; infinite where nothing passed.",
            "none scored and measured",
            "energy per right answer",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "carbon_per_pass_g",
            "float",
            "g",
            "Mean carbon over accuracy; infinite where nothing passed.",
            "none scored and measured",
            "carbon per right answer",
        ),
        _NULL_IF_FEW,
    ),
)
_MEASURES = ("energy_j", "output_tokens", "e2e_s")


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """Figures that speak of the same traces: those that have what is required."""

    require: tuple[str, ...]
    scored: bool
    columns: tuple[Column, ...]


_PARTS = (
    _Part((), scored=False, columns=_ALL),
    _Part(("energy_j",), scored=False, columns=_METERED),
    _Part(("energy_j", "output_tokens"), scored=False, columns=_PER_TOKEN),
    _Part(("energy_j", "e2e_s"), scored=False, columns=_POWER),
    _Part(("energy_j",), scored=True, columns=_PER_PASS),
)


@analysis(
    name="energy",
    title="Energy",
    question="How many joules, and grams of carbon, does a trace, a token or a right answer take?",
    source="ML.ENERGY benchmark (J per token and request); CodeCarbon, Zeus (J × PUE × g/kWh)",
    needs=("item_id",),
    measures=_MEASURES,
    scored=False,
    options=(
        Option(
            "g_per_kwh",
            "float",
            475.0,
            "carbon intensity of the grid; 475 is CodeCarbon's world average",
            low=0,
        ),
        Option(
            "grid", "text", None, "take the carbon intensity of this grid instead: USA, FRA, world"
        ),
        Option("pue", "float", 1.0, "power usage effectiveness: facility over device", low=1),
        model_shapes.REFERENCE,
        OUTCOME,
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=tuple(c for part in _PARTS for c in part.columns),
    by_hand={
        "g_per_kwh": 360,
        "worked": "A request of the thinker has half of 200 W for 10 s: 1,000 J, over 800 output "
        "tokens 1.25 J each, at"
        " 360 g/kWh 0.1 g. 5 of 6 answers are right: 1,200 J each. Terse is behind an API, "
        "where nothing was read.",
    },
    chart=ChartSpec("energy", x="energy_j", y="group"),
)
def energy(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compute energy and carbon per trace, token and right answer, least per trace first.

    Grain: one row per group, per task if `by` names it; groups without a meter have a row of
    unknowns. Energy is that of the calls' devices as read or reported; what was only estimated, of
    APIs, is not counted: `energy-by-phase` has it, tells measured, apportioned, reported and
    estimated apart, and has the joules of a thinking token. Mixing methods is for the reader's
    slice to avoid.

    Joules per token: mean energy over mean output tokens of the same traces (prefill is absorbed,
    as in ML.ENERGY), so that J/token × tokens = J/trace where both are known of all. Per right
    answer: mean energy / accuracy, over scored traces of known energy; infinite where nothing
    passed, its low end then the energy over the upper Clopper–Pearson bound of the accuracy.
    Carbon: J / 3.6e6 × PUE × g/kWh, the PUE applied once; joules and watts are at the device,
    without it. Trials are averaged within their item. Intervals: bootstrap of item clusters,
    percentiles widened for few of them (Hesterberg 2015); means of few skewed joules may lie above
    theirs: of 30 items it holds the truth in 92 of 100 simulated studies where 95 are promised, of
    100 in 93, of 500 in 94.
    """
    table = None
    dropped = dict[str, int]()
    notes = tuple[str, ...]()
    if options["grid"] is not None:
        options["g_per_kwh"] = _intensity(options)
    source = sample.Source(frame, tuple(by), _MEASURES, rng, options)
    for part in _PARTS:
        built = source.built(part.require, scored=part.scored)
        rows = functools.partial(_figures, source, part)
        part_table = sample.tabulate(built, by, part.columns, rows)
        if table is None:
            table = part_table
            dropped = dict(built.dropped)
            notes = built.notes
            continue
        table = table.join(
            part_table, on=list(by), how="left", nulls_equal=True, maintain_order="left"
        )
        dropped |= _lost(part, built.dropped)
    assert table is not None  # the parts are a constant
    first = ["task"] if "task" in by else []
    table = table.with_columns(pl.col("n_metered", "n_scored").fill_null(0))
    table = table.sort(*first, "energy_j", *by, nulls_last=True)
    notes = (*energy_coverage.notes(table, by), *notes)
    return Answer(table, dropped={k: v for k, v in dropped.items() if v}, notes=notes)


def _intensity(options: Mapping[str, Any]) -> float:
    """Grams per kWh of the grid that was asked for."""
    grid = hardware.in_force(options["reference"]).grid(options["grid"])
    if grid.carbon_g_per_kwh is None:
        raise AnalysisError(f"the carbon intensity of {grid.grid} is not known; give g_per_kwh")
    return grid.carbon_g_per_kwh


def _lost(part: _Part, dropped: Mapping[str, int]) -> dict[str, int]:
    """Count the traces that lack energy or an outcome; counts show unknown tokens and times."""
    if part.scored:
        return {"unscored traces, left out of J per right answer": dropped["unscored traces"]}
    name = "traces without energy_j"
    return {name: dropped[name]} if name in dropped else {}


def _figures(source: sample.Source, part: _Part, panel: Panel) -> list[pl.Series]:
    counts = sample.counts(panel)
    if not part.require:
        return counts
    bootstrap = source.draw(panel)
    options = source.options
    joules = operator.itemgetter("energy_j")
    grams_per_joule = options["pue"] * options["g_per_kwh"] / JOULES_PER_KWH

    def grams(means: sample.Means) -> Floats:
        mass: Floats = means["energy_j"] * grams_per_joule
        return mass

    if part.scored:
        return [
            counts[1].alias("n_scored"),
            *bootstrap.series("rate", operator.itemgetter("rate")),
            *bootstrap.per_success("energy_per_pass_j", joules),
            *bootstrap.per_success("carbon_per_pass_g", grams),
        ]
    if part.columns == _METERED:
        return [
            counts[1].alias("n_metered"),
            *bootstrap.series("energy_j", joules),
            *bootstrap.series("carbon_g", grams),
        ]
    name, other = (
        ("energy_per_token", "output_tokens")
        if part.columns == _PER_TOKEN
        else ("power_w", "e2e_s")
    )
    return bootstrap.series(name, lambda m: sample.per(m["energy_j"], m[other]))

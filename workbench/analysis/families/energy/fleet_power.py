"""Fleet power: megawatts for a number of queries per day at measured joules per query."""

import operator
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.options import ERRORS, LEVEL, RESAMPLES, SHARED
from workbench.analysis.core.result import Answer
from workbench.analysis.inputs import energy_coverage, sample
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.schema import KEY_NULL, Column

_NOT = "not measured"
_NULL_IF_FEW = "fewer than two items, or not measured"
_ROWS = (
    Column("n_items", "int", "count", "Items with a trace that did not fail.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces that did not fail.", KEY_NULL, "traces"),
    Column("n_metered", "int", "count", "Those whose energy is known.", KEY_NULL, "with energy"),
    *ends(
        Column(
            "query_wh",
            "float",
            "Wh",
            "Mean energy of a trace, at the device.",
            _NOT,
            "energy per query",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "power_mw",
            "float",
            "MW",
            "Mean power of the fleet: energy per query × queries per day / 24 h × PUE.",
            _NOT,
            "fleet power",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "daily_gwh", "float", "GWh", "Energy of the fleet in a day.", _NOT, "energy per day"
        ),
        _NULL_IF_FEW,
    ),
    Column(
        "times_least",
        "float",
        doc="Power over that of the group with the least (of its task).",
        null=_NOT,
        title="times the least",
    ),
    *ends(
        Column(
            "daily_cost_usd",
            "float",
            "USD",
            "Energy per day at the price given.",
            "not measured, or no price given",
            "electricity per day",
        ),
        "fewer than two items, not measured, or no price given",
    ),
)
_JOULES_PER_WH = 3600.0


@analysis(
    name="fleet-power",
    title="Fleet power",
    question="How many megawatts if the whole day's queries were answered like this?",
    source="Kim et al. 2025, The Cost of Dynamic Reasoning, arXiv 2506.04301 (section VI)",
    needs=("item_id",),
    measures=("energy_j",),
    scored=False,
    options=(
        Option(
            "queries_per_day", "float", 71.4e6, "queries that the fleet answers in a day", low=0
        ),
        Option("pue", "float", 1.0, "power usage effectiveness: facility over device", low=1),
        Option("usd_per_kwh", "float", None, "price of electricity; no cost if open", low=0),
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=_ROWS,
    by_hand={
        "queries_per_day": 86_400_000,
        "usd_per_kwh": 0.1,
        "worked": "86.4 million queries a day are 1,000 a second: at 1,000 "
        "J each (the thinker) that "
        "is 1 MW, or 24 MWh a"
        " day, which cost $2,400.",
    },
    chart=ChartSpec("fleet_power", x="power_mw", y="group"),
)
def fleet_power(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Scale the energy of a trace up to a fleet, the least power first, per task if `by` names it.

    Grain: one row per group; groups without a meter have a row of unknowns. A trace stands for a
    query: P = (Wh per query) × (queries per day / 24 h) × PUE. With PUE 1, as in the paper, the
    figure is of what the meter sees (there the GPUs alone) and leaves cooling, network and storage
    out. Nothing is gained or lost by scale: batching, idle machines and peaks over the mean are not
    modelled. Mean of the items' means; failed traces are left out, or count with their energy with
    `errors_as_wrong`. Intervals: expanded percentile bootstrap of item clusters. The default of
    71.4 million a day is the paper's figure for a service of today; it also looks at 13.7 billion,
    the searches of a day.
    """
    items = reduce_items(
        frame, by, ("energy_j",), scored=False, errors_as_wrong=options["errors_as_wrong"]
    )
    built = build(items, shared=options["shared"])
    table = sample.tabulate(built, by, _ROWS, lambda panel: _rows(panel, rng, options))
    first = ["task"] if "task" in by else []
    table = table.sort(*first, "power_mw", *by, nulls_last=True)
    silent = int(table["n"].sum()) - int(table["n_metered"].sum())
    notes = (*energy_coverage.notes(table, by), *built.notes)
    return Answer(table, dropped=built.dropped | {"traces without energy_j": silent}, notes=notes)


def _rows(panel: Panel, rng: np.random.Generator, options: dict[str, Any]) -> list[pl.Series]:
    bootstrap = sample.draw(panel, {"wh": panel.measure("energy_j") / _JOULES_PER_WH}, rng, options)
    per_day = options["queries_per_day"] * options["pue"]
    price = np.nan if options["usd_per_kwh"] is None else options["usd_per_kwh"]
    power = bootstrap.means["wh"] * per_day
    least = np.nanmin(power) if np.isfinite(power).any() else np.nan
    metered = np.nansum(panel.matrix("energy_j_known"), axis=0)
    return [
        *sample.counts(panel),
        pl.Series("n_metered", metered).cast(pl.Int64),
        *bootstrap.series("query_wh", operator.itemgetter("wh")),
        *bootstrap.series("power_mw", lambda m: m["wh"] * per_day / 24 / 1e6),
        *bootstrap.series("daily_gwh", lambda m: m["wh"] * per_day / 1e9),
        pl.Series("times_least", sample.per(power, np.asarray(least))).fill_nan(None),
        *bootstrap.series("daily_cost_usd", lambda m: m["wh"] * per_day / 1000 * price),
    ]

"""Token production of a facility: its ceiling by arithmetic and by electricity."""

from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench import hardware
from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.options import ERRORS, LEVEL, OUTCOME, RESAMPLES, SHARED
from workbench.analysis.core.result import Answer
from workbench.analysis.inputs import model_shapes, sample
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats.arrays import Floats
from workbench.schema import KEY_NULL, Column

_NULL_IF_FEW = "fewer than two items, not measured, or the figure was given"
_NOT = "neither measured nor given"
_ROWS = (
    Column("n_items", "int", "count", "Items with a trace that counts.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces that count.", KEY_NULL, "traces"),
    Column(
        "n_metered",
        "int",
        "count",
        "Those whose energy and output tokens are known.",
        KEY_NULL,
        "with energy and tokens",
    ),
    *ends(
        Column(
            "joules_per_token",
            "float",
            "J/token",
            "Energy of an output token at the device.",
            _NOT,
            "energy per token",
        ),
        _NULL_IF_FEW,
    ),
    Column(
        "flops_per_token",
        "float",
        "FLOP/token",
        "Arithmetic of an output token: twice the parameters that it meets.",
        "no parameters known of the model, and none given",
        "arithmetic per token",
    ),
    Column(
        "compute_ceiling",
        "float",
        "tokens/s",
        "Tokens that the accelerators' arithmetic allows.",
        "arithmetic per token, or the accelerator's peak, is not known",
        "ceiling of arithmetic",
    ),
    *ends(
        Column(
            "power_ceiling",
            "float",
            "tokens/s",
            "Tokens that the electricity allows.",
            _NOT,
            "ceiling of power",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "token_rate",
            "float",
            "tokens/s",
            "The lower of the ceilings that are known.",
            "neither is known",
            "tokens per second",
        ),
        _NULL_IF_FEW,
    ),
    Column(
        "binding",
        "text",
        doc="What it runs out of first: compute, power or cooling.",
        null="only one ceiling is known",
    ),
    Column(
        "crossover_j",
        "float",
        "J",
        "Energy per token at which the two ceilings meet: below it arithmetic is what binds.",
        "no ceiling of arithmetic",
        "crossover",
    ),
    Column(
        "facility_joules_per_token",
        "float",
        "J/token",
        "Energy per token × PUE.",
        _NOT,
        "facility energy per token",
    ),
    Column(
        "usd_per_mtok",
        "float",
        "USD/Mtok",
        "Electricity of a million tokens.",
        "energy per token, or the price, is not known",
        "electricity per million tokens",
    ),
    Column("rate", "float", "0..1", "Accuracy of the scored traces.", "none scored", "accuracy"),
    Column("latency_s", "float", "s", "Mean time of a trace.", "not measured", "time"),
    Column(
        "right_rate",
        "float",
        "1/s",
        "Right answers a second: tokens per second over mean output tokens × accuracy.",
        "tokens or accuracy unknown",
        "right answers per second",
    ),
)
_MEASURES = ("energy_j", "metered_tokens", "output_tokens", "e2e_s")


@analysis(
    name="token-production",
    title="Token production",
    question="How many tokens a second does a facility make, and is it arithmetic or power that "
    "binds?",
    source="Energy-to-token production, arXiv 2605.11733: its equation was not seen; the minimum "
    "of two ceilings is derived here from its abstract",
    needs=("item_id",),
    measures=("energy_j", "output_tokens", "e2e_s"),
    scored=False,
    options=(
        Option("facility_w", "float", 1e6, "power that the facility draws, in watts", low=0),
        Option("pue", "float", 1.25, "power usage effectiveness: facility over IT", low=1),
        Option(
            "cooling_w",
            "float",
            None,
            "heat that can be carried away, in watts; no ceiling if open",
            low=0,
        ),
        Option("accelerator", "text", "H100-SXM5-80GB", "which accelerator it runs"),
        Option(
            "n_accelerators",
            "float",
            None,
            "how many; as many as the IT power feeds at their TDP if open",
            low=0,
        ),
        Option(
            "compute_share",
            "float",
            0.4,
            "share of peak arithmetic that is attained",
            low=0,
            high=1,
        ),
        Option(
            "power_share",
            "float",
            1.0,
            "share of the IT power that goes into tokens; 1 where J/token was measured under load",
            low=0,
            high=1,
        ),
        Option(
            "joules_per_token",
            "float",
            None,
            "energy of an output token, in place of what was measured",
            low=0,
        ),
        Option(
            "flops_per_token",
            "float",
            None,
            "arithmetic of an output token, in place of twice the parameters",
            low=0,
        ),
        Option("usd_per_kwh", "float", None, "price of electricity; no cost if open", low=0),
        model_shapes.SHAPE,
        model_shapes.REFERENCE,
        OUTCOME,
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=_ROWS,
    example={"by": ("model",), "joules_per_token": 0.5, "usd_per_kwh": 0.1},
    by_hand={
        "usd_per_kwh": 0.1,
        "worked": "1 MW with a PUE of 1.25 leaves 800 kW; at 1,000 J for 800 tokens, 1.25 J each, "
        "they make 640,000 tokens a"
        " second.",
    },
    chart=ChartSpec(
        "figures", x="token_rate", y="group", also=("compute_ceiling", "power_ceiling")
    ),
)
def token_production(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compute the two ceilings on a facility's tokens and the lower one, most tokens first.

    Results are per task if `by` names the task.

    Grain: one row per group. Tokens/s = min(U_c · C / φ, U_e · P / ε): C the peak FLOP/s of all
    accelerators, φ FLOP per token, U_c the share of the peak that is attained; P = facility power /
    PUE (or what can be cooled, if that is less), ε joules per token at the device, U_e the share of
    P that makes tokens. Each share is applied once: where ε was measured under load it holds the
    idle losses, and `power_share` stays 1. The two ceilings meet at ε = P · φ · U_e / (U_c · C).

    ε is mean energy over mean output tokens of the traces that have both (prefill is absorbed),
    independent of the method of the energy; or `joules_per_token`. φ is twice the parameters that a
    token meets, from the reference rows: attention over long contexts comes on top and is left out;
    or `flops_per_token`. Where only one ceiling is known it is given, and nothing is said to bind.
    Intervals: expanded percentile bootstrap of item clusters, of ε alone; the rest is taken as
    given.
    """
    shapes = model_shapes.of_traces(frame, options, (lambda s: s.active,))
    groups = model_shapes.of_groups(frame, [c for c in by if c != "task"] or by, shapes)
    present = frame.collect_schema().names()
    tokens = nw.lit(None, nw.Float64)
    if {"energy_j", "output_tokens"} <= set(present):
        known = ~nw.col("energy_j").is_null()
        tokens = nw.when(known).then(nw.col("output_tokens").cast(nw.Float64))
        # joules of traces without tokens must not enter the ratio
        whole = nw.when(~nw.col("output_tokens").is_null()).then(nw.col("energy_j"))
        frame = frame.with_columns(energy_j=whole.cast(nw.Float64))
    items = reduce_items(
        frame.with_columns(metered_tokens=tokens),
        by,
        _MEASURES,
        scored=False,
        outcome=options["outcome"],
        errors_as_wrong=options["errors_as_wrong"],
    )
    built = build(items, shared=options["shared"])
    site = _Site(options)
    table = sample.tabulate(built, by, _ROWS, lambda p: _rows(p, site, groups, rng, options))
    first = ["task"] if "task" in by else []
    down = [False] * len(first) + [True] + [False] * len(by)
    table = table.sort(*first, "token_rate", *by, descending=down, nulls_last=True)
    notes = _notes(table, shapes, site, options)
    silent = int(table["n"].sum()) - int(table["n_metered"].sum())
    lost = (
        {}
        if options["joules_per_token"] is not None
        else {"traces without energy_j or output_tokens": silent}
    )
    return Answer(table, dropped=built.dropped | lost, notes=(*built.notes, *notes))


class _Site:
    """The facility: watts that make tokens, what bounds them, and FLOP/s."""

    def __init__(self, options: dict[str, Any]) -> None:
        row = hardware.in_force(options["reference"]).accelerator(options["accelerator"])
        power = options["facility_w"] / options["pue"]
        cooled = options["cooling_w"]
        self.bound = "cooling" if cooled is not None and cooled < power else "power"
        self.it_w: float = cooled if self.bound == "cooling" else power
        count = options["n_accelerators"]
        if count is None and row.tdp_w:
            count = self.it_w // row.tdp_w
        self.n_accelerators = count
        known = count is not None and row.peak_flops is not None
        self.peak_flops = count * row.peak_flops if known and row.peak_flops else float("nan")


def _rows(
    panel: Panel,
    site: _Site,
    groups: Mapping[str, hardware.Model],
    rng: np.random.Generator,
    options: dict[str, Any],
) -> list[pl.Series]:
    values = {m: panel.measure(m) for m in _MEASURES} | {"rate": panel.outcome()}
    bootstrap = sample.draw(panel, values, rng, options)
    given = options["joules_per_token"]

    def joules(means: sample.Means) -> Floats:
        measured = sample.per(means["energy_j"], means["metered_tokens"])
        return measured if given is None else np.full_like(measured, given)

    def power(means: sample.Means) -> Floats:
        return sample.per(np.asarray(options["power_share"] * site.it_w), joules(means))

    flops = np.array([_flops(groups.get(name), options) for name in panel.labels])
    compute = sample.per(np.asarray(options["compute_share"] * site.peak_flops), flops)
    tokens = bootstrap.means["output_tokens"]
    production = np.fmin(power(bootstrap.means), compute)
    price = np.nan if options["usd_per_kwh"] is None else options["usd_per_kwh"]
    at_facility = joules(bootstrap.means) * options["pue"]
    series = [
        *bootstrap.series("joules_per_token", joules),
        pl.Series("flops_per_token", flops),
        pl.Series("compute_ceiling", compute),
        *bootstrap.series("power_ceiling", power),
        *bootstrap.series("token_rate", lambda m: np.fmin(power(m), compute)),
        pl.Series("binding", _binding(power(bootstrap.means), compute, site.bound), pl.String),
        pl.Series(
            "crossover_j", sample.per(np.asarray(options["power_share"] * site.it_w), compute)
        ),
        pl.Series("facility_joules_per_token", at_facility),
        pl.Series("usd_per_mtok", at_facility / 3.6e6 * price * 1e6),
        pl.Series("rate", bootstrap.means["rate"]),
        pl.Series("latency_s", bootstrap.means["e2e_s"]),
        pl.Series("right_rate", sample.per(production * bootstrap.means["rate"], tokens)),
    ]
    metered = np.nansum(panel.matrix("metered_tokens_known"), axis=0)
    head = [*sample.counts(panel), pl.Series("n_metered", metered).cast(pl.Int64)]
    plain = [s.fill_nan(None) if s.dtype == pl.Float64 else s for s in series]
    return [*head, *(plain if given is None else sample.without_ends(plain))]


def _flops(shape: hardware.Model | None, options: dict[str, Any]) -> float:
    if options["flops_per_token"] is not None:
        return float(options["flops_per_token"])
    return 2.0 * shape.active if shape is not None and shape.active else float("nan")


def _binding(power: Floats, compute: Floats, bound: str) -> list[str | None]:
    """Name the lower ceiling; None where one is not known."""
    return [
        None if np.isnan(p + c) else bound if p <= c else "compute"
        for p, c in zip(power.tolist(), compute.tolist(), strict=True)
    ]


def _notes(
    table: pl.DataFrame, shapes: model_shapes.Shapes, site: _Site, options: dict[str, Any]
) -> tuple[str, ...]:
    if table.is_empty():
        return ()
    notes = []
    if site.n_accelerators is not None and options["n_accelerators"] is None:
        notes.append(f"{site.n_accelerators:,.0f} accelerators, as many as {site.it_w:,.0f} W feed")
    if np.isnan(site.peak_flops):
        notes.append(f"no ceiling of arithmetic: the peak of {options['accelerator']} is not known")
    if table["joules_per_token"].null_count():
        notes.append(
            "energy per token is not measured for all: only the ceiling of arithmetic is "
            "given there; "
            "give joules_per_token, or traces with energy"
        )
    if options["flops_per_token"] is None:
        notes += shapes.notes("parameters")
    return tuple(notes)

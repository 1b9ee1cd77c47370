"""Energy by phase, device and method, per token of the phase."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS_OR_UNKNOWN
from workbench.analysis.core.options import ERRORS, LEVEL, RESAMPLES, SHARED
from workbench.analysis.core.result import Answer
from workbench.analysis.inputs import energy_coverage, sample
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats.arrays import Floats
from workbench.schema import APART, KEY_NULL, Column

_NOT = "energy or tokens of the phase unknown, or none"
_KEYS = (
    Column("phase", "text", doc="prefill, thinking, answer or tool_wait.", null="the whole call"),
    Column("device", "text", doc="Which device.", null="the frame does not tell devices apart"),
    Column(
        "method",
        "text",
        doc="How the energy was found: measured, apportioned, reported or estimated.",
        null="the frame does not say",
    ),
)
_ROWS = (
    Column("n_items", "int", "count", "Items with a reading.", KEY_NULL, "items"),
    Column("n", "int", "count", "Readings: one per call.", KEY_NULL, "readings"),
    Column(
        "n_metered",
        "int",
        "count",
        "Those whose energy and tokens of the phase are known.",
        KEY_NULL,
        "with energy and tokens",
    ),
    Column(
        "tokens",
        "text",
        doc="Which tokens the phase is divided by.",
        null="a wait has none",
        title="per",
    ),
    *ends(
        Column(
            "energy_per_token",
            "float",
            "J/token",
            "Energy of the phase over its tokens: all calls together.",
            _NOT,
            "energy per token of the phase",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
    Column(
        "full_per_token",
        "float",
        "J/token",
        "The same with the share of idle power.",
        "idle not known, or estimated",
        "energy per token with idle",
    ),
    Column(
        "range_low",
        "float",
        "J/token",
        "Lower end of what the method itself leaves open.",
        "it gives no range",
        "range of the method, low",
    ),
    Column(
        "range_high",
        "float",
        "J/token",
        "Upper end of it.",
        "it gives no range",
        "range of the method, high",
    ),
    *ends(
        Column(
            "energy_per_call_j",
            "float",
            "J",
            "Mean energy of the phase in a call.",
            "energy unknown",
            "energy per call",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
    Column(
        "share",
        "float",
        "0..1",
        "Part of the energy of the group's phases, on the device and by the method.",
        "energy unknown",
    ),
)
_TOGETHER = (Column("n_devices", "int", "count", "Devices added up.", KEY_NULL, "devices"),)
_TOKENS = {
    "prefill": "input_tokens",
    "thinking": "reasoning_tokens",
    "answer": "visible_tokens",
}
_ENERGIES = ("energy_j", "full_j", "low_j", "high_j")
_MEASURES = ("alone_j", "own_j", "own_tokens", "full", "full_tokens", "low", "high", "range_tokens")


@analysis(
    name="energy-by-phase",
    title="Energy by phase",
    question="How many joules does a thinking token take, a prompt token, a visible one, on which "
    "device, found by which method?",
    source="Energy of calls as recorded by phase and device; ratio of sums with a clustered "
    "bootstrap (Efron 1979)",
    needs=("item_id",),
    measures=("energy_j",),
    scored=False,
    options=(
        Option("judges", "flag", default=False, help="count the calls that only grade, too"),
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_KEYS, *_ROWS, *_TOGETHER),
    rows="energy_facts",
    by_hand={
        "where": "model:made-up-thinker,made-up-terse",
        "worked": "Two requests share 200 W above idle, 100 W each: 2 s of prefill are 200 J over "
        "1,000 prompt tokens,"
        " and at 100 tokens a second each token takes 1 J, thinking or visible; half of 100 "
        "W idle comes on top."
        " Terse is behind an API: an estimate of 2 J a token, between 1 and 4.",
    },
    chart=ChartSpec("energy_by_phase", x="energy_per_token", y="group"),
)
def energy_by_phase(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Divide the energy of each phase by the phase's tokens, the least per thinking token first.

    Results are per task if `by` names the task.

    Grain: one row per group, phase, device and method; methods are never added up, nor averaged,
    and where a group has several the notes say so. `more["together"]`: the same over all devices,
    where all have a reading of as many calls. Prefill is divided by input tokens (cached ones
    included), thinking by thinking tokens, the answer by visible ones, a whole call (null) by
    output tokens; a wait for a tool has none.

    Energy per token is the sum over the calls of which both are known over the sum of their tokens:
    calls weigh by their tokens. It is above idle where it was measured; `full_per_token` adds the
    share of idle. The range is the sum of the lower (upper) ends that the method gives itself, as
    estimates do; the interval is the spread over items: a expanded percentile bootstrap of their
    clusters. Both are to be read. Failed traces are left out.
    """
    keys = [*by, *(c.name for c in _KEYS if c.name not in by)]
    rows = _rows(frame, options)
    items = reduce_items(
        rows, keys, _MEASURES, scored=False, errors_as_wrong=options["errors_as_wrong"]
    )
    built = build(items, shared=options["shared"])
    table = sample.tabulate(built, keys, _ROWS, lambda p: _figures(p, rng, options))
    table = _ordered(table, by)
    together = _together(table, by)
    silent = int(table["n"].sum()) - int(table["n_metered"].sum())
    dropped = built.dropped | {"readings without energy or tokens of their phase": silent}
    phased = "phase" in frame.collect_schema().names()
    return Answer(
        table,
        more={"together": together} if table.height else {},
        dropped=dropped,
        notes=(*built.notes, *_notes(table, by, phased=phased)),
    )


def _rows(frame: "nw.LazyFrame[Any]", options: dict[str, Any]) -> "nw.LazyFrame[Any]":
    """Add the sums behind the figures as columns, each over the readings that have both parts."""
    present = set(frame.collect_schema().names())
    numbers = (*_ENERGIES, "input_tokens", "output_tokens", "reasoning_tokens")
    absent: dict[str, Any] = dict.fromkeys(numbers, nw.Float64)
    absent |= dict.fromkeys((c.name for c in _KEYS), nw.String)
    missing = {c: nw.lit(None, t) for c, t in absent.items() if c not in present}
    frame = frame.with_columns(**missing) if missing else frame
    if "role" in present and not options["judges"]:
        frame = frame.filter(~nw.col("role").is_in(APART) | nw.col("role").is_null())
    if "trace_error_type" in present and "error_type" not in present:
        frame = frame.with_columns(error_type=nw.col("trace_error_type"))
    whole, low, high = (nw.col(c).cast(nw.Float64) for c in ("energy_j", "low_j", "high_j"))
    full = nw.col("full_j").cast(nw.Float64)
    tokens = _tokens()
    both = _both(whole, tokens)
    with_idle = _both(full, tokens)
    ranged = _both(low, tokens) & ~high.is_null()
    return frame.with_columns(
        alone_j=whole,
        own_j=nw.when(both).then(whole),
        own_tokens=nw.when(both).then(tokens),
        full=nw.when(with_idle).then(full),
        full_tokens=nw.when(with_idle).then(tokens),
        low=nw.when(ranged).then(low),
        high=nw.when(ranged).then(high),
        range_tokens=nw.when(ranged).then(tokens),
    )


def _both(energy: nw.Expr, tokens: nw.Expr) -> nw.Expr:
    return ~(energy.is_null() | tokens.is_null())


def _tokens() -> nw.Expr:
    """The tokens that a reading's phase is about."""
    prompt, output, thinking = (
        nw.col(c).cast(nw.Float64) for c in ("input_tokens", "output_tokens", "reasoning_tokens")
    )
    phase = nw.col("phase")
    phase_tokens: nw.Expr = nw.when(phase == "answer").then(output - thinking.fill_null(0.0))
    for name, tokens in (("thinking", thinking), ("prefill", prompt)):
        phase_tokens = nw.when(phase == name).then(tokens).otherwise(phase_tokens)
    return nw.when(phase.is_null()).then(output).otherwise(phase_tokens)


def _figures(panel: Panel, rng: np.random.Generator, options: dict[str, Any]) -> list[pl.Series]:
    values = {m: panel.matrix(f"{m}_sum") for m in _MEASURES}
    values["alone"] = np.where(np.isnan(values["alone_j"]), np.nan, panel.matrix("alone_j_known"))
    bootstrap = sample.draw(panel, values, rng, options)
    means = bootstrap.means
    both = np.nansum(panel.matrix("own_j_known"), axis=0)
    named = [None if p is None else _TOKENS.get(p) for p in panel.groups["phase"].to_list()]
    whole = panel.groups["phase"].is_null().to_list()
    tokens = ["output_tokens" if w else name for w, name in zip(whole, named, strict=True)]
    bare = {
        "full_per_token": sample.per(means["full"], means["full_tokens"]),
        "range_low": sample.per(means["low"], means["range_tokens"]),
        "range_high": sample.per(means["high"], means["range_tokens"]),
    }
    energy = np.nansum(values["alone_j"], axis=0)
    energy = np.where(np.isnan(values["alone_j"]).all(axis=0), np.nan, energy)
    return [
        *sample.counts(panel),
        pl.Series("n_metered", both).cast(pl.Int64),
        pl.Series("tokens", tokens, pl.String),
        *bootstrap.series("energy_per_token", lambda m: sample.per(m["own_j"], m["own_tokens"])),
        *(pl.Series(name, figure).fill_nan(None) for name, figure in bare.items()),
        *bootstrap.series("energy_per_call_j", lambda m: sample.per(m["alone_j"], m["alone"])),
        pl.Series("share", _shares(panel.groups, energy)).fill_nan(None),
    ]


def _shares(groups: pl.DataFrame, energy: Floats) -> Floats:
    """Energy over that of all phases of the same group, device and method."""
    others = [c for c in groups.columns if c != "phase"]
    of_all = pl.col("_energy").sum().over(others)
    known = groups.with_columns(_energy=pl.Series(energy).fill_nan(None))
    return sample.per(energy, known.select(of_all).to_series().to_numpy())


def _ordered(table: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Sort groups with the least energy per thinking token first, phases in the order of a call."""
    group_columns = [c for c in by if c != "phase"]
    order = {"prefill": 0, "thinking": 1, "answer": 2, "tool_wait": 3}
    thinking = pl.when(pl.col("phase") == "thinking").then("energy_per_token")
    rank = pl.col("phase").replace_strict(order, default=4, return_dtype=pl.Int64)
    first = thinking.min().over(group_columns) if group_columns else pl.lit(0)
    task = ["task"] if "task" in group_columns else []
    table = table.with_columns(_first=first, _phase=rank)
    return table.sort(
        *task, "_first", *group_columns, "_phase", "device", "method", nulls_last=True
    ).drop("_first", "_phase")


def _together(table: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Add the devices up; null where they have readings of different numbers of calls."""
    keys = [*(c for c in by if c != "device"), *(c for c in ("phase", "method") if c not in by)]
    alike = (pl.col("n_metered").n_unique() == 1) & (pl.col("energy_per_token").null_count() == 0)
    summed = pl.when(alike).then(pl.col("energy_per_token").sum()).alias("energy_per_token")
    return table.group_by(keys, maintain_order=True).agg(
        pl.len().cast(pl.Int64).alias("n_devices"), summed
    )


def _notes(table: pl.DataFrame, by: Sequence[str], *, phased: bool) -> tuple[str, ...]:
    if table.is_empty():
        return (f"no energy of these calls is recorded, read or estimated: {energy_coverage.NEXT}",)
    if not phased:
        return ("the frame does not tell phases, devices or methods apart: give energy_facts",)
    group_columns = [c for c in by if c != "method"]
    methods = table.group_by(group_columns).agg(pl.col("method").drop_nulls().unique().sort())
    mixed = methods.filter(pl.col("method").list.len() > 1)
    notes = []
    if mixed.height:
        names = ", ".join(sorted({name for row in mixed["method"].to_list() for name in row}))
        notes.append(
            f"energies of {mixed.height} groups were found in several ways ({names}): they "
            "stand in rows of their "
            "own and must not be averaged"
        )
    if table["n_metered"].sum() == 0:
        notes.append("no reading has both energy and tokens of its phase")
    return tuple(notes)

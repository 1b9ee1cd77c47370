"""Kinetics: cost of long thinking and repeated samples in arithmetic and memory traffic."""

import functools
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench import hardware
from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS_OR_UNKNOWN
from workbench.analysis.core.options import ERRORS, LEVEL, RESAMPLES, SHARED
from workbench.analysis.core.result import Answer, empty
from workbench.analysis.inputs import attempt_counts, calls, clustered_means, model_shapes, sample
from workbench.analysis.inputs.attempt_counts import SHORT, Attempts, attempts
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import pareto
from workbench.analysis.stats.arrays import Bools, Floats
from workbench.schema import KEY_NULL, Column

_NOT = "no shape of the model, tokens unknown, or several calls"
_ROWS = (
    Column("k", "int", "count", "Samples per item.", KEY_NULL, "samples"),
    Column(
        "n_items",
        "int",
        "count",
        "Items with enough trials for the whole curve.",
        KEY_NULL,
        "items",
    ),
    Column("n", "int", "count", "Traces on them.", KEY_NULL, "traces"),
    *ends(
        Column(
            "pass_at_k",
            "float",
            "0..1",
            "Chance that at least one of k samples passes.",
            KEY_NULL,
            "pass@k",
        ),
        "fewer than two items",
    ),
    *ends(
        Column(
            "eflops",
            "float",
            "TFLOP",
            "Mean arithmetic of k samples at an item, and the arithmetic that their memory "
            "traffic displaces.",
            _NOT,
            "equivalent FLOPs",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
    Column("compute", "float", "TFLOP", "Part of it that is arithmetic.", _NOT, "arithmetic"),
    Column(
        "memory",
        "float",
        "TFLOP",
        "Part of it that is reading keys and values.",
        _NOT,
        "memory traffic",
    ),
    Column("memory_share", "float", "0..1", "Memory traffic over eFLOPs.", _NOT, "share of memory"),
    Column(
        "cost_usd",
        "float",
        "USD",
        "Mean cost of k samples at an item.",
        "no cost known",
        "cost of k samples",
    ),
    Column(
        "on_frontier", "bool", doc="No other row has as high a pass@k for as few eFLOPs.", null=_NOT
    ),
    Column(
        "on_compute_frontier",
        "bool",
        doc="The same where arithmetic alone counts: where the two differ, memory changes the "
        "answer.",
        null=_NOT,
        title="on the frontier of arithmetic",
    ),
)
_PARTS = ("compute", "shared_memory", "own_memory")
_SUMS = (*_PARTS, "cost_usd")
_TERA = 1e12


def decode_positions(prompt: float, output: float, budget: float | None = None) -> float:
    """Positions of context that a decoding reads in all: prompt · output + output² / 2.

    With `budget` each step reads that many at most: ∫ min(budget, prompt + t) dt over the output.
    (Of the two released cost models one adds where this subtracts, which counts more than `budget`
    per step.)
    """
    whole = prompt * output + output**2 / 2
    if budget is None or prompt + output <= budget:
        return whole
    return budget * output - max(0.0, budget - prompt) ** 2 / 2


@analysis(
    name="kinetics",
    title="Kinetics",
    question="What do long thinking and many samples cost once memory traffic counts, and which "
    "groups are then on the frontier?",
    source="Sadhukhan et al. 2025, Kinetics, arXiv 2506.05333 (eFLOPs; its cost_model at af7fa57); "
    "pass@k: Chen et al. 2021",
    needs=("item_id", "output_tokens"),
    measures=("input_tokens", "output_tokens"),
    options=(
        Option(
            "k",
            "int",
            None,
            "most samples; items with fewer trials are left out. If open, what nine in ten "
            "items have",
            low=1,
        ),
        Option(
            "intensity",
            "float",
            562.5,
            "FLOP that the hardware does while it reads a byte; 562.5 is 4.5 PFLOP/s over 8 TB/s",
            low=0,
        ),
        Option(
            "accelerator",
            "text",
            None,
            "take the intensity of this accelerator instead, at 16 bits",
        ),
        Option(
            "budget_tokens",
            "float",
            None,
            "positions that a decoding step reads at most (top-k attention); all if open",
            low=1,
        ),
        model_shapes.SHAPE,
        model_shapes.REFERENCE,
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=_ROWS,
    rows="call_outcomes",
    example={"where": "strategy:think"},
    chart=ChartSpec("lines", x="eflops", y="pass_at_k"),
    settles=Settles("pass_at_k"),
)
def kinetics(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Count equivalent FLOPs of k samples and set pass@k against them, the best first sample first.

    Grain: one row per group and k, per task if `by` names it. With P the parameters that a token
    meets, H query and K key-value heads, D = head width × layers, I prompt and O output tokens, at
    16 bits: arithmetic of k samples = k (2 P O + 2 (2 I + O) O H D); memory = 2 (2 I + k O) O K D ×
    intensity, the keys and values of the prompt read once for all k samples. The weights' traffic
    is left out (large batches), so is the prompt's prefill: as in the paper. Expected values are
    means of this over the traces, not this of mean lengths. With `budget_tokens` every step reads
    that many positions at most, and the prompt is shared no more.

    A trace's model is looked up among the reference rows (its active parameters where experts take
    turns); groups whose shape or tokens are not known have nulls. The law is of a call: given calls
    (rows of `call_outcomes`) they are added up, judges apart; traces, and calls, that sum up
    several are null. pass@k is unbiased, over items with enough trials. The frontiers are over all
    rows of a task. Intervals: Wilson's with the effective number of items; of the eFLOPs expanded
    percentile bootstrap of item clusters.
    """
    shapes = model_shapes.of_traces(frame, options, _NEEDS)
    counted = _counted(frame, by, shapes, options)
    items = reduce_items(counted, by, _SUMS, errors_as_wrong=options["errors_as_wrong"])
    panels = build(items, shared=options["shared"])
    notes = panels.notes
    short = 0
    parts = []
    for task, panel in panels.parts:
        tries = attempts(panel, options["k"])
        short += tries.n_short
        rows = _frontiers(_rows(tries, rng, options))
        if task is not None:
            rows = rows.with_columns(task=pl.lit(task, pl.String))
        parts.append(rows)
        notes += tries.notes(task)
    table = pl.concat(parts).select(*by, *(c.name for c in _ROWS)) if parts else empty(by, _ROWS)
    silent = sum(int((p.rows["n"] - p.rows["compute_known"]).sum()) for _, p in panels.parts)
    dropped = panels.dropped | {SHORT: short, "traces without a shape or token counts": silent}
    shape_notes = shapes.notes("shape (layers, heads, parameters)") if table.height else ()
    summed = calls.summed(frame) if silent else ()
    return Answer(table, dropped=dropped, notes=(*notes, *shape_notes, *summed))


def _heads(shape: hardware.Model) -> float | None:
    """H · D: query heads × head width × layers."""
    if not (shape.n_heads and shape.head_width and shape.n_layers):
        return None
    return shape.n_heads * shape.head_width * shape.n_layers


def _kv_heads(shape: hardware.Model) -> float | None:
    """K · D: the same of the key-value heads; as many as query heads where none are told."""
    whole = _heads(shape)
    if whole is None or not shape.n_heads:
        return None
    return whole * (shape.n_kv_heads or shape.n_heads) / shape.n_heads


_NEEDS: tuple[model_shapes.Fact, ...] = (lambda s: s.active, _heads, _kv_heads)


def _intensity(options: dict[str, Any]) -> float:
    if options["accelerator"] is None:
        return float(options["intensity"])
    rows = hardware.in_force(options["reference"])
    return rows.accelerator(options["accelerator"]).intensity or float("nan")


def _counted(
    frame: "nw.LazyFrame[Any]",
    by: Sequence[str],
    shapes: model_shapes.Shapes,
    options: dict[str, Any],
) -> "nw.LazyFrame[Any]":
    """Add the work of every trace as columns, in TFLOP; calls are added up."""
    present = set(frame.collect_schema().names())
    needed = ("input_tokens", "output_tokens")
    frame = frame.with_columns(
        nw.lit(None, nw.Float64).alias(c) for c in needed if c not in present
    )
    prompt, out = (nw.col(c).cast(nw.Float64) for c in needed)
    of_calls = calls.is_calls(frame)
    prompt = nw.when(calls.is_alone(frame)).then(prompt)
    own = out * out / 2
    together = prompt * out
    if options["budget_tokens"] is not None:
        budget = options["budget_tokens"]
        room = nw.when(prompt < budget).then(budget - prompt).otherwise(prompt * 0.0)
        cut = out * budget - room * room / 2
        own = nw.when(prompt + out <= budget).then(together + own).otherwise(cut)
        together = together * 0.0
    params, heads, kv = (shapes.column(fact) for fact in _NEEDS)
    bytes_worth = 4 * kv * _intensity(options) / _TERA
    frame = frame.with_columns(
        compute=(2 * params * out + 4 * heads * (together + own)) / _TERA,
        shared_memory=together * bytes_worth,
        own_memory=(own + together * 0.0) * bytes_worth,
    )
    return calls.to_traces(frame, by, _SUMS) if of_calls else frame


def _rows(tries: Attempts, rng: np.random.Generator, options: dict[str, Any]) -> pl.DataFrame:
    """Average the items' curves, and what k samples take on the same items."""
    panel = tries.panel
    has_trials = np.where(np.isnan(tries.n), np.nan, 1.0)
    values = {part: panel.measure(part) * has_trials for part in _PARTS}
    bootstrap = sample.draw(panel, values, rng, options)
    unknown = pl.Series(~_whole(panel, tries))
    parts = []
    for k in tries.sizes:
        one = clustered_means.share(panel, tries.at_least_one(k), options["level"])
        work = bootstrap.series("eflops", functools.partial(_eflops, k=k))
        arithmetic = k * bootstrap.means["compute"]
        memory = _memory(bootstrap.means, k)
        figures = [
            *work,
            pl.Series("compute", arithmetic),
            pl.Series("memory", memory),
            pl.Series("memory_share", sample.per(memory, arithmetic + memory)),
        ]
        part = tries.rows(k).with_columns(
            *one.series("pass_at_k"),
            *[s.set(unknown, None).fill_nan(None) for s in figures],
        )
        parts.append(part)
    return _ordered(parts, panel)


def _ordered(parts: Sequence[pl.DataFrame], panel: Panel) -> pl.DataFrame:
    bare = [c for c in _ROWS if not c.name.startswith("on_")]
    return attempt_counts.ordered(parts, "pass_at_k", panel, bare)


def _whole(panel: Panel, tries: Attempts) -> Bools:
    """Mark the groups with a figure for every counted trace, (n_groups,)."""
    has_trials = ~np.isnan(tries.n)
    known = np.nan_to_num(panel.matrix("compute_known"))
    counted = known == np.nan_to_num(panel.matrix("n"))
    return np.asarray((counted | ~has_trials).all(axis=0))


def _memory(means: sample.Means, k: int) -> Floats:
    together: Floats = means["shared_memory"] + k * means["own_memory"]
    return together


def _eflops(means: sample.Means, k: int) -> Floats:
    whole: Floats = k * means["compute"] + _memory(means, k)
    return whole


def _frontiers(rows: pl.DataFrame) -> pl.DataFrame:
    """Mark the non-dominated rows, by eFLOPs and by arithmetic alone."""
    gain = rows["pass_at_k"].fill_null(np.nan).to_numpy()
    marks = []
    for name, cost in (("on_frontier", "eflops"), ("on_compute_frontier", "compute")):
        x = rows[cost].fill_null(np.nan).to_numpy()
        on = pl.Series(name, pareto.non_dominated(x, gain))
        marks.append(on.set(rows[cost].is_null(), None))
    return rows.with_columns(marks)

"""Prefill-token equivalents: prompts and decoding in one unit of work."""

import operator
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench import hardware
from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.options import ERRORS, LEVEL, OUTCOME, RESAMPLES, SHARED
from workbench.analysis.core.result import Answer
from workbench.analysis.inputs import calls, model_shapes, sample
from workbench.analysis.inputs.panel import Panel
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats.arrays import Floats
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

SHAPES = {"8b": (36, 4096, 8.19e9), "70b": (80, 8192, 70e9)}  # layers, width, parameters
_NOT = "token counts unknown"
_NULL_IF_FEW = "fewer than two items, or token counts unknown"
_WORK = (
    Column("n_items", "int", "count", "Items with a trace that did not fail.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces that did not fail.", KEY_NULL, "traces"),
    Column(
        "n_counted",
        "int",
        "count",
        "Those whose input and output tokens are known.",
        KEY_NULL,
        "with tokens",
    ),
    Column(
        "n_approximate",
        "int",
        "count",
        "Those of them with several calls of which only the totals are known.",
        KEY_NULL,
        "from totals alone",
    ),
    *ends(
        Column(
            "pte",
            "float",
            "PTE",
            "Mean prefill-token equivalents of a trace.",
            _NOT,
            "work per trace",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column("prefill_pte", "float", "PTE", "Part of it that is prompts.", _NOT, "prompts"),
        _NULL_IF_FEW,
    ),
    *ends(
        Column("decode_pte", "float", "PTE", "Part of it that is decoding.", _NOT, "decoding"),
        _NULL_IF_FEW,
    ),
    Column(
        "r_time",
        "float",
        doc="Correlation over items of mean PTE and mean time.",
        null="fewer than three items with a time, or no spread",
        title="correlation with time",
    ),
    Column(
        "r_time_tokens",
        "float",
        doc="That of mean input + output tokens and mean time, to compare.",
        null="fewer than three items with a time, or no spread",
        title="correlation of tokens with time",
    ),
)
_PASSES = (
    Column(
        "rate",
        "float",
        "0..1",
        "Accuracy of the scored ones with tokens.",
        "none scored with tokens",
        "accuracy",
    ),
    *ends(
        Column(
            "pte_per_pass",
            "float",
            "PTE",
            "Mean PTE of the scored ones over their accuracy; infinite where nothing passed.",
            "none scored with tokens",
            "work per right answer",
        ),
        _NULL_IF_FEW,
    ),
)
_MEASURES = ("pte", "prefill_pte", "several", "all_tokens", "e2e_s")


def gamma(
    n_layers: float,
    d_model: float,
    n_params: float,
    hoi: float,
    *,
    kv_share: float = 1.0,
    kv_bytes: float = 2.0,
) -> float:
    """Cost of one cached token for a decode step, in prefill tokens.

    γ = 2 · layers · width · HOI / parameters: reading the 4 · layers · width bytes of a token's
    keys and values takes the time of that many · HOI operations, of which a prefill token needs
    twice the parameters. Grouped-query attention keeps `kv_share` of the heads, other formats
    `kv_bytes` of 2.
    """
    return 2 * n_layers * d_model * hoi / n_params * kv_share * kv_bytes / 2


@analysis(
    name="pte",
    title="Prefill-token equivalents",
    question="How much work is a trace, whatever the hardware: prompts and decoding in one unit?",
    source="arXiv 2604.05404 (PTE and γ, from a summary; the constant is derived independently)",
    needs=("item_id", "output_tokens"),
    measures=("input_tokens", "output_tokens", "e2e_s"),
    require=("input_tokens", "output_tokens"),
    scored=False,
    options=(
        Option(
            "shape",
            "choice",
            "8b",
            "layers, width and parameters where not given: 36 × 4096, 8.19e9 or 80 × 8192, 70e9",
            choices=tuple(SHAPES),
        ),
        Option(
            "model",
            "text",
            None,
            "take shape and share of key-value heads of this model of the reference rows "
            "instead: Qwen3-8B",
        ),
        Option(
            "accelerator",
            "text",
            None,
            "take hoi of this accelerator of the reference rows instead",
        ),
        model_shapes.REFERENCE,
        Option("n_layers", "float", None, "layers of the model", low=1),
        Option("d_model", "float", None, "width of the model", low=1),
        Option(
            "n_params",
            "float",
            None,
            "parameters of the model, of a mixture the active ones",
            low=1,
        ),
        Option(
            "hoi",
            "float",
            295.0,
            "peak FLOP/s over memory bytes/s; 295 is an H100 at 16 bits",
            low=0,
        ),
        Option("kv_share", "float", 1.0, "key-value heads over heads", low=0, high=1),
        Option("kv_bytes", "float", 2.0, "bytes per cached number", low=0),
        Option("gamma", "float", None, "γ itself; then shape and hoi do not count", low=0),
        Option(
            "length",
            "choice",
            "end",
            "where in a call the context is read",
            choices=("end", "mean", "start"),
        ),
        Option(
            "keep_cache", "flag", default=False, help="prompt tokens read from a cache cost nothing"
        ),
        OUTCOME,
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_WORK, *_PASSES),
    rows="call_outcomes",
    chart=ChartSpec("pte", x="pte", y="group"),
)
def pte(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Count the work of traces in prefill-token equivalents, least first.

    Results are per task if `by` names the task.

    Grain: one row per group. PTE = Σ over calls (prompt + γ · L · output), γ as in `gamma`, L the
    context while decoding: prompt + output at the call's end, half of the output at its mean, none
    at its start (the source leaves open which; `length`). The whole prompt of every call counts, as
    if the cache were lost at each tool's pause; with `keep_cache` the part read from a cache does
    not. It assumes 16-bit multi-head attention unless `kv_share` and `kv_bytes` say otherwise, and
    leaves the reading of the weights out.

    Given calls (rows of `call_outcomes`) the sum is exact, judges' calls apart. Given traces it is
    exact for a single call; of several only the totals I and O are known, and L · output is taken
    as (I + O) · O / calls, as if they had decoded alike (`n_approximate` counts them). So it is for
    a call that sums up several requests, as a table of runs of many turns gives them. One shape
    holds for all groups: compare groups of one model, or the work as if they were. Trials are
    averaged within their item. Intervals: expanded percentile bootstrap of item clusters.
    """
    weight = _gamma(options)
    counted = _counted(frame, by, weight, options)
    source = sample.Source(counted, tuple(by), _MEASURES, rng, options)
    everything = source.built((), scored=False)
    scored = source.built(("pte",), scored=True)
    table = sample.tabulate(everything, by, _WORK, lambda p: _work(p, rng, options))
    passes = sample.tabulate(scored, by, _PASSES, lambda p: _passes(p, rng, options))
    table = table.join(passes, on=list(by), how="left", nulls_equal=True)
    first = ["task"] if "task" in by else []
    table = table.sort(*first, "pte", *by, nulls_last=True)
    silent = int(table["n"].sum()) - int(table["n_counted"].sum())
    rough = int(table["n_approximate"].sum())
    rest = (
        "of their requests nothing else was recorded"
        if calls.is_calls(frame)
        else "give call_facts"
    )
    notes = (f"{rough} traces of several calls are counted from totals: {rest}",) * bool(rough)
    dropped = everything.dropped | {"traces without input_tokens or output_tokens": silent}
    return Answer(table, dropped=dropped, notes=(*everything.notes, f"γ = {weight:.6g}", *notes))


def _gamma(options: dict[str, Any]) -> float:
    if options["gamma"] is not None:
        return float(options["gamma"])
    rows = hardware.in_force(options["reference"])
    shape: tuple[float, float, float] = SHAPES[options["shape"]]
    share = options["kv_share"]
    if options["model"] is not None:
        shape, share = _shape(rows.model(options["model"]))
    hoi = options["hoi"]
    if options["accelerator"] is not None:
        hoi = rows.accelerator(options["accelerator"]).intensity
        if hoi is None:
            raise AnalysisError(
                f"peak or bandwidth of {options['accelerator']} is not known; give hoi"
            )
    given = (options["n_layers"], options["d_model"], options["n_params"])
    layers, width, params = (g or s for g, s in zip(given, shape, strict=True))
    return gamma(layers, width, params, hoi, kv_share=share, kv_bytes=options["kv_bytes"])


def _shape(row: hardware.Model) -> tuple[tuple[float, float, float], float]:
    """Layers, width of all heads, active parameters and share of key-value heads of a model."""
    if not (row.n_layers and row.n_heads and row.head_width and row.active):
        raise AnalysisError(
            f"the shape of {row.model} is not known; give n_layers, d_model, n_params"
        )
    share = (row.n_kv_heads or row.n_heads) / row.n_heads
    return (row.n_layers, row.n_heads * row.head_width, row.active), share


def _counted(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], weight: float, options: dict[str, Any]
) -> "nw.LazyFrame[Any]":
    """Add the work of every trace as columns; calls are added up."""
    needed = ("input_tokens", "output_tokens", "cache_read_tokens")
    present = set(frame.collect_schema().names())
    frame = frame.with_columns(
        nw.lit(None, nw.Float64).alias(c) for c in needed if c not in present
    )
    prompt, out = (nw.col(c).cast(nw.Float64) for c in needed[:2])
    of_calls = calls.is_calls(frame)
    several = calls.requests(frame).fill_null(1.0)
    context = prompt + out * {"end": 1.0, "mean": 0.5, "start": 0.0}[options["length"]]
    fresh = prompt
    if options["keep_cache"]:
        fresh = prompt - nw.col("cache_read_tokens").cast(nw.Float64).fill_null(0.0)
    known = ~(nw.col("input_tokens").is_null() | nw.col("output_tokens").is_null())
    frame = frame.with_columns(
        pte=fresh + weight * context * out / several,
        prefill_pte=nw.when(known).then(fresh),
        several=nw.when(known).then(nw.when(several > 1).then(nw.lit(1.0)).otherwise(nw.lit(0.0))),
        all_tokens=prompt + out,
    )
    if not of_calls:
        return frame
    traces = calls.to_traces(frame, by, _MEASURES)
    rough = nw.when(nw.col("several") > 0).then(nw.lit(1.0)).otherwise(nw.col("several"))
    return traces.with_columns(several=rough)


def _work(panel: Panel, rng: np.random.Generator, options: dict[str, Any]) -> list[pl.Series]:
    values = {m: panel.measure(m) for m in ("pte", "prefill_pte")}
    bootstrap = sample.draw(panel, values, rng, options)
    counted, several = (np.nansum(panel.matrix(c), axis=0) for c in ("pte_known", "several_sum"))
    time = panel.measure("e2e_s")
    return [
        *sample.counts(panel),
        pl.Series("n_counted", counted).cast(pl.Int64),
        pl.Series("n_approximate", several).cast(pl.Int64),
        *bootstrap.series("pte", operator.itemgetter("pte")),
        *bootstrap.series("prefill_pte", operator.itemgetter("prefill_pte")),
        *bootstrap.series("decode_pte", lambda m: m["pte"] - m["prefill_pte"]),
        pl.Series("r_time", _correlation(values["pte"], time)).fill_nan(None),
        pl.Series("r_time_tokens", _correlation(panel.measure("all_tokens"), time)).fill_nan(None),
    ]


def _passes(panel: Panel, rng: np.random.Generator, options: dict[str, Any]) -> list[pl.Series]:
    values = {"pte": panel.measure("pte"), "rate": panel.outcome()}
    bootstrap = sample.draw(panel, values, rng, options)
    rate = pl.Series("rate", bootstrap.means["rate"]).fill_nan(None)
    return [rate, *bootstrap.per_success("pte_per_pass", operator.itemgetter("pte"))]


def _correlation(x: Floats, y: Floats) -> Floats:
    """Pearson's r down the items of each group; NaN below three pairs or without spread."""
    out = np.full(x.shape[1], np.nan)
    for j in range(x.shape[1]):
        both = ~(np.isnan(x[:, j]) | np.isnan(y[:, j]))
        a = x[both, j]
        b = y[both, j]
        if len(a) > 2 and np.ptp(a) > 0 and np.ptp(b) > 0:
            out[j] = np.corrcoef(a, b)[0, 1]
    return out

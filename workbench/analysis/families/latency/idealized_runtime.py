"""Idealized runtime of a model on uniform hardware without contention."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis, unknown_name
from workbench.analysis.core.null_reasons import FEW_ITEMS_OR_UNKNOWN
from workbench.analysis.core.options import ERRORS, LEVEL, RESAMPLES, SHARED
from workbench.analysis.core.result import Answer
from workbench.analysis.inputs import calls, runtime_coefficients, sample
from workbench.analysis.inputs.panel import Panel
from workbench.analysis.inputs.sample import ends
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_NOT = "no coefficients, tokens unknown, or several calls"
_TIME = "runtime or measured time unknown"
_ALL = (
    Column("n_items", "int", "count", "Items with a trace that did not fail.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces that did not fail.", KEY_NULL, "traces"),
    Column(
        "n_modelled",
        "int",
        "count",
        "Those whose runtime the coefficients give.",
        KEY_NULL,
        "modelled",
    ),
    *ends(
        Column(
            "runtime_s",
            "float",
            "s",
            "Mean runtime of a trace that the coefficients give.",
            _NOT,
            "runtime",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
    *ends(
        Column(
            "runtime_cost_usd",
            "float",
            "USD",
            "Mean runtime × accelerators × their price.",
            "no runtime, number of accelerators or price",
            "cost on the hardware",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
    *ends(
        Column(
            "runtime_energy_j",
            "float",
            "J",
            "Mean runtime × accelerators × their power.",
            "no runtime, number of accelerators or power",
            "energy on the hardware",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
)
_BOTH = (
    *ends(
        Column(
            "measured_s",
            "float",
            "s",
            "Mean time measured of the traces that have both.",
            _TIME,
            "measured",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
    *ends(
        Column(
            "excess_s",
            "float",
            "s",
            "Measured minus runtime: queues, contention, network.",
            _TIME,
            "measured − runtime",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
    *ends(
        Column(
            "slowdown",
            "float",
            "",
            "Mean measured time over mean runtime.",
            _TIME,
            "measured / runtime",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
)
_MEASURES = ("runtime", "accelerator_s", "e2e_s")
_OWN = ("per_output_token_s", "prompt_s", "prompt_tokens")


@analysis(
    name="idealized-runtime",
    title="Idealized runtime",
    question="How fast would it be on uniform hardware without contention, and at what cost?",
    source="Narayanan et al. 2023, arXiv 2305.02440; coefficients of HELM (Apache-2.0)",
    needs=("item_id", "model", "output_tokens"),
    measures=("input_tokens", "output_tokens", "e2e_s"),
    require=("input_tokens", "output_tokens"),
    scored=False,
    options=(
        Option(
            "kind",
            "choice",
            "idealized",
            "uniform hardware, or the service without its noise",
            choices=("idealized", "denoised"),
        ),
        Option(
            "deployment", "text", None, "whose coefficients; those of each trace's model if open"
        ),
        Option(
            "per_output_token_s",
            "float",
            None,
            "coefficients of your own: seconds per output token",
            low=0,
        ),
        Option(
            "prompt_s", "float", None, "coefficients of your own: seconds for a prompt …", low=0
        ),
        Option(
            "prompt_tokens", "float", None, "… of so many tokens, in proportion for others", low=1
        ),
        Option(
            "n_accelerators",
            "float",
            None,
            "accelerators it runs on; those of the coefficients if open",
            low=0,
        ),
        Option(
            "accelerator_usd_per_hour",
            "float",
            None,
            "price of one accelerator; no cost if open",
            low=0,
        ),
        Option(
            "accelerator_w", "float", None, "power of one accelerator; no energy if open", low=0
        ),
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ALL, *_BOTH),
    rows="call_outcomes",
    also_rows=("call_facts",),
    by_hand={
        "per_output_token_s": 0.005,
        "prompt_s": 0.5,
        "prompt_tokens": 1000,
        "n_accelerators": 2,
        "accelerator_usd_per_hour": 3.6,
        "accelerator_w": 300,
        "worked": "Coefficients of one's own, for all models alike. The thinker's 1,000 tokens of "
        "prompt and 800 of output"
        " would take 0.5 s + 799 × 0.005 s = 4.495 s in place of 10 s; at 2 × $3.60 an hour "
        "that is $0.00899,"
        " at 2 × 300 W 2,697 J.",
    },
    chart=ChartSpec("idealized_runtime", x="runtime_s", y="group"),
)
def idealized_runtime(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Compute the runtime that token counts imply, fastest first, per task if `by` names it.

    Grain: one row per group. T(p, o) = T_prompt(p) + max(o − 1, 0) · t_out + overhead in seconds, p
    prompt and o output tokens of a call (see `runtimes`). Idealized: coefficients measured on A100s
    with Megatron, no overhead. Denoised: fitted on the service's own runtimes, with its overhead. A
    trace's model is looked up among the deployments by its whole name, or by the part after the
    slash where that is unambiguous; models without coefficients, and unknown tokens, are null and
    counted.

    The law is of a call: given calls (rows of `call_outcomes`) a trace's runtimes are added up, as
    if in sequence, judges apart; traces, and calls, that sum up several are null. Cost = T ·
    accelerators · price / 3600, energy = T · accelerators · power. Excess and slowdown are of the
    traces that have both times. Means are over items of the mean over trials; intervals: expanded
    percentile bootstrap of item clusters.
    """
    given = frame
    frame, missing = _modelled(given, by, options)
    source = sample.Source(frame, tuple(by), _MEASURES, rng, options | {"outcome": "passed"})
    every, both = (source.built(r, scored=False) for r in ((), ("runtime", "e2e_s")))
    table = sample.tabulate(every, by, _ALL, lambda panel: _rows(panel, rng, options))
    timed = sample.tabulate(both, by, _BOTH, lambda panel: _timed(panel, rng, options))
    table = table.join(timed, on=list(by), how="left", nulls_equal=True)
    first = ["task"] if "task" in by else []
    table = table.sort(*first, "runtime_s", *by, nulls_last=True)
    silent = int(table["n"].sum()) - int(table["n_modelled"].sum())
    notes = []
    if missing:
        notes.append(
            f"no {options['kind']} coefficients for {', '.join(missing[:5])}: name a "
            "deployment whose to take, or give"
            f" some of your own ({', '.join(_OWN)})"
        )
    if silent:
        notes += calls.summed(given)
    dropped = every.dropped | {"traces without coefficients or token counts": silent}
    return Answer(table, dropped=dropped, notes=(*notes, *every.notes))


def _chosen(options: dict[str, Any]) -> Mapping[str, Any] | None:
    """The coefficients that serve all traces, where the options name them."""
    coefficients = [options[name] for name in _OWN]
    if any(value is not None for value in coefficients):
        if None in coefficients:
            raise AnalysisError(f"coefficients of your own need all of {', '.join(_OWN)}")
        prompt = {str(int(coefficients[2])): coefficients[1]}
        return {options["kind"]: {"per_output_token_s": coefficients[0], "prompt_s": prompt}}
    if options["deployment"] is None:
        return None
    name = runtime_coefficients.find(options["deployment"])
    if name is None:
        raise AnalysisError(
            unknown_name("deployment", options["deployment"], runtime_coefficients.deployments())
        )
    return runtime_coefficients.deployments()[name]


def _modelled(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], options: dict[str, Any]
) -> tuple["nw.LazyFrame[Any]", list[str]]:
    """Add every trace's runtime as a column; also list the models without coefficients."""
    present = set(frame.collect_schema().names())
    absent = [c for c in ("input_tokens", "output_tokens", "e2e_s") if c not in present]
    frame = frame.with_columns(nw.lit(None, nw.Float64).alias(c) for c in absent)
    prompt, output = (nw.col(c).cast(nw.Float64) for c in ("input_tokens", "output_tokens"))
    of_calls = calls.is_calls(frame)
    prompt = nw.when(calls.is_alone(frame)).then(prompt)
    serves, missing = _assigned(frame, options)
    seconds = nw.lit(None, nw.Float64)
    hours = nw.lit(None, nw.Float64)
    for model, entry in serves.items():
        here = nw.lit(value=True) if model is None else nw.col("model") == model
        law = runtime_coefficients.law(entry[options["kind"]], prompt, output)
        seconds = nw.when(here).then(law).otherwise(seconds)
        n = options["n_accelerators"] or entry.get("n_accelerators")
        if n is not None:
            hours = nw.when(here).then(law * n).otherwise(hours)
    frame = frame.with_columns(runtime=seconds, accelerator_s=hours)
    return (calls.to_traces(frame, by, _MEASURES) if of_calls else frame), missing


def _assigned(
    frame: "nw.LazyFrame[Any]", options: dict[str, Any]
) -> tuple[dict[str | None, Mapping[str, Any]], list[str]]:
    """Coefficients by model (None: all models), and the models that have none."""
    chosen = _chosen(options)
    kind = options["kind"]
    if chosen is not None:
        if kind not in chosen:
            raise AnalysisError(
                f"{options['deployment']} has no {kind} coefficients; try the other kind"
            )
        return {None: chosen}, []
    models: pl.DataFrame = frame.select("model").unique().collect("polars").to_native()
    serves: dict[str | None, Mapping[str, Any]] = {}
    missing = []
    for model in sorted(models["model"].drop_nulls().cast(pl.String).to_list()):
        name = runtime_coefficients.find(model)
        if name is not None and kind in runtime_coefficients.deployments()[name]:
            serves[model] = runtime_coefficients.deployments()[name]
        else:
            missing.append(model)
    return serves, missing


def _rows(panel: Panel, rng: np.random.Generator, options: dict[str, Any]) -> list[pl.Series]:
    values = {m: panel.measure(m) for m in ("runtime", "accelerator_s")}
    bootstrap = sample.draw(panel, values, rng, options)
    price, power = (
        np.nan if options[name] is None else options[name] * share
        for name, share in (("accelerator_usd_per_hour", 1 / 3600), ("accelerator_w", 1.0))
    )
    known = np.nansum(panel.matrix("runtime_known"), axis=0)
    return [
        *sample.counts(panel),
        pl.Series("n_modelled", known).cast(pl.Int64),
        *bootstrap.series("runtime_s", operator.itemgetter("runtime")),
        *bootstrap.series("runtime_cost_usd", lambda m: m["accelerator_s"] * price),
        *bootstrap.series("runtime_energy_j", lambda m: m["accelerator_s"] * power),
    ]


def _timed(panel: Panel, rng: np.random.Generator, options: dict[str, Any]) -> list[pl.Series]:
    values = {m: panel.measure(m) for m in ("runtime", "e2e_s")}
    bootstrap = sample.draw(panel, values, rng, options)
    return [
        *bootstrap.series("measured_s", operator.itemgetter("e2e_s")),
        *bootstrap.series("excess_s", lambda m: m["e2e_s"] - m["runtime"]),
        *bootstrap.series("slowdown", lambda m: sample.per(m["e2e_s"], m["runtime"])),
    ]

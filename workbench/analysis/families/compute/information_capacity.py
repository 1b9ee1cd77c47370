"""Information capacity: bits that a model saves on a text, relative to its arithmetic."""

import math
import operator
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench import hardware
from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS_OR_UNKNOWN
from workbench.analysis.core.options import ERRORS, LEVEL, RESAMPLES, SHARED
from workbench.analysis.core.result import Answer
from workbench.analysis.inputs import calls, model_shapes, sample
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats.arrays import Floats
from workbench.schema import KEY_NULL, Column

BIASES = {"mixed_text": -24.0, "ch-fineweb-edu": -18.7, "other": -27.0}
_ROWS = (
    Column(
        "n_items",
        "int",
        "count",
        "Texts (items) with a trace that did not fail.",
        KEY_NULL,
        "texts",
    ),
    Column("n", "int", "count", "Traces that did not fail.", KEY_NULL, "traces"),
    Column(
        "n_logged",
        "int",
        "count",
        "Those with log probabilities and a count of tokens.",
        KEY_NULL,
        "with log probabilities",
    ),
    *ends(
        Column(
            "nll_bits",
            "float",
            "bits/token",
            "Mean over texts of the mean −log2 p of a token.",
            "no log probabilities, and none given",
            "surprise per token",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
    Column(
        "text_bits",
        "float",
        "bits/token",
        "UTF-8 bits of a token's text, mean over texts.",
        "not given, and the frame has no text_bytes",
        "size per token",
    ),
    Column(
        "flops_per_token",
        "float",
        "FLOP/token",
        "Arithmetic of decoding a token, mean over a context that fills up.",
        "no shape of the model, and none given",
        "arithmetic per token",
    ),
    *ends(
        Column(
            "capacity",
            "float",
            "",
            "(size − surprise + bias) / log2(FLOP per token).",
            "one of the three is unknown",
            "information capacity",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
)
_MEASURES = ("nll", "size")


def decode_flops(shape: hardware.Model, context: float = 1024) -> float | None:
    """Compute FLOP per decoded token, averaged over a context that fills from empty.

    None where the shape is unknown.

    layers · (4 d² + 4 d · kv width + M + 2 d (T − 1)) + 2 d · vocabulary with M = 6 d · d_ff, as
    the authors' code has it for grouped-query attention; of mixtures of experts the shape does not
    say enough.
    """
    kv = shape.n_kv_heads or shape.n_heads
    d = shape.d_model
    width = shape.head_width
    if not (d and width and kv and shape.n_layers and shape.d_ff and shape.vocab_size):
        return None
    if shape.n_active_params not in {None, shape.n_params}:
        return None
    layer = 4 * d**2 + 4 * d * kv * width + 6 * d * shape.d_ff + 2 * d * (context - 1)
    return float(shape.n_layers * layer + 2 * d * shape.vocab_size)


@analysis(
    name="information-capacity",
    title="Information capacity",
    question="How many bits does a model save on a text, per order of "
    "the arithmetic that it takes?",
    source="Information Capacity, arXiv 2511.08066 (form of its code, calc_ic.py at 0aa7168)",
    needs=("item_id",),
    measures=("output_tokens",),
    scored=False,
    options=(
        Option(
            "nll_bits",
            "float",
            None,
            "surprise per token in bits, in place of the traces' log probabilities",
            low=0,
        ),
        Option(
            "text_bits",
            "float",
            None,
            "UTF-8 bits per token of the text, in place of the column text_bytes",
            low=0,
        ),
        Option(
            "flops_per_token", "float", None, "arithmetic per token, in place of the shape's", low=1
        ),
        Option("corpus", "choice", "other", "whose bias is taken", choices=tuple(BIASES)),
        Option("bias", "float", None, "the bias itself, in bits"),
        Option("context", "float", 1024.0, "tokens of a text", low=1),
        model_shapes.SHAPE,
        model_shapes.REFERENCE,
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=_ROWS,
    rows="call_outcomes",
    also_rows=("call_facts",),
    example={"by": ("model",), "nll_bits": 3.0, "text_bits": 32.0, "corpus": "mixed_text"},
    chart=ChartSpec("figures", x="capacity", y="group", also=("nll_bits",)),
)
def information_capacity(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Relate the bits saved on a text to the arithmetic, the best capacity first.

    Results are per task if `by` names the task.

    Grain: one row per group. Capacity = (S − NLL + b) / log2 F: S the UTF-8 bits of a token's text,
    NLL its mean −log2 p, F the FLOP of decoding a token (see `decode_flops`), b a bias of the
    corpus in bits: −24 for mixed_text, −18.7 for Ch-FineWeb-Edu, else −27. The bias is not divided
    by the length: so the authors' code has it, where their older README divides. S − NLL + b may be
    negative.

    The measure is of a given text that a model scores, its first token left out and the text cut to
    `context` tokens: import such a run with the log probabilities as `logprob_sum` (natural), the
    tokens scored as `output_tokens` and, in Python, the text's size as a column `text_bytes`. From
    ordinary traces NLL is of what the model itself wrote: that is its own surprise, not comparable
    with published capacities, and the notes say so. Traces usually have no log probabilities; then
    NLL, S or F can be given. Intervals: expanded percentile bootstrap of item clusters, of NLL (and
    S) alone.
    """
    shape = _no_shapes if options["flops_per_token"] is not None else model_shapes.of_traces
    shapes = shape(frame, options, (decode_flops,))
    names = [c for c in by if c != "task"] or list(by)
    groups = model_shapes.of_groups(frame, names, shapes)
    counted = _counted(frame, by)
    items = reduce_items(
        counted, by, _MEASURES, scored=False, errors_as_wrong=options["errors_as_wrong"]
    )
    built = build(items, shared=options["shared"])
    table = sample.tabulate(built, by, _ROWS, lambda p: _rows(p, groups, rng, options))
    first = ["task"] if "task" in by else []
    down = [False] * len(first) + [True] + [False] * len(by)
    table = table.sort(*first, "capacity", *by, descending=down, nulls_last=True)
    silent = 0
    if options["nll_bits"] is None:
        silent = int(table["n"].sum()) - int(table["n_logged"].sum())
    dropped = built.dropped | {"traces without log probabilities or token counts": silent}
    return Answer(table, dropped=dropped, notes=(*built.notes, *_notes(table, shapes, options)))


def _no_shapes(*_: Any) -> model_shapes.Shapes:
    return model_shapes.Shapes({}, ())


def _counted(frame: "nw.LazyFrame[Any]", by: Sequence[str]) -> "nw.LazyFrame[Any]":
    """Add surprise and size per token of every trace as columns; calls are added up first."""
    needed = ("logprob_sum", "output_tokens", "text_bytes")
    present = set(frame.collect_schema().names())
    frame = frame.with_columns(
        nw.lit(None, nw.Float64).alias(c) for c in needed if c not in present
    )
    if calls.is_calls(frame):
        frame = calls.to_traces(frame, by, needed)
    logged, tokens, size = (nw.col(c).cast(nw.Float64) for c in needed)
    some = nw.when(tokens > 0).then(tokens)
    return frame.with_columns(nll=-logged / math.log(2) / some, size=8 * size / some)


def _rows(
    panel: Panel,
    groups: dict[str, hardware.Model],
    rng: np.random.Generator,
    options: dict[str, Any],
) -> list[pl.Series]:
    values = {m: panel.measure(m) for m in _MEASURES}
    for name, option in (("nll", "nll_bits"), ("size", "text_bits")):
        if options[option] is not None:
            values[name] = np.where(panel.tried, options[option], np.nan)
    bootstrap = sample.draw(panel, values, rng, options)
    bias = BIASES[options["corpus"]] if options["bias"] is None else options["bias"]
    flops = np.array([_flops(groups.get(name), options) for name in panel.labels])

    def capacity(means: sample.Means) -> Floats:
        saved: Floats = means["size"] - means["nll"] + bias
        return sample.per(saved, np.log2(flops))

    logged = np.nansum(panel.matrix("nll_known"), axis=0)
    given = options["nll_bits"] is not None and options["text_bits"] is not None
    spread = [
        *(bootstrap.series("nll_bits", operator.itemgetter("nll"))),
        pl.Series("text_bits", bootstrap.means["size"]),
        pl.Series("flops_per_token", flops),
        *bootstrap.series("capacity", capacity),
    ]
    if given:
        spread = sample.without_ends(spread)
    head = [*sample.counts(panel), pl.Series("n_logged", logged).cast(pl.Int64)]
    return [*head, *(s.fill_nan(None) for s in spread)]


def _flops(shape: hardware.Model | None, options: dict[str, Any]) -> float:
    if options["flops_per_token"] is not None:
        return float(options["flops_per_token"])
    flops = decode_flops(shape, options["context"]) if shape is not None else None
    return float("nan") if flops is None else flops


def _notes(
    table: pl.DataFrame, shapes: model_shapes.Shapes, options: dict[str, Any]
) -> tuple[str, ...]:
    if table.is_empty():
        return ()
    notes = []
    if options["nll_bits"] is None:
        if table["nll_bits"].null_count() == table.height:
            notes.append("no log probabilities are recorded: collect with them, or give nll_bits")
        else:
            notes.append(
                "log probabilities of text that the model wrote itself are not those of a "
                "given corpus: "
                "compare with published capacities only if the traces score a given text"
            )
    if table["text_bits"].null_count():
        notes.append("the size of a token's text is not known: give text_bits")
    return (*notes, *shapes.notes("whole shape"))

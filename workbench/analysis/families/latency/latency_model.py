"""Latency model: time of a prompt and an answer of given lengths, and tokens before a deadline."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import polars as pl

from workbench import hardware
from workbench.analysis.core.declaration import ChartSpec, Option, Settles, analysis
from workbench.analysis.core.options import ERRORS, LEVEL, RESAMPLES, SHARED
from workbench.analysis.core.result import Answer
from workbench.analysis.inputs import calls, model_shapes, sample
from workbench.analysis.inputs.panel import Panel, build
from workbench.analysis.inputs.reduce import reduce_items
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import resampling
from workbench.analysis.stats.arrays import Floats
from workbench.schema import APART, KEY_NULL, Column

_NOT = "no calls with tokens, time to first token and end"
_NULL_IF_FEW = "fewer than two items, or the law was given"
_ROWS = (
    Column("n_items", "int", "count", "Items with a call that did not fail.", KEY_NULL, "items"),
    Column("n", "int", "count", "Calls that did not fail.", KEY_NULL, "calls"),
    Column(
        "n_timed",
        "int",
        "count",
        "Those with tokens, time to first token and end.",
        KEY_NULL,
        "timed",
    ),
    Column(
        "prompt_tokens",
        "float",
        "tokens",
        "Prompt that the figures are for: as given, else the mean.",
        _NOT,
        "prompt",
    ),
    *ends(
        Column(
            "budget_tokens",
            "float",
            "tokens",
            "Most output tokens before the deadline, thinking included; 0 where the prompt "
            "alone takes longer.",
            f"{_NOT}, or decoding takes no time",
            "tokens before the deadline",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "predicted_ttft_s",
            "float",
            "s",
            "Time to the first token of that prompt.",
            _NOT,
            "time to first token",
        ),
        _NULL_IF_FEW,
    ),
    *ends(
        Column(
            "step_s",
            "float",
            "s",
            "Time of the first decoding step after that prompt.",
            _NOT,
            "time per token",
        ),
        _NULL_IF_FEW,
    ),
    Column("prefill_a", "float", "s/token²", "Seconds per squared prompt token.", _NOT, "a"),
    Column("prefill_b", "float", "s/token", "Seconds per prompt token.", _NOT, "b"),
    Column("prefill_c", "float", "s", "Seconds whatever the prompt.", _NOT, "c"),
    Column(
        "decode_m",
        "float",
        "s/token²",
        "Seconds per decoding step and token of context.",
        _NOT,
        "m",
    ),
    Column("decode_n", "float", "s/token", "Seconds per decoding step.", _NOT, "n"),
    Column(
        "r2_prefill",
        "float",
        "",
        "Share of the variance of the time to first token that the law explains; below 0 "
        "where it does worse than the mean.",
        "no variance, or not timed",
        "R² of prefill",
    ),
    Column(
        "r2_decode",
        "float",
        "",
        "The same of the time from first token to end.",
        "no variance, or not timed",
        "R² of decoding",
    ),
    Column("measured_s", "float", "s", "Mean time of a call.", _NOT, "measured"),
    Column("predicted_s", "float", "s", "What the law says of the same calls.", _NOT, "predicted"),
)
# Sums that both fits need: of prompts p (padded) and first-token times y; of steps s, their
# contexts z, and times w.
_PREFILL = {
    "p4": (4, 0),
    "p3": (3, 0),
    "p2": (2, 0),
    "p1": (1, 0),
    "p2y": (2, 1),
    "p1y": (1, 1),
    "y": (0, 1),
    "yy": (0, 2),
}
_DECODE = {
    "ss": (2, 0, 0),
    "sz": (1, 1, 0),
    "zz": (0, 2, 0),
    "sw": (1, 0, 1),
    "zw": (0, 1, 1),
    "s": (1, 0, 0),
    "z": (0, 1, 0),
    "w": (0, 0, 1),
    "ww": (0, 0, 2),
}
_SUMS = ("one", *_PREFILL, *_DECODE, "prompt")


class _Fit(NamedTuple):
    """A least squares problem in names of sums: XᵀX, Xᵀy, Σy, Σy²."""

    gram: tuple[tuple[str, ...], ...]
    moment: tuple[str, ...]
    total: str
    square: str


_FIRST = _Fit(
    (("p4", "p3", "p2"), ("p3", "p2", "p1"), ("p2", "p1", "one")), ("p2y", "p1y", "y"), "y", "yy"
)
_LATER = _Fit((("zz", "sz"), ("sz", "ss")), ("zw", "sw"), "w", "ww")


def prefill(law: Sequence[Floats], prompt: Floats) -> Floats:
    """Seconds to the first token: a I'² + b I' + c, law = (a, b, c), I' the padded prompt."""
    a, b, c = law
    seconds: Floats = a * prompt**2 + b * prompt + c
    return seconds


def decoding(law: Sequence[Floats], prompt: Floats, steps: Floats) -> Floats:
    """Seconds of s decoding steps: s (n + m I + m (s − 1) / 2), law = (m, n), after I tokens."""
    m, n = law
    seconds: Floats = steps * (n + m * prompt + m * (steps - 1) / 2)
    return seconds


def steps_within(law: Sequence[Floats], prompt: Floats, seconds: Floats) -> Floats:
    """Count the whole decoding steps within some seconds: the root of the quadratic; 0 if none.

    NaN where steps take no time.
    """
    m, n = law
    half = m / 2
    linear = n + m * prompt - m / 2
    room = np.maximum(seconds, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        # the root that stays exact as m goes to 0
        root = 2 * room / (linear + np.sqrt(linear**2 + 4 * half * room))
    return np.floor(root * (1 + 1e-12) + 1e-9)


@analysis(
    name="latency-model",
    title="Latency model",
    question="How long do a prompt and an answer take, and how many tokens fit before a deadline?",
    source="EdgeReasoning, arXiv 2511.01866 (laws of prefill and decoding; "
    "edge-inference/edgereasoning at e74ca1e)",
    needs=("item_id", "output_tokens", "e2e_s"),
    measures=("output_tokens", "e2e_s"),
    scored=False,
    options=(
        Option("deadline_s", "float", 10.0, "the deadline, from the request on", low=0),
        Option(
            "prompt_tokens", "float", None, "prompt to answer for; the group's mean if open", low=0
        ),
        Option("law", "text", None, "a law of the reference rows in place of a fit: DSR1-Llama-8B"),
        Option("pad_tokens", "int", 1, "prompts are computed in multiples of this", low=1),
        Option("fresh", "flag", default=False, help="prompt tokens read from a cache take no time"),
        model_shapes.REFERENCE,
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=_ROWS,
    rows="call_outcomes",
    also_rows=("call_facts",),
    example={"by": ("model",), "deadline_s": 5.0, "fresh": True},
    chart=ChartSpec("figures", x="budget_tokens", y="group", also=("predicted_ttft_s", "step_s")),
    settles=Settles("budget_tokens", better="more"),
)
def latency_model(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Fit laws of prefill and decoding and solve them for a deadline, most tokens first.

    Results are per task if `by` names the task.

    Grain: one row per group. Time to first token = a I'² + b I' + c; from there to the end = s (n +
    m I + m (s − 1) / 2): I prompt tokens, I' padded to a multiple of `pad_tokens`, s decoding
    steps, the context one token longer at each. Fitted by least squares with no coefficient below
    0, with equal weights of all calls; the first output token is part of the time to first token,
    so s = O − 1. With `law` the coefficients are another's, of its own padding, and s = O as there:
    then measured against predicted says how far this machine is from that one.

    The budget is the largest O whose predicted end is within `deadline_s`. It is of the mean call:
    half of them take longer. Queues, batching and shared machines are in the fit as far as they
    were in the calls: R² says how much of the time the lengths explain.

    A law is of a call: given calls judges are left out; traces, and calls, that sum up several are.
    Calls that were not streamed have no time to first token and are left out. Intervals: expanded
    percentile bootstrap of item clusters.
    """
    law = None
    if options["law"] is not None:
        law = hardware.in_force(options["reference"]).latency(options["law"])
    counted = _counted(frame, law, options)
    items = reduce_items(
        counted, by, _SUMS, scored=False, errors_as_wrong=options["errors_as_wrong"]
    )
    built = build(items, shared=options["shared"])
    table = sample.tabulate(built, by, _ROWS, lambda p: _rows(p, law, rng, options))
    first = ["task"] if "task" in by else []
    down = [False] * len(first) + [True] + [False] * len(by)
    table = table.sort(*first, "budget_tokens", *by, descending=down, nulls_last=True)
    silent = int(table["n"].sum()) - int(table["n_timed"].sum())
    dropped = built.dropped | {"calls without tokens, time to first token or end": silent}
    notes = [*calls.summed(frame)] if silent else []
    if table.height and not table["n_timed"].sum():
        notes.append("no call has a time to first token: only streamed calls do")
    weak = table.filter((pl.col("r2_decode") < 0.5) & (pl.col("n_timed") > 0)).height
    if weak and law is None:
        notes.append(f"in {weak} groups lengths explain less than half of the decoding time")
    return Answer(table, dropped=dropped, notes=(*built.notes, *notes))


def _counted(
    frame: "nw.LazyFrame[Any]", law: hardware.Latency | None, options: dict[str, Any]
) -> "nw.LazyFrame[Any]":
    """Add the terms of the sums of both fits as columns; null where a call does not serve."""
    needed = ("input_tokens", "output_tokens", "ttft_s", "e2e_s", "cache_read_tokens")
    present = set(frame.collect_schema().names())
    if "role" in present:
        frame = frame.filter(~nw.col("role").is_in(APART) | nw.col("role").is_null())
    missing = {c: nw.lit(None, nw.Float64) for c in needed if c not in present}
    frame = frame.with_columns(**missing) if missing else frame
    prompt, out, ttft, end, cached = (nw.col(c).cast(nw.Float64) for c in needed)
    serves = (out >= 1) & (end >= ttft) & ~prompt.is_null() & calls.is_alone(frame)
    pad = law.pad_tokens if law is not None else options["pad_tokens"]
    computed = prompt - cached.fill_null(0.0) if options["fresh"] else prompt
    steps = out - (1.0 if law is None else 0.0)
    terms = frame.with_columns(
        _p=nw.when(serves).then((computed / pad).ceil() * pad),
        _y=nw.when(serves).then(ttft),
        _s=nw.when(serves).then(steps),
        _z=nw.when(serves).then(steps * (prompt + (steps - 1) / 2)),
        _w=nw.when(serves).then(end - ttft),
        prompt=nw.when(serves).then(prompt),
        one=nw.when(serves).then(nw.lit(1.0)),
    )
    products = {name: _product(("_p", "_y"), powers) for name, powers in _PREFILL.items()}
    products |= {name: _product(("_s", "_z", "_w"), powers) for name, powers in _DECODE.items()}
    return terms.with_columns(**products)


def _product(columns: Sequence[str], powers: Sequence[int]) -> nw.Expr:
    factors = [nw.col(c) for c, power in zip(columns, powers, strict=True) for _ in range(power)]
    whole = factors[0]
    for factor in factors[1:]:
        whole = whole * factor
    return whole


def _rows(
    panel: Panel, law: hardware.Latency | None, rng: np.random.Generator, options: dict[str, Any]
) -> list[pl.Series]:
    """Fit (or take) the laws of a panel's groups, on the calls as they are and on resamples."""
    sums = {name: panel.cluster_sums(panel.matrix(f"{name}_sum")) for name in _SUMS}
    whole = {name: part.sum(axis=0) for name, part in sums.items()}
    figures = _figures(whole, law, options)
    resampled: dict[str, Floats] | None = None
    if law is None and panel.n_clusters > 1:
        stacked = resampling.resampled_sums(
            np.hstack(list(sums.values())), options["resamples"], rng
        )
        parts = np.split(stacked, len(_SUMS), axis=1)
        resampled = _figures(dict(zip(_SUMS, parts, strict=True)), law, options)
    clusters = (sums["one"] > 0).sum(axis=0)
    enough = clusters > 1
    series = []
    for column in _ROWS[3:]:
        base, _, end = column.name.rpartition("_")
        if end in {"low", "high"} and base in figures:
            values = np.full(len(enough), np.nan)
            if resampled is not None:
                low, high = resampling.percentile(resampled[base], options["level"], clusters)
                values = np.where(enough, low if end == "low" else high, np.nan)
        else:
            values = figures[column.name]
        series.append(pl.Series(column.name, values, pl.Float64).fill_nan(None))
    timed = np.nansum(panel.matrix("one_known"), axis=0)
    return [*sample.counts(panel), pl.Series("n_timed", timed).cast(pl.Int64), *series]


def _figures(
    sums: dict[str, Floats], law: hardware.Latency | None, options: dict[str, Any]
) -> dict[str, Floats]:
    """Everything that follows from the sums, (…, n_groups) each."""
    n = np.where(sums["one"] > 0, sums["one"], np.nan)
    if law is None:
        a, b, c = _solved(_FIRST, sums)
        m, decode = _solved(_LATER, sums)
    else:
        given = (law.a, law.b, law.c, law.m, law.n)
        a, b, c, m, decode = (np.where(n > 0, x, np.nan) for x in given)
    prompt = sums["prompt"] / n
    computed = sums["p1"] / n
    if options["prompt_tokens"] is not None:
        pad = law.pad_tokens if law is not None else options["pad_tokens"]
        prompt = np.where(n > 0, options["prompt_tokens"], np.nan)
        computed = np.ceil(prompt / pad) * pad
    ttft = prefill((a, b, c), computed)
    room = options["deadline_s"] - ttft
    steps = steps_within((m, decode), prompt, room)
    budget = np.where(room >= 0, steps + (1.0 if law is None else 0.0), 0.0)
    first = a * sums["p2"] + b * sums["p1"] + c * sums["one"]
    later = m * sums["z"] + decode * sums["s"]
    return {
        "prompt_tokens": prompt,
        "budget_tokens": np.where(np.isnan(steps), np.nan, budget),
        "predicted_ttft_s": ttft,
        "step_s": decode + m * prompt,
        "prefill_a": a,
        "prefill_b": b,
        "prefill_c": c,
        "decode_m": m,
        "decode_n": decode,
        "r2_prefill": _r2(_FIRST, (a, b, c), sums),
        "r2_decode": _r2(_LATER, (m, decode), sums),
        "measured_s": (sums["y"] + sums["w"]) / n,
        "predicted_s": (first + later) / n,
    }


def _solved(fit: _Fit, sums: dict[str, Floats]) -> list[Floats]:
    """Solve non-negative least squares from sums of products; one array per coefficient."""
    gram = np.stack([np.stack([sums[name] for name in row], -1) for row in fit.gram], -2)
    moment = np.stack([sums[name] for name in fit.moment], -1)
    return list(np.moveaxis(nonnegative(gram, moment), -1, 0))


def nonnegative(gram: Floats, moment: Floats) -> Floats:
    """Solve least squares with coefficients of at least 0, for many small problems at once.

    Every set of coefficients that may be above 0 is tried: the solution on the best feasible one is
    that of the whole (Lawson & Hanson 1974, chapter 23: the problem is convex).

    Args:
        gram: (…, p, p) XᵀX.
        moment: (…, p) Xᵀy.

    Returns:
        (…, p); NaN where XᵀX is 0.
    """
    p = moment.shape[-1]
    scale = np.sqrt(np.maximum(np.diagonal(gram, axis1=-2, axis2=-1), 0.0))
    unit = np.where(scale > 0, scale, 1.0)
    g = gram / unit[..., :, None] / unit[..., None, :]
    v = moment / unit
    best = np.zeros(moment.shape)
    merit = np.zeros(moment.shape[:-1])
    for size in range(1, p + 1):
        for chosen in itertools.combinations(range(p), size):
            at = list(chosen)
            part = g[..., at, :][..., :, at]
            solvable = np.asarray(np.linalg.det(part) > 1e-10)
            safe = np.where(solvable[..., None, None], part, np.eye(size))
            solution = np.linalg.solve(safe, v[..., at][..., None])[..., 0]
            gain = (solution * v[..., at]).sum(axis=-1)
            better = (
                solvable & np.asarray((solution >= 0).all(axis=-1)) & (gain > merit * (1 + 1e-12))
            )
            candidate = np.zeros(moment.shape)
            candidate[..., at] = solution
            best = np.where(better[..., None], candidate, best)
            merit = np.where(better, gain, merit)
    known = np.asarray((scale > 0).any(axis=-1))
    return np.where(known[..., None], best / unit, np.nan)


def _r2(fit: _Fit, law: Sequence[Floats], sums: dict[str, Floats]) -> Floats:
    """1 − squared residuals over squared distances from the mean."""
    off = sums[fit.square]
    for i, row in enumerate(fit.gram):
        off = off - 2 * law[i] * sums[fit.moment[i]]
        for j, name in enumerate(row):
            off = off + law[i] * law[j] * sums[name]
    n = np.where(sums["one"] > 0, sums["one"], np.nan)
    spread = sums[fit.square] - sums[fit.total] ** 2 / n
    enough = spread > 1e-9 * np.maximum(sums[fit.square], 1e-300)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(enough, 1 - off / spread, np.nan)

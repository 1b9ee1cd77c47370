"""Context growth: the input that an agent carries from call to call, and what that costs."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS
from workbench.analysis.core.options import LEVEL
from workbench.analysis.core.result import DTYPES, Answer
from workbench.analysis.inputs import per_trace
from workbench.analysis.inputs.sample import ends
from workbench.analysis.stats import ratios
from workbench.analysis.stats.arrays import Flags, Floats, Ints
from workbench.schema import KEY_NULL, Column

_UNPRICED = "price or tokens unknown"
_NO_STEPS = "no trace has two calls"
_NO_SPREAD = "fewer than two items, or no spread"
_PLACES = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584, 4181)
_SHORT_TTL_S = 300.0  # lifetime of a cache entry unless it was written for an hour
_LONG_TTL_S = 3600.0
CAUSES = ("pause", "model", "other")
_CURVE = (
    Column("call", "int", "count", "Place of the call in its trace, from 1.", KEY_NULL),
    Column("n_items", "int", "count", "Items.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces that have so many calls.", KEY_NULL, "traces"),
    *ends(
        Column("context_tokens", "float", "tokens", "Mean input of that call.", KEY_NULL),
        FEW_ITEMS,
    ),
    Column(
        "cached_share",
        "float",
        "0..1",
        "Share of that input that was read from a cache.",
        "no input",
        "read from a cache",
    ),
    Column("call_cost_usd", "float", "USD", "Mean cost of that call.", _UNPRICED, "cost per call"),
)
_GROWTH = (
    Column("n_calls", "int", "count", "Calls of the agent.", KEY_NULL, "calls"),
    Column("first_tokens", "float", "tokens", "Mean input of the first call.", KEY_NULL),
    Column("peak_tokens", "float", "tokens", "Mean over traces of the largest input.", KEY_NULL),
    Column("max_tokens_seen", "int", "tokens", "Largest input of any call.", KEY_NULL, "largest"),
    *ends(
        Column("growth_tokens", "float", "tokens", "Growth from one call to the next.", _NO_STEPS),
        _NO_SPREAD,
    ),
    Column(
        "n_compactions",
        "int",
        "count",
        "Calls whose input is at most the share `drop` of that of the call before.",
        KEY_NULL,
        "compactions",
    ),
    Column("cost_usd", "float", "USD", "Cost of the priced calls.", _UNPRICED, "cost"),
    Column("input_cost_usd", "float", "USD", "What of it paid for input.", _UNPRICED, "input cost"),
    Column(
        "growth_cost_usd",
        "float",
        "USD",
        "What of it paid for input beyond that of the first call, call by call in proportion.",
        _UNPRICED,
        "cost of growth",
    ),
    Column(
        "growth_share",
        "float",
        "0..1",
        "Share of the cost that growth is.",
        _UNPRICED,
        "share of growth",
    ),
    Column(
        "n_misses",
        "int",
        "count",
        "Calls that paid again for context that the call before had, and a cache could have had.",
        KEY_NULL,
        "cache misses",
    ),
    Column("missed_tokens", "int", "tokens", "Tokens paid again by them.", KEY_NULL),
    Column(
        "miss_cost_usd",
        "float",
        "USD",
        "What the misses cost beyond reading the same tokens from a cache.",
        _UNPRICED,
        "cost of misses",
    ),
    *(
        Column(
            f"{cause}_miss_cost_usd",
            "float",
            "USD",
            f"The same of misses {which}.",
            _UNPRICED,
            f"cost of misses, {cause}",
        )
        for cause, which in (
            ("pause", "after a pause longer than the cache lives"),
            ("model", "at a change of the model"),
            ("other", "of another cause"),
        )
    ),
)
_CAPS = (
    Column(
        "policy",
        "text",
        doc="compact: a summary replaces the context at the cap; restart: the next call begins "
        "with the first call's context.",
        null=KEY_NULL,
    ),
    Column("cap_tokens", "int", "tokens", "The cap.", KEY_NULL, "cap"),
    Column("n_traces_over", "int", "count", "Traces that pass it.", KEY_NULL, "traces over it"),
    Column("n_resets", "int", "count", "How often it is reached in all.", KEY_NULL, "resets"),
    Column(
        "saving_low",
        "float",
        "USD",
        "Saved if all that is dropped was read from a cache.",
        _UNPRICED,
        "saving, at least",
    ),
    Column(
        "saving_high",
        "float",
        "USD",
        "Saved if what is dropped cost as the rest of the input.",
        _UNPRICED,
        "saving, at most",
    ),
)
_TRACES = (
    Column("trace_id", "text", doc="The trace.", null=KEY_NULL),
    Column("trace_calls", "int", "count", "Its calls.", KEY_NULL, "calls of the trace"),
    Column("trace_peak_tokens", "int", "tokens", "Its largest input.", KEY_NULL, "largest input"),
    Column("trace_compactions", "int", "count", "Its compactions.", KEY_NULL),
    Column("trace_misses", "int", "count", "Its cache misses.", KEY_NULL),
    Column("trace_growth_cost_usd", "float", "USD", "Its cost of growth.", _UNPRICED),
    Column("trace_cost_usd", "float", "USD", "Its cost.", _UNPRICED),
)
_NUMBERS = (
    "ordinal",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "e2e_s",
    "cost_usd",
    "fresh_cost_usd",
    "cache_read_cost_usd",
    "cache_write_5m_cost_usd",
    "cache_write_1h_cost_usd",
    "cache_read_usd_per_mtok",
    "output_usd_per_mtok",
    "n_requests",
)


class _Calls(NamedTuple):
    """Calls of a group in order, trace by trace; NaN where unknown.

    Attributes:
        trace: (n,) number of the trace, from 0; place: (n,) place in it, from 0.
        first: (m,) where each trace begins.
        context: (n,) input tokens; reads: (n,) those read from a cache, 0 where not known.
        rest_cost: (n,) cost of the input that was not read; input_cost: (n,) of all input.
        cost: (n,) of the call; read_rate, output_rate: (n,) USD per token.
        pause_s: (n,) since the end of the call before; long: (n,) written for an hour before.
        changed: (n,) whether the model is another than before.
        cached: (n,) whether the trace ever used a cache.
    """

    trace: Ints
    place: Ints
    first: Ints
    context: Floats
    reads: Floats
    rest_cost: Floats
    input_cost: Floats
    cost: Floats
    read_rate: Floats
    output_rate: Floats
    pause_s: Floats
    long: Flags
    changed: Flags
    cached: Flags


@analysis(
    name="context-growth",
    title="Context growth",
    question="How does an agent's context grow from call to call, what does carrying it cost, and "
    "what would a cap have saved?",
    source="input tokens and cache reads of consecutive calls; the replay of caps is ours",
    needs=("trace_id",),
    scored=False,
    options=(
        Option("cap", "int", 100_000, "tokens of context at which the replay intervenes", low=1),
        Option("summary", "int", 2_000, "tokens that a summary takes, written and read", low=0),
        Option(
            "drop",
            "float",
            0.5,
            "share of the input before at which a call counts as a compaction",
            low=0.0,
            high=1.0,
        ),
        Option(
            "miss",
            "float",
            0.5,
            "share of the context before of which less was read from a cache: a miss",
            low=0.0,
            high=1.0,
        ),
        Option("most", "int", 20, "traces that are listed, by their cost of growth", low=0),
        LEVEL,
    ),
    columns=(*_CURVE, *_GROWTH, *_CAPS, *_TRACES),
    rows="call_costs",
    chart=ChartSpec("lines", x="call", y="context_tokens"),
    example={"by": ("model",), "where": "strategy:react", "cap": 700, "summary": 50},
    settles=None,
)
def context_growth(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Follow the input of an agent's calls, and price what it carries along.

    Grain: one row per group and place of a call (1, 2, 3, 5, 8 …), over the traces that have so
    many calls: later rows are of longer traces. `more["growth"]`: one row per group;
    `more["caps"]`: one per group and policy; `more["traces"]`: the traces whose growth cost most.
    Calls of judges and simulated users, requests that were sent again, and rows that sum up several
    requests are left out.

    Growth is input above that of the first call; its cost is that share of the call's input cost. A
    compaction is a call whose input falls to the share `drop` or less. A miss is a call that reads
    from a cache less than the share `miss` of the context before, in a trace that uses caching,
    and is no compaction; its cost is the tokens not read at the price that the call paid for its
    unread input, minus that of a cache read. It is put down to a pause where the call before ended
    longer ago than its cache entry lives (an hour if it was written for one, else 5 minutes), else
    to a change of the model.

    The caps replay the recorded calls: the context grows as it did; at the cap it falls back to the
    first call's input, with a summary (`compact`: one more call reads the context from the cache
    and writes the summary, which the next one puts into the cache) or without (`restart`). What is
    dropped is saved in every later call, at the price of a cache read (low end) or at the call's
    average price of input (high end). The bounds are of the bill alone: whether the agent would
    have done as well is not known. Interval: of the means, clustered by item.
    """
    del rng  # nothing is drawn
    rows, left_out = _fetched(frame, by)
    names = {c: rows.schema[c] for c in by}
    curve: list[dict[str, Any]] = []
    growth: list[dict[str, Any]] = []
    caps: list[dict[str, Any]] = []
    traces: list[pl.DataFrame] = []
    for key, part in per_trace.parts(rows, by):
        own = dict(zip(by, key, strict=True))
        ordered = _ordered(part)
        calls = _calls(ordered)
        compacted = _compactions(calls, options["drop"])
        misses = _misses(calls, compacted, options["miss"])
        code = ordered["_code"].to_numpy()
        curve += [own | row for row in _curve(calls, ordered, code, options["level"])]
        growth.append(own | _growth(calls, compacted, misses, code, options["level"]))
        caps += [own | row for row in _capped(calls, options)]
        keys = [pl.lit(value, names[c]).alias(c) for c, value in own.items()]
        listed = _listed(ordered, calls, compacted, misses)
        traces.append(listed.select(*keys, pl.all()))
    dearest = pl.concat(traces) if traces else _frame([], names, _TRACES)
    dearest = dearest.sort(
        "trace_growth_cost_usd", "trace_id", descending=[True, False], nulls_last=True
    )
    notes = []
    if left_out["rows that sum up several requests"] and not rows.height:
        notes.append("only totals of traces are recorded, not their calls")
    return Answer(
        _frame(curve, names, _CURVE),
        more={
            "growth": _frame(growth, names, _GROWTH),
            "caps": _frame(caps, names, _CAPS),
            "traces": dearest.head(options["most"]),
        },
        dropped=left_out,
        notes=tuple(notes),
    )


def _frame(
    rows: list[dict[str, Any]], names: dict[str, pl.DataType], columns: Sequence[Column]
) -> pl.DataFrame:
    shape = names | {c.name: DTYPES[c.type] for c in columns if c.name not in names}
    return pl.DataFrame(rows, schema=shape).with_columns(pl.selectors.float().fill_nan(None))


def _fetched(frame: "nw.LazyFrame[Any]", by: Sequence[str]) -> tuple[pl.DataFrame, dict[str, int]]:
    """Fetch the calls of agents, and count what is left out."""
    present = set(frame.collect_schema().names())
    if "tool_call_id" in present:
        frame = frame.filter(nw.col("tool_call_id").is_null())
    if "role" in present:
        frame = frame.filter((nw.col("role") == "subject") | nw.col("role").is_null())
    if "retried_as" in present:
        frame = frame.filter(nw.col("retried_as").is_null())

    def read(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(_trace=pl.col("_trace_id").hash(), _model=pl.col("_model").hash())

    rows = per_trace.fetch(
        frame.with_columns(model=nw.col("call_model")) if "call_model" in present else frame,
        by,
        _NUMBERS,
        texts=("trace_id", "model"),
        times=("started_at",),
        transform=read,
    )
    return per_trace.keep_passing(
        rows,
        {
            "calls without input tokens": pl.col("_input_tokens").is_not_null(),
            "rows that sum up several requests": pl.col("_n_requests").fill_null(1) <= 1,
        },
    )


def _ordered(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("_trace", "_ordinal", "_started_at", nulls_last=True)


def _calls(rows: pl.DataFrame) -> _Calls:
    number = rows["_trace"].to_numpy()
    begins = np.append(True, number[1:] != number[:-1])
    first = np.flatnonzero(begins)
    trace = np.cumsum(begins) - 1
    columns = {c: rows[f"_{c}"].cast(pl.Float64).to_numpy() for c in _NUMBERS}
    rest_cost = sum(columns[f"{c}_cost_usd"] for c in ("fresh", "cache_write_5m", "cache_write_1h"))
    end = rows["_started_at"].dt.epoch("us").cast(pl.Float64).to_numpy() / 1e6
    start = end.copy()
    end = end + np.nan_to_num(columns["e2e_s"])
    reads = np.nan_to_num(columns["cache_read_tokens"])
    written = np.nan_to_num(columns["cache_write_5m_tokens"])
    written_long = np.nan_to_num(columns["cache_write_1h_tokens"])
    uses_cache = np.add.reduceat(reads + written + written_long, first) > 0
    models = rows["_model"].to_numpy()
    return _Calls(
        trace=trace,
        place=np.arange(len(trace)) - first[trace],
        first=first,
        context=columns["input_tokens"],
        reads=reads,
        rest_cost=np.asarray(rest_cost),
        input_cost=np.asarray(rest_cost) + columns["cache_read_cost_usd"],
        cost=columns["cost_usd"],
        read_rate=columns["cache_read_usd_per_mtok"] / 1e6,
        output_rate=columns["output_usd_per_mtok"] / 1e6,
        pause_s=start - _before(end, begins, np.nan),
        long=_before(written_long, begins, 0.0) > 0,
        changed=~begins & (models != np.roll(models, 1)),
        cached=uses_cache[trace],
    )


def _before(values: Floats, begins: Flags, outside: float) -> Floats:
    """Return the value of the call before, `outside` at the first call of a trace."""
    return np.where(begins, outside, np.roll(values, 1))


def _compactions(calls: _Calls, drop: float) -> Flags:
    before = _before(calls.context, calls.place == 0, np.nan)
    return calls.context <= drop * before


def _unread_price(calls: _Calls) -> Floats:
    """Return USD per token of the input that was not read from a cache, (n,)."""
    unread = calls.context - calls.reads
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(unread > 0, calls.rest_cost / unread, calls.read_rate)


class _Misses(NamedTuple):
    """Calls that missed the cache: (n,) tokens paid again, cost of that, and the cause."""

    missed: Flags
    tokens: Floats
    cost: Floats
    cause: Ints


def _misses(calls: _Calls, compacted: Flags, share: float) -> _Misses:
    before = _before(calls.context, calls.place == 0, np.nan)
    reusable = np.minimum(before, calls.context)
    missed = calls.cached & ~compacted & (reusable > 0) & (calls.reads < share * reusable)
    tokens = np.where(missed, reusable - calls.reads, 0.0)
    cost = tokens * np.maximum(_unread_price(calls) - calls.read_rate, 0.0)
    lives = np.where(calls.long, _LONG_TTL_S, _SHORT_TTL_S)
    cause = np.where(calls.pause_s > lives, 0, np.where(calls.changed, 1, 2))
    return _Misses(missed, tokens, np.where(missed, cost, 0.0), cause)


def _curve(calls: _Calls, rows: pl.DataFrame, code: Ints, level: float) -> list[dict[str, Any]]:
    curve = []
    for place in _PLACES:
        at = np.flatnonzero(calls.place == place - 1)
        if not len(at):
            break
        context = calls.context[at]
        whole = context.sum()
        row: dict[str, Any] = {
            "call": place,
            "n_items": rows["_item"].gather(at).n_unique(),
            "n": len(at),
            "cached_share": float(calls.reads[at].sum() / whole) if whole else None,
            "call_cost_usd": _mean(calls.cost[at]),
        }
        curve.append(row | ratios.figures("context_tokens", ratios.mean(context, code[at], level)))
    return curve


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _sum(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.sum()) if len(known) else None


def _growth_cost(calls: _Calls) -> Floats:
    """Cost of the input beyond that of the trace's first call, (n,)."""
    beyond = np.maximum(calls.context - calls.context[calls.first][calls.trace], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(calls.context > 0, calls.input_cost * beyond / calls.context, 0.0)


def _growth(
    calls: _Calls, compacted: Flags, misses: _Misses, code: Ints, level: float
) -> dict[str, Any]:
    peak = np.maximum.reduceat(calls.context, calls.first)
    before = _before(calls.context, calls.place == 0, np.nan)
    step = np.where(compacted | (calls.place == 0), np.nan, calls.context - before)
    cost, growth_cost = _sum(calls.cost), _sum(_growth_cost(calls))
    row: dict[str, Any] = {
        "n_calls": len(calls.context),
        "first_tokens": float(calls.context[calls.first].mean()),
        "peak_tokens": float(peak.mean()),
        "max_tokens_seen": int(peak.max()),
        "n_compactions": int(compacted.sum()),
        "cost_usd": cost,
        "input_cost_usd": _sum(calls.input_cost),
        "growth_cost_usd": growth_cost,
        "growth_share": growth_cost / cost if growth_cost is not None and cost else None,
        "n_misses": int(misses.missed.sum()),
        "missed_tokens": int(misses.tokens.sum()),
        "miss_cost_usd": _sum(misses.cost),
    }
    for number, cause in enumerate(CAUSES):
        row[f"{cause}_miss_cost_usd"] = _sum(np.where(misses.cause == number, misses.cost, 0.0))
    return row | ratios.figures("growth_tokens", ratios.mean(step, code, level))


def _capped(calls: _Calls, options: dict[str, Any]) -> list[dict[str, Any]]:
    peak = np.maximum.reduceat(calls.context, calls.first)
    over = int((peak > options["cap"]).sum())
    rows = []
    for policy, summary in (("compact", options["summary"]), ("restart", 0)):
        context, resets, read_again = _replayed(calls, options["cap"], summary)
        dropped = np.maximum(calls.context - context, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            average = np.where(calls.context > 0, calls.input_cost / calls.context, 0.0)
        effort: float | None = 0.0
        if policy == "compact":
            rates = calls.output_rate + _unread_price(calls)
            effort = _sum(read_again * calls.read_rate + resets * summary * rates)
        low = _sum(dropped * np.minimum(calls.read_rate, average))
        high = _sum(dropped * average)
        known = low is not None and high is not None and effort is not None
        rows.append(
            {
                "policy": policy,
                "cap_tokens": options["cap"],
                "n_traces_over": over,
                "n_resets": int(resets.sum()),
                "saving_low": low - effort if known else None,  # type: ignore[operator]  # known
                "saving_high": high - effort if known else None,  # type: ignore[operator]  # known
            }
        )
    return rows


def _replayed(calls: _Calls, cap: float, summary: float) -> tuple[Floats, Floats, Floats]:
    """Let the context grow as it did, and fall back to the first call's input at the cap.

    Returns:
        (n,) context of each call, whether it was reset before the call, and the tokens that the
        call which wrote the summary read.
    """
    context = calls.context.copy()
    resets = np.zeros(len(context))
    read_again = np.zeros(len(context))
    begin = calls.context[calls.first]
    order = np.argsort(calls.place, kind="stable")
    ends = np.searchsorted(calls.place[order], np.arange(1, calls.place.max(initial=0) + 2))
    for start, end in itertools.pairwise(ends):
        at = order[start:end]
        growth = calls.context[at] - calls.context[at - 1]
        grown = np.where(growth > 0, context[at - 1] + growth, context[at - 1])
        # a real compaction, or any fall below the replayed context, holds in the replay too
        grown = np.minimum(grown, calls.context[at])
        base = begin[calls.trace[at]] + summary
        reset = (grown > cap) & (base + np.maximum(growth, 0.0) < grown)
        read_again[at] = np.where(reset, context[at - 1], 0.0)
        resets[at] = reset
        context[at] = np.where(reset, base + np.maximum(growth, 0.0), grown)
    return context, resets, read_again


def _listed(rows: pl.DataFrame, calls: _Calls, compacted: Flags, misses: _Misses) -> pl.DataFrame:
    """Make a row per trace of a group."""

    def total(values: Floats | Flags) -> pl.Series:
        return pl.Series(np.add.reduceat(np.nan_to_num(values.astype(float)), calls.first))

    is_priced = pl.Series(np.add.reduceat(~np.isnan(calls.cost), calls.first) > 0)
    return pl.DataFrame(
        {
            "trace_id": rows["_trace_id"].gather(calls.first),
            "trace_calls": np.diff(np.append(calls.first, len(calls.trace))),
            "trace_peak_tokens": np.maximum.reduceat(calls.context, calls.first),
            "trace_compactions": total(compacted),
            "trace_misses": total(misses.missed),
            "trace_growth_cost_usd": total(_growth_cost(calls)),
            "trace_cost_usd": total(calls.cost),
        },
        schema_overrides={c.name: DTYPES[c.type] for c in _TRACES},
        strict=False,
    ).with_columns(
        pl.when(is_priced).then(c).alias(c) for c in ("trace_growth_cost_usd", "trace_cost_usd")
    )

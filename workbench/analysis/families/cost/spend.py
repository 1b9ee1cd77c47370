"""Spend: a bill taken apart into what it paid for and who spent it."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.result import DTYPES, Answer, empty
from workbench.analysis.inputs import engine
from workbench.schema import KEY_NULL, Column

_UNPRICED = "no call has a price"
_DAYS_PER_MONTH = 30.0
_LEAST_DAYS = 7.0  # a shorter time says little about a month
_SECONDS_PER_DAY = 86_400.0
_NO_TOKENS = "not paid by the token, or not known"
_N_CALLS = Column(
    "n_calls", "int", "count", "Calls; of a part those that had any of it.", KEY_NULL, "calls"
)
_TOKENS = Column("tokens", "int", "tokens", "Tokens, input and output.", _NO_TOKENS)
_COST = Column("cost_usd", "float", "USD", "Cost of the priced calls.", _UNPRICED, "cost")
_SHARE = Column("share", "float", "0..1", "Part of the group's cost.", _UNPRICED)
_ROWS = (
    Column("part", "text", doc="What was paid for.", null=KEY_NULL),
    _N_CALLS,
    _TOKENS,
    _COST,
    _SHARE,
    Column(
        "usd_per_mtok",
        "float",
        "USD/Mtok",
        "Cost of a million of these tokens.",
        _NO_TOKENS,
        "paid per Mtok",
    ),
)
_TOTALS = (
    Column("n_traces", "int", "count", "Traces (of agents: sessions).", KEY_NULL, "traces"),
    _N_CALLS,
    Column(
        "n_unpriced",
        "int",
        "count",
        "Calls that answered and whose cost is not known: the cost is without them.",
        KEY_NULL,
        "calls without a cost",
    ),
    _TOKENS,
    _COST,
    Column("cost_per_trace_usd", "float", "USD", "Cost over traces.", _UNPRICED, "cost per trace"),
    Column(
        "cached_share",
        "float",
        "0..1",
        "Share of the input tokens that were read from a cache.",
        "not known of any",
        "input read from a cache",
    ),
    Column("days", "float", "d", "From the first call to the last.", "fewer than two times"),
    Column(
        "cost_per_month_usd",
        "float",
        "USD",
        "Cost of 30 days at this pace.",
        "less than a week, or no price",
        "cost per 30 days",
    ),
    Column(
        "plan_factor",
        "float",
        doc="Cost of 30 days at list prices over the monthly price of the plan.",
        null="no plan given, less than a week, or no price",
        title="times the plan's price",
    ),
)
_SPENDERS = (
    Column("spender", "text", doc="Who spent it.", null=KEY_NULL),
    _N_CALLS,
    _COST,
    _SHARE,
)
_BY_TOKENS = (
    # part, column of the cost, column of the tokens
    ("cache reads", "cache_read_cost_usd", "cache_read_tokens"),
    ("cache writes, 5 min", "cache_write_5m_cost_usd", "cache_write_5m_tokens"),
    ("cache writes, 1 h", "cache_write_1h_cost_usd", "cache_write_1h_tokens"),
    ("fresh input", "fresh_cost_usd", "fresh_input_tokens"),
    ("thinking", "thinking_cost_usd", "reasoning_tokens"),
    ("visible output", "visible_cost_usd", "_visible"),
)
_REQUESTS = "requests"
_MACHINE = "machine time"
_TOOLS = "paid tools"
_REST = "not taken apart"
PARTS = (*(name for name, _, _ in _BY_TOKENS), _REQUESTS, _MACHINE, _TOOLS, _REST)
_NUMBERS = (
    *(c for _, cost, tokens in _BY_TOKENS for c in (cost, tokens) if c != "_visible"),
    "request_cost_usd",
    "machine_cost_usd",
    "cost_usd",
    "input_tokens",
    "output_tokens",
)
_FLAGS = ("_call", "_priced", "_unpriced", "_silent", "_broken", "_n_tool", "_n_rest", "_n_machine")
_COSTS = ("_cost", "_tool", "_rest", "request_cost_usd", "machine_cost_usd")
_VALUES = (*_COSTS, "input_tokens", "output_tokens")
_TEXTS = ("spender", "tool_call_id", "error_type")


@analysis(
    name="spend",
    title="Spend",
    question="What did the money go to: context sent again, caching, fresh input, thinking, "
    "answers, tools, sub-agents, judges?",
    source="price sheets times token counts, call by call; the parts add up to the cost",
    needs=("trace_id", "cost_usd"),
    scored=False,
    options=(
        Option(
            "plan_usd",
            "float",
            None,
            "monthly price of a plan, to compare with the cost at list prices",
            low=0,
        ),
    ),
    columns=tuple(dict.fromkeys((*_ROWS, *_TOTALS, *_SPENDERS))),
    rows="call_costs",
    chart=ChartSpec("spend", x="cost_usd", y="group"),
    by_hand={
        "by": ("model",),
        "where": "model:made-up-thinker,made-up-terse",
        "worked": "A call of Thinker has 1,000 input tokens at $1 a million, 600 tokens of "
        "thinking and 200 visible ones at $5: $0.001 + $0.003 + $0.001, so thinking is 60 % of "
        "its bill. Terse does not think: 1,000 tokens at $2 and 200 at $10 are $0.002 each.",
    },
    settles=None,
    within=("configuration", "provider", "task_version", "run_id"),
)
def spend(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Take the cost of calls apart, the dearest group first.

    Grain: one row per group and part; `more["totals"]`: one per group; `more["spenders"]`: one per
    group and spender (main, sub-agent, judge, a simulated user, tools that are paid). Useful groups
    are `project`, `branch`, `session`, `agent`, `day`, `call_model` and `spender`.

    The parts of a call: tokens read from a cache, written to one for 5 minutes or an hour, input
    that was neither, thinking, visible output, the fixed price of a request; each at its own price.
    They add up to `cost_usd`. Where the provider does not report thinking, it is in the visible
    output; the notes count such calls. A machine paid by the hour has one part. A call with
    audio, images or video, or of which only the billed sum is known, is "not taken apart". Requests
    that broke off and were sent again count: they were paid.

    A call is counted once, however often a log repeats it: sources give it the id of the provider's
    reply. Costs are at list prices of the call's time; who has a plan pays that instead
    (`plan_usd`). It is the sum over the slice and no estimate of anything else, so it has no
    interval; calls without a known cost are counted, not guessed.
    """
    del rng  # nothing is drawn
    rows = _prepared(frame)
    keys = [c for c in by if c != "spender"]
    sums = _sums(rows, [*keys, "spender"])
    if sums.is_empty():
        return Answer(
            empty(by, _ROWS),
            more={"totals": empty(by, _TOTALS), "spenders": empty(by, _SPENDERS)},
        )
    traces = _traces(rows, by)
    grouped = _added(sums, by)
    totals = _totals(grouped, traces, by, options["plan_usd"])
    order = totals.select(*by).with_row_index("_place")
    parts = _parts(grouped, by)
    table = _sorted(parts.with_columns(_part=pl.col("part").cast(pl.Enum(PARTS))), order, by)
    spenders = _spenders(sums, by)
    return Answer(
        table.drop("_part"),
        more={
            "totals": totals,
            "spenders": _sorted(spenders, order, by, "cost_usd"),
        },
        notes=_notes(sums, totals, options["plan_usd"]),
    )


def _prepared(frame: "nw.LazyFrame[Any]") -> "nw.LazyFrame[Any]":
    """Add the columns that a frame of another origin may lack, and the flags that are counted."""
    present = set(frame.collect_schema().names())
    absent = {c: nw.lit(None, nw.Float64).alias(c) for c in _NUMBERS if c not in present}
    absent |= {c: nw.lit(None, nw.String).alias(c) for c in _TEXTS if c not in present}
    if "started_at" not in present:
        absent["started_at"] = nw.lit(None, nw.Datetime("us")).alias("started_at")
    frame = frame.with_columns(*absent.values()) if absent else frame
    frame = frame.with_columns(
        *[nw.col(c).cast(nw.Float64) for c in _NUMBERS],
        spender=nw.when(nw.col("spender").is_null())
        .then(nw.lit("main"))
        .otherwise(nw.col("spender")),
    )
    is_tool = ~nw.col("tool_call_id").is_null()
    cost = nw.col("cost_usd")
    by_hour = ~nw.col("machine_cost_usd").is_null()
    is_split = ~nw.col("fresh_cost_usd").is_null()
    is_rest = ~is_tool & ~is_split & ~by_hour
    known_thinking = nw.col("reasoning_tokens").fill_null(0.0)
    return frame.with_columns(
        _call=_one(~is_tool),
        _priced=_one(~is_tool & ~cost.is_null()),
        _unpriced=_one(~is_tool & cost.is_null() & nw.col("error_type").is_null()),
        _silent=_one(~is_tool & is_split & nw.col("reasoning_tokens").is_null()),
        _tool=nw.when(is_tool).then(cost),
        _n_tool=_one(is_tool),
        _n_machine=_one(by_hour),
        _rest=nw.when(is_rest).then(cost),
        _n_rest=_one(is_rest & ~cost.is_null()),
        _visible=nw.col("output_tokens") - known_thinking,
        _cost=cost,
        _broken=_one(~nw.col("retried_as").is_null()) if "retried_as" in present else nw.lit(0.0),
    )


def _one(test: nw.Expr) -> nw.Expr:
    return nw.when(test).then(nw.lit(1.0)).otherwise(nw.lit(0.0))


def _sums(rows: "nw.LazyFrame[Any]", keys: Sequence[str]) -> pl.DataFrame:
    """Add up costs, tokens and counts; null where no row has a value."""
    columns = [c for _, cost, tokens in _BY_TOKENS for c in (cost, tokens)]
    some = [*dict.fromkeys((*columns, *_VALUES))]
    counted = [(f"_n_{cost}", tokens) for _, cost, tokens in _BY_TOKENS]
    rows = rows.with_columns(
        *[_one(nw.col(tokens).fill_null(0.0) > 0).alias(name) for name, tokens in counted]
    )
    grouped = rows.group_by(*keys).agg(
        *[nw.col(c).sum() for c in (*_FLAGS, *(name for name, _ in counted))],
        *[nw.col(c).sum() for c in some],
        *[nw.col(c).count().alias(f"_known_{c}") for c in some],
        nw.col("started_at").min().alias("_first"),
        nw.col("started_at").max().alias("_last"),
    )
    sums = engine.spelled(engine.collect(grouped))
    # a sum of no value is 0 in one engine and null in another
    return sums.with_columns(
        *[pl.when(pl.col(f"_known_{c}") > 0).then(pl.col(c)).alias(c) for c in some]
    ).drop(f"_known_{c}" for c in some)


def _traces(rows: "nw.LazyFrame[Any]", by: Sequence[str]) -> pl.DataFrame:
    """Count the traces of each group."""
    counted = rows.select(*by, "trace_id").unique().group_by(*by).agg(nw.len().alias("n_traces"))
    return engine.spelled(engine.collect(counted))


def _added(sums: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Add the spenders of a group up."""
    numbers = [c for c, dtype in sums.schema.items() if dtype.is_numeric() and c not in by]
    total = [pl.when(pl.col(c).count() > 0).then(pl.col(c).sum()).alias(c) for c in numbers]
    return sums.group_by(list(by)).agg(*total, pl.col("_first").min(), pl.col("_last").max())


def _totals(
    grouped: pl.DataFrame, traces: pl.DataFrame, by: Sequence[str], plan_usd: float | None
) -> pl.DataFrame:
    days = (pl.col("_last") - pl.col("_first")).dt.total_microseconds() / 1e6 / _SECONDS_PER_DAY
    is_long = pl.col("days") >= _LEAST_DAYS
    month = pl.col("cost_usd") / pl.col("days") * _DAYS_PER_MONTH
    plan = pl.lit(plan_usd, pl.Float64)
    table = (
        grouped.join(traces, on=list(by), how="left", nulls_equal=True)
        .with_columns(days=pl.when(days > 0).then(days), cost_usd=pl.col("_cost"))
        .with_columns(
            n_calls=pl.col("_call"),
            n_unpriced=pl.col("_unpriced"),
            tokens=pl.sum_horizontal("input_tokens", "output_tokens", ignore_nulls=True),
            cost_per_trace_usd=pl.col("cost_usd") / pl.col("n_traces"),
            cached_share=pl.when(pl.col("input_tokens") > 0).then(
                pl.col("cache_read_tokens") / pl.col("input_tokens")
            ),
            cost_per_month_usd=pl.when(is_long).then(month),
        )
        .with_columns(
            tokens=pl.when(
                pl.any_horizontal(pl.col("input_tokens", "output_tokens").is_not_null())
            ).then("tokens"),
            plan_factor=pl.when(plan > 0).then(pl.col("cost_per_month_usd") / plan),
        )
    )
    task = ["task"] if "task" in by else []
    return table.sort(
        *task,
        "cost_usd",
        *by,
        descending=[*([False] * len(task)), True, *([False] * len(by))],
        nulls_last=True,
    ).select(*by, *(pl.col(c.name).cast(DTYPES[c.type]) for c in _TOTALS))


def _parts(grouped: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """Write one row per group and part that it has."""
    pieces = [
        grouped.select(
            *by,
            part=pl.lit(name),
            n_calls=pl.col(f"_n_{cost}"),
            tokens=pl.col(tokens),
            cost_usd=pl.col(cost),
            _cost="_cost",
        )
        for name, cost, tokens in _BY_TOKENS
    ]
    for name, cost, n in (
        (_REQUESTS, "request_cost_usd", "_priced"),
        (_MACHINE, "machine_cost_usd", "_n_machine"),
        (_TOOLS, "_tool", "_n_tool"),
        (_REST, "_rest", "_n_rest"),
    ):
        pieces.append(
            grouped.select(
                *by,
                part=pl.lit(name),
                n_calls=pl.col(n),
                tokens=pl.lit(None, pl.Float64),
                cost_usd=pl.col(cost),
                _cost="_cost",
            ).filter(pl.col("cost_usd") != 0)
        )
    rows = pl.concat(pieces).filter((pl.col("tokens") > 0) | (pl.col("cost_usd") != 0))
    per_token = pl.col("cost_usd") / pl.col("tokens") * 1e6
    return rows.with_columns(
        share=pl.when(pl.col("_cost") > 0).then(pl.col("cost_usd") / pl.col("_cost")),
        usd_per_mtok=pl.when(pl.col("tokens") > 0).then(per_token),
    ).select(*by, *(pl.col(c.name).cast(DTYPES[c.type]) for c in _ROWS))


def _spenders(sums: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    whole = pl.col("_cost").sum().over(list(by)) if by else pl.col("_cost").sum()
    rows = sums.with_columns(
        n_calls=pl.col("_call") + pl.col("_n_tool"),
        cost_usd=pl.col("_cost"),
        share=pl.when(whole > 0).then(pl.col("_cost") / whole),
    )
    return rows.select(
        *by, *(pl.col(c.name).cast(DTYPES[c.type]) for c in _SPENDERS if c.name not in by)
    )


def _sorted(
    table: pl.DataFrame, order: pl.DataFrame, by: Sequence[str], cost: str = ""
) -> pl.DataFrame:
    """Sort rows as the totals of their groups, within a group by part or the dearest first."""
    placed = table.join(order, on=list(by), how="left", nulls_equal=True)
    if not cost:
        return placed.sort("_place", "_part").drop("_place")
    name = [] if "spender" in by else ["spender"]
    descending = [False, True, *([False] * len(name))]
    return placed.sort("_place", cost, *name, descending=descending, nulls_last=True).drop("_place")


def _notes(sums: pl.DataFrame, totals: pl.DataFrame, plan_usd: float | None) -> tuple[str, ...]:
    notes = []
    unpriced, calls = int(sums["_unpriced"].sum()), int(sums["_call"].sum())
    if unpriced:
        notes.append(
            f"{unpriced:,} of {calls:,} calls have no known cost: the costs are without them"
        )
    silent = int(sums["_silent"].sum())
    if silent:
        notes.append(
            f"{silent:,} of {calls:,} calls do not report thinking: what they thought is in the"
            " visible output"
        )
    broken = int(sums["_broken"].sum())
    if broken:
        notes.append(f"{broken:,} requests broke off and were sent again; they are included")
    if plan_usd:
        month = float(totals["cost_per_month_usd"].sum())
        if totals["cost_per_month_usd"].count():
            notes.append(
                f"at list prices 30 days cost ${month:,.2f}, {month / plan_usd:.3g} times the"
                f" plan of ${plan_usd:,.2f}; the plan's limits are not known here"
            )
    return tuple(notes)

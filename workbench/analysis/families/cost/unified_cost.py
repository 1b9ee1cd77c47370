"""Unified cost: tokens and tool calls in dollars, and the effect of a cap on tool calls."""

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.core.declaration import ChartSpec, Option, analysis
from workbench.analysis.core.null_reasons import FEW_ITEMS_OR_UNKNOWN
from workbench.analysis.core.options import ERRORS, LEVEL, OUTCOME, RESAMPLES, SHARED
from workbench.analysis.core.result import Answer
from workbench.analysis.inputs import sample
from workbench.analysis.inputs.panel import Panel
from workbench.analysis.inputs.sample import ends
from workbench.errors import AnalysisError
from workbench.schema import KEY_NULL, Column

_NOT = "the cost of tokens, or the price of a tool that was called, is unknown"
_ALL = (
    Column("n_items", "int", "count", "Items with a trace that did not fail.", KEY_NULL, "items"),
    Column("n", "int", "count", "Traces that did not fail.", KEY_NULL, "traces"),
    Column(
        "n_priced",
        "int",
        "count",
        "Those whose tokens and tools are all priced.",
        KEY_NULL,
        "priced",
    ),
    *ends(
        Column(
            "unified_cost_usd",
            "float",
            "USD",
            "Mean cost of a trace's tokens and tools; judges apart.",
            _NOT,
            "unified cost",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
    Column("token_cost_usd", "float", "USD", "Part of it that paid for tokens.", _NOT, "tokens"),
    Column("tool_cost_usd", "float", "USD", "Part of it that paid for tools.", _NOT, "tools"),
    Column(
        "tool_share",
        "float",
        "0..1",
        "Cost of tools over unified cost.",
        f"{_NOT}, or nothing was charged",
        "share of tools",
    ),
    Column(
        "calls_per_trace",
        "float",
        "count",
        "Mean tool calls of a trace.",
        "not known",
        "tool calls",
    ),
)
_PASSES = (
    Column(
        "rate",
        "float",
        "0..1",
        "Accuracy of the scored ones with a unified cost.",
        "none",
        "accuracy",
    ),
    *ends(
        Column(
            "unified_per_pass_usd",
            "float",
            "USD",
            "Their mean unified cost over their accuracy; infinite where nothing passed.",
            "none",
            "unified cost per right answer",
        ),
        FEW_ITEMS_OR_UNKNOWN,
    ),
)
_BUDGETS = (
    Column(
        "budget_calls",
        "int",
        "count",
        "Cap on the tool calls of a trace.",
        KEY_NULL,
        "cap on tool calls",
    ),
    Column(
        "within",
        "float",
        "0..1",
        "Share of the priced, scored traces that called no more.",
        KEY_NULL,
        "within the cap",
    ),
    Column(
        "rate_at_least",
        "float",
        "0..1",
        "Accuracy if each trace that called more ended wrong.",
        KEY_NULL,
        "accuracy, at least",
    ),
    Column(
        "cost_at_most_usd",
        "float",
        "USD",
        "Unified cost with all tokens paid and tools up to the cap.",
        KEY_NULL,
        "unified cost, at most",
    ),
    Column(
        "per_pass_at_most_usd",
        "float",
        "USD",
        "That cost over that accuracy; infinite where nothing is left.",
        KEY_NULL,
        "per right answer, at most",
    ),
)
_MEASURES = ("unified", "tokens_usd", "tools_usd", "uses")
_MOST_BUDGETS = 12


@analysis(
    name="unified-cost",
    title="Unified cost",
    question="What do tokens and tools cost in one currency, and what would a cap on tool calls "
    "leave?",
    source="BATS, arXiv 2511.17006 (C = C_token + Σ c_i P_i, from a note; its prices of tools and "
    "its rule for cached tokens were not found)",
    needs=("item_id",),
    measures=("cost_usd",),
    scored=False,
    options=(
        Option(
            "prices", "text", None, "price per call of each tool in USD: search=0.001, browse=0.002"
        ),
        Option(
            "tool_usd",
            "float",
            None,
            "price per call of every other tool whose charge is not recorded",
            low=0,
        ),
        OUTCOME,
        SHARED,
        ERRORS,
        LEVEL,
        RESAMPLES,
    ),
    columns=(*_ALL, *_PASSES, *_BUDGETS),
    rows="tool_uses",
    example={"by": ("model",), "where": "strategy:react", "tool_usd": 0.0001},
    chart=ChartSpec(
        "figures", x="unified_cost_usd", y="group", also=("unified_per_pass_usd", "tool_share")
    ),
)
def unified_cost(
    frame: "nw.LazyFrame[Any]", *, by: Sequence[str], rng: np.random.Generator, **options: Any
) -> Answer:
    """Add tool calls at a price per call to the cost of tokens, the cheapest first.

    Results are per task if `by` names the task.

    Grain: one row per group; `more["budgets"]`: one row per group and cap. Unified cost = cost of
    tokens at the price in force (cached ones at theirs) + Σ over tools of calls × price per call. A
    tool's price is that of `prices`; else what it charged as recorded; else `tool_usd`; else
    unknown, and so is the cost of the trace: no tool is free by default. A trace without tool calls
    costs its tokens.

    The caps replay the traces at hand: a trace that called no more is as it was, one that called
    more counts as wrong, with all its tokens and its tools in proportion up to the cap. So accuracy
    is a lower and cost an upper bound: a model that knows its cap hurries, and one that is stopped
    spends fewer tokens. Runs with caps of their own are configurations, and have rows of their own.

    Given rows of `tool_uses` the tools are distinguished; given traces there is only their number,
    and `tool_usd`. Cost per right answer is over the traces that are scored and priced. Intervals:
    expanded percentile bootstrap of item clusters.
    """
    prices = _prices(options["prices"])
    traces = _traces(frame, by, prices, options)
    priced = traces.filter(~nw.col("unified").is_null())
    budgets = _budgets(priced)
    capped = _capped(traces, budgets, options)
    names = [f"{what}_{n}" for n in range(len(budgets)) for what in ("within", "right", "spent")]
    source = sample.Source(capped, tuple(by), (*_MEASURES, *names), rng, options)
    every = source.built((), scored=False)
    scored = source.built(("unified",), scored=True)
    table = sample.tabulate(every, by, _ALL, lambda p: _rows(p, rng, options))
    passes = sample.tabulate(scored, by, _PASSES, lambda p: _passes(p, rng, options))
    table = table.join(passes, on=list(by), how="left", nulls_equal=True)
    first = ["task"] if "task" in by else []
    table = table.sort(*first, "unified_cost_usd", *by, nulls_last=True)
    silent = int(table["n"].sum()) - int(table["n_priced"].sum())
    replayed = [
        _replayed(panel, n, cap, by, task)
        for task, panel in scored.parts
        for n, cap in enumerate(budgets)
    ]
    more = (
        {"budgets": pl.concat(replayed).sort(*by, "budget_calls", nulls_last=True)}
        if replayed
        else {}
    )
    dropped = every.dropped | {"traces whose tokens or tools are not all priced": silent}
    notes = (*every.notes, *_notes(table, frame, prices, options))
    return Answer(table, more=more, dropped=dropped, notes=notes)


def _prices(text: str | None) -> dict[str, float]:
    """Read "search=0.001, browse=0.002"; AnalysisError says what is wrong."""
    prices: dict[str, float] = {}
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, sign, price = (piece.strip() for piece in part.rpartition("="))
        try:
            value = float(price)
        except ValueError as error:
            raise AnalysisError(f"option prices: {part.strip()!r} is not name=price") from error
        if not sign or not name or not 0 <= value < float("inf"):
            raise AnalysisError(f"option prices: {part.strip()!r} is not name=price of at least 0")
        prices[name] = value
    return prices


def _tells_tools(columns: Iterable[str]) -> bool:
    """Whether rows are of `tool_uses`: one per tool call, with what its trace cost."""
    return {"tool", "trace_cost_usd", "trace_id"} <= set(columns)


def _traces(
    frame: "nw.LazyFrame[Any]",
    by: Sequence[str],
    prices: Mapping[str, float],
    options: dict[str, Any],
) -> "nw.LazyFrame[Any]":
    """Add the cost of tokens, the cost of tools and their sum to every trace."""
    present = set(frame.collect_schema().names())
    other = nw.lit(None, nw.Float64) if options["tool_usd"] is None else nw.lit(options["tool_usd"])
    if not _tells_tools(present):
        missing = {
            c: nw.lit(None, nw.Float64) for c in ("cost_usd", "n_tool_calls") if c not in present
        }
        frame = frame.with_columns(**missing) if missing else frame
        uses = nw.col("n_tool_calls").cast(nw.Float64)
        tools = nw.when(uses == 0).then(nw.lit(0.0)).otherwise(uses * other)
        tokens = nw.col("cost_usd").cast(nw.Float64)
        return _whole(frame.with_columns(uses=uses, tools_usd=tools, tokens_usd=tokens))
    charge = nw.col("cost_usd").cast(nw.Float64)
    price = nw.when(~charge.is_null()).then(charge).otherwise(other)
    for name, value in prices.items():
        price = nw.when(nw.col("tool") == name).then(nw.lit(value)).otherwise(price)
    called = ~nw.col("tool").is_null()
    trace_columns = ("task_id", "cluster", "passed", "score", "trace_error_type")
    grouped = (
        frame.with_columns(
            _price=nw.when(called).then(price), _called=nw.when(called).then(nw.lit(1.0))
        )
        .group_by(*dict.fromkeys((*by, "item_id", "trace_id")))
        .agg(
            *[nw.col(c).max() for c in trace_columns if c in present and c not in by],
            nw.col("trace_cost_usd").cast(nw.Float64).max().alias("tokens_usd"),
            nw.col("_called").count().cast(nw.Float64).alias("uses"),
            nw.col("_price").count().cast(nw.Float64).alias("_told"),
            nw.col("_price").sum().alias("_paid"),
        )
    )
    paid = nw.when(nw.col("_told") == nw.col("uses")).then(nw.col("_paid").fill_null(0.0))
    whole = grouped.with_columns(tools_usd=paid)
    if "trace_error_type" in present:
        whole = whole.with_columns(error_type=nw.col("trace_error_type"))
    return _whole(whole)


def _whole(traces: "nw.LazyFrame[Any]") -> "nw.LazyFrame[Any]":
    """Add the sum; its parts count only where both are known, so that they add up."""
    both = ~(nw.col("tokens_usd").is_null() | nw.col("tools_usd").is_null())
    return traces.with_columns(
        tokens_usd=nw.when(both).then(nw.col("tokens_usd")),
        tools_usd=nw.when(both).then(nw.col("tools_usd")),
        unified=nw.col("tokens_usd") + nw.col("tools_usd"),
    )


def _budgets(priced: "nw.LazyFrame[Any]") -> list[int]:
    """The caps to replay: each number of calls up to a dozen, beyond that even in the logarithm."""
    seen: pl.DataFrame = priced.select(nw.col("uses").max()).collect("polars").to_native()
    most = seen["uses"].max() if seen.height else None
    if not isinstance(most, float) or most < 1:
        return []
    if most < _MOST_BUDGETS:
        return list(range(int(most) + 1))
    return [0, *sorted({round(x) for x in np.geomspace(1, most, _MOST_BUDGETS - 1).tolist()})]


def _capped(
    traces: "nw.LazyFrame[Any]", budgets: Sequence[int], options: dict[str, Any]
) -> "nw.LazyFrame[Any]":
    """Add what is left of every trace under each cap as columns."""
    uses = nw.col("uses")
    outcome = nw.col(options["outcome"]).cast(nw.Float64)
    columns: dict[str, nw.Expr] = {}
    for n, cap in enumerate(budgets):
        inside = nw.when(uses <= cap).then(nw.lit(1.0)).otherwise(nw.lit(0.0))
        part = nw.when(uses <= cap).then(nw.lit(1.0)).otherwise(cap / uses)
        columns |= {
            f"within_{n}": inside,
            f"right_{n}": inside * outcome,
            f"spent_{n}": nw.col("tokens_usd") + nw.col("tools_usd") * part,
        }
    return traces.with_columns(**columns) if columns else traces


def _rows(panel: Panel, rng: np.random.Generator, options: dict[str, Any]) -> list[pl.Series]:
    values = {m: panel.measure(m) for m in _MEASURES}
    bootstrap = sample.draw(panel, values, rng, options)
    known = np.nansum(panel.matrix("unified_known"), axis=0)
    means = bootstrap.means
    return [
        *sample.counts(panel),
        pl.Series("n_priced", known).cast(pl.Int64),
        *bootstrap.series("unified_cost_usd", operator.itemgetter("unified")),
        pl.Series("token_cost_usd", means["tokens_usd"]).fill_nan(None),
        pl.Series("tool_cost_usd", means["tools_usd"]).fill_nan(None),
        pl.Series("tool_share", sample.per(means["tools_usd"], means["unified"])).fill_nan(None),
        pl.Series("calls_per_trace", means["uses"]).fill_nan(None),
    ]


def _passes(panel: Panel, rng: np.random.Generator, options: dict[str, Any]) -> list[pl.Series]:
    values = {"unified": panel.measure("unified"), "rate": panel.outcome()}
    bootstrap = sample.draw(panel, values, rng, options)
    rate = pl.Series("rate", bootstrap.means["rate"]).fill_nan(None)
    return [rate, *bootstrap.per_success("unified_per_pass_usd", operator.itemgetter("unified"))]


def _replayed(panel: Panel, n: int, cap: int, by: Sequence[str], task: str | None) -> pl.DataFrame:
    """Compute each group's figures under a cap."""
    within, right, spent = (
        np.nanmean(panel.measure(f"{what}_{n}"), axis=0) for what in ("within", "right", "spent")
    )
    where = [pl.lit(task, pl.String).alias("task")] if task is not None else []
    return panel.groups.with_columns(
        pl.lit(cap, pl.Int64).alias("budget_calls"),
        pl.Series("within", within),
        pl.Series("rate_at_least", right),
        pl.Series("cost_at_most_usd", spent),
        pl.Series("per_pass_at_most_usd", sample.over(spent, right)),
        *where,
    ).select(*by, *(c.name for c in _BUDGETS))


def _notes(
    table: pl.DataFrame,
    frame: "nw.LazyFrame[Any]",
    prices: Mapping[str, float],
    options: dict[str, Any],
) -> tuple[str, ...]:
    if table.is_empty():
        return ()
    notes = []
    apart = _tells_tools(frame.collect_schema().names())
    if prices and not apart:
        notes.append("the frame does not tell tools apart, so prices were not used: give tool_uses")
    called = table["calls_per_trace"].max()
    if isinstance(called, float) and called == 0:
        notes.append("no trace called a tool: the unified cost is that of tokens")
    elif int(table["n_priced"].sum()) < int(table["n"].sum()) and options["tool_usd"] is None:
        notes.append(
            "where a tool charged nothing that is recorded, give its price: prices, or tool_usd"
        )
    return tuple(notes)

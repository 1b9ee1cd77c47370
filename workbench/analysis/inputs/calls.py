"""Calls as rows: their number of requests, and their sums per trace."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw

from workbench.schema import APART

_TRACE_COLUMNS = ("item_id", "task_id", "cluster", "passed", "score")


def is_calls(frame: "nw.LazyFrame[Any]") -> bool:
    """Whether the rows are calls (`call_facts`) rather than traces."""
    return "call_id" in frame.collect_schema().names()


def requests(frame: "nw.LazyFrame[Any]") -> nw.Expr:
    """Count the requests of a row, as a float; null where its columns leave that open.

    Sources that know totals alone make one call of a run of many turns. Such a call says its number
    (`n_requests`), or its trace does (`n_turns`); of a trace its calls or its turns, whichever are
    more. A frame without these columns has a request a row.
    """
    present = set(frame.collect_schema().names())
    of_calls = is_calls(frame)
    own_count = "n_requests" if of_calls else "n_calls"
    known = [nw.col(c).cast(nw.Float64) for c in (own_count, "n_turns") if c in present]
    if not known or (of_calls and own_count not in present):
        return nw.lit(1.0)
    n = known[0]
    if len(known) == 2:
        turns = known[1]
        more = n.is_null() if of_calls else n.is_null() | (turns > n)
        n = nw.when(more).then(turns).otherwise(n)
    return nw.when(n > 1).then(n).otherwise(nw.when(~n.is_null()).then(nw.lit(1.0)))


def is_alone(frame: "nw.LazyFrame[Any]") -> nw.Expr:
    """Whether a row is one request, as far as is known: a law of single calls holds of no other."""
    return requests(frame).fill_null(1.0) <= 1


def summed(frame: "nw.LazyFrame[Any]") -> tuple[str, ...]:
    """Write a note on rows that sum up several calls, for a law of single calls; () without any."""
    counted = frame.with_columns(_requests=requests(frame))
    several = counted.filter(nw.col("_requests") > 1).select(nw.len().alias("n"))
    n = int(several.collect("polars").to_native()["n"][0])
    if not n:
        return ()
    if not is_calls(frame):
        return (f"the law is of a call: for {n} traces of several give call_facts",)
    return (
        f"the law is of a call: {n} rows are totals of several calls, and nothing else is recorded",
    )


def to_traces(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], sums: Sequence[str]
) -> "nw.LazyFrame[Any]":
    """Add up columns over a trace's calls; unknown where one call's is. Judges' calls are no part.

    Nor are requests that broke off and were made again, and answers of earlier tries that the trace
    has no use for. A trace failed if it says so, else if one of its calls did; outcomes, the item
    and its cluster are kept where the frame has them, and nothing else but `by`: there are many
    traces to keep it for.
    """
    present = set(frame.collect_schema().names())
    if "retried_as" in present:
        frame = frame.filter(nw.col("retried_as").is_null())
    if {"trace_error_type", "error_type"} <= present:
        # of a trace that did not fail, the calls that did were made in vain
        vain = nw.col("trace_error_type").is_null() & ~nw.col("error_type").is_null()
        frame = frame.filter(~vain).with_columns(error_type=nw.col("trace_error_type"))
    if "role" in present:
        frame = frame.filter(~nw.col("role").is_in(APART) | nw.col("role").is_null())
    have = [s for s in sums if s in present]
    trace_columns = [c for c in _TRACE_COLUMNS if c in present and c not in by]
    error = ["error_type"] if "error_type" in present else []
    grouped = frame.group_by(*by, "trace_id").agg(
        *[nw.col(c).max() for c in (*trace_columns, *error)],
        nw.len().alias("n_calls"),
        # The sum is NaN where one is unknown: it takes half the room of a sum and a count.
        *[nw.col(s).cast(nw.Float64).fill_null(float("nan")).sum().alias(s) for s in have],
    )
    return grouped.with_columns(nw.when(~nw.col(s).is_nan()).then(nw.col(s)).alias(s) for s in have)

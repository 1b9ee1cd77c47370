"""Figures of single calls, added up to traces where a frame holds calls."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw

_KEPT = ("item_id", "task_id", "cluster", "passed", "score")


def is_calls(frame: "nw.LazyFrame[Any]") -> bool:
    """Whether the rows are calls (`call_facts`) rather than traces."""
    return "call_id" in frame.collect_schema().names()


def to_traces(
    frame: "nw.LazyFrame[Any]", by: Sequence[str], sums: Sequence[str]
) -> "nw.LazyFrame[Any]":
    """Add up columns over a trace's calls; unknown where one call's is. Judges' calls are no part.

    Nor are requests that broke off and were made again, and answers of earlier tries that the trace has no
    use for. A trace failed if it says so, else if one of its calls did; outcomes, the item and its cluster
    are kept where the frame has them, and nothing else but `by`: there are many traces to keep it for.
    """
    present = set(frame.collect_schema().names())
    if "retried_as" in present:
        frame = frame.filter(nw.col("retried_as").is_null())
    if {"trace_error_type", "error_type"} <= present:
        # of a trace that did not fail, the calls that did were made in vain
        vain = nw.col("trace_error_type").is_null() & ~nw.col("error_type").is_null()
        frame = frame.filter(~vain).with_columns(error_type=nw.col("trace_error_type"))
    if "role" in present:
        frame = frame.filter((nw.col("role") != "judge") | nw.col("role").is_null())
    have = [s for s in sums if s in present]
    kept = [c for c in _KEPT if c in present and c not in by]
    error = ["error_type"] if "error_type" in present else []
    grouped = frame.group_by(*by, "trace_id").agg(
        *[nw.col(c).max() for c in (*kept, *error)],
        nw.len().alias("n_calls"),
        # The sum is NaN where one is unknown: it takes half the room of a sum and a count.
        *[nw.col(s).cast(nw.Float64).fill_null(float("nan")).sum().alias(s) for s in have],
    )
    return grouped.with_columns(nw.when(~nw.col(s).is_nan()).then(nw.col(s)).alias(s) for s in have)

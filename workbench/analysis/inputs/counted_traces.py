"""Counted traces: the rule of which traces count, applied before every analysis.

- A try that was made again (`is_replaced`) was paid, and is no answer: its rows are left out, and
  counted.
- A trace failed where it ended in an error and its source gave it no score. One that was scored is
  an answer, whatever ended it: terminal-bench counts what resolved although it timed out.

Failed and unscored traces say nothing about the answer; `reduce` leaves them out, or counts failed
ones as wrong.
"""

from typing import Any

import narwhals as nw

REPLACED = "tries that were made again"

# the same rule where code is written: over `trace_facts`, and over a frame of it
COUNTS_SQL = "is_replaced IS NOT TRUE"
FAILED_SQL = "(error_type IS NOT NULL AND passed IS NULL AND score IS NULL)"
COUNTS_CODE = '~pl.col("is_replaced").fill_null(False)'
FAILED_CODE = (
    '(pl.col("error_type").is_not_null() & pl.col("passed").is_null() & pl.col("score").is_null())'
)


def counting(frame: "nw.LazyFrame[Any]") -> "nw.LazyFrame[Any]":
    """Leave out what was made again, and call failed only what has no score.

    Args:
        frame: rows of a view, of traces or of what belongs to them; absent columns decide nothing.

    Returns:
        The rows that count or failed; `error_type` (or `trace_error_type`, where a row is not a
        trace) is null where the trace was scored. Doing it twice changes nothing.
    """
    present = set(frame.collect_schema().names())
    if "is_replaced" in present:
        frame = frame.filter(~nw.col("is_replaced").fill_null(value=False))
    error = "trace_error_type" if "trace_error_type" in present else "error_type"
    of_calls = "call_id" in present and error == "error_type"
    unscored = [nw.col(c).is_null() for c in ("passed", "score") if c in present]
    if error not in present or of_calls or not unscored:
        return frame
    failed = unscored[0] if len(unscored) == 1 else unscored[0] & unscored[1]
    return frame.with_columns(nw.when(failed).then(nw.col(error)).alias(error))


def n_replaced(frame: "nw.LazyFrame[Any]") -> int:
    """Count the traces that `counting` leaves out."""
    present = frame.collect_schema().names()
    if "is_replaced" not in present:
        return 0
    rows = frame.filter(nw.col("is_replaced").fill_null(value=False))
    rows = rows.select("trace_id").unique() if "trace_id" in present else rows
    counted = rows.select(nw.len().alias("n")).collect("polars").to_native()
    return int(counted["n"][0])

"""Tool calls as rows, trace by trace, with those that repeat an earlier call."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis.inputs import engine, per_trace

# Whether an earlier row of the trace asked the same tool in the same words; what was not recorded
# is not seen to repeat.
IS_REPEAT = pl.col("_words").is_not_null() & ~pl.col("_words").is_first_distinct()
_BITS = 16  # of a call's place in its trace, where both are sorted as one number
_LAST = (1 << _BITS) - 1


def fetch(
    frame: "nw.LazyFrame[Any]",
    by: Sequence[str],
    numbers: Sequence[str],
    *,
    texts: Sequence[str] = (),
    transform: engine.PieceTransform | None = None,
) -> pl.DataFrame:
    """Fetch rows of `tool_uses`.

    Args:
        frame: the rows.
        by: the columns that name a group.
        numbers: columns of numbers.
        texts: columns of texts.
        transform: reduces each piece of rows; see `per_trace.fetch`.

    Returns:
        As `per_trace.fetch`, `_passed`, `_trace_id` and `_tool` too, with `_trace`, a number for
        the trace; `_words`, one for what was asked; `_failed`, whether the trace failed; `_wrong`,
        whether the call did.
    """

    def read(rows: pl.DataFrame) -> pl.DataFrame:
        # Of 10⁷ traces two have the same number once in 400,000 times.
        rows = rows.with_columns(_trace=pl.col("_trace_id").hash())
        request = pl.col("_tool").hash(1) + pl.col("_arguments").hash(2)  # wraps around
        recorded = pl.all_horizontal(pl.col("_trace_id", "_tool", "_arguments").is_not_null())
        rows = rows.with_columns(
            _words=pl.when(recorded).then(pl.col("_trace") + request),
            _failed=pl.col("_trace_error_type").is_not_null(),
            _wrong=pl.col("_tool").is_not_null() & pl.col("_error_type").is_not_null(),
            _ordinal=pl.col("_ordinal").cast(pl.Int32),
        )
        rows = transform(rows) if transform else rows
        return rows.drop("_arguments", "_error_type", "_trace_error_type")

    text_columns = ("trace_id", "tool", "arguments", "error_type", "trace_error_type")
    return per_trace.fetch(
        frame,
        by,
        ("ordinal", *numbers),
        texts=(*text_columns, *texts),
        flags=("passed",),
        transform=read,
    )


def ordered(rows: pl.DataFrame) -> pl.DataFrame:
    """Sort rows by trace and call; in a trace, calls without a place come last."""
    place = rows["_ordinal"].fill_null(_LAST).to_numpy()
    trace = rows["_trace"].to_numpy()
    # One number is sorted many times quicker than two; what it leaves out of the trace's own seldom
    # matters.
    order = np.argsort((trace << _BITS) | place.clip(0, _LAST).astype(np.uint64))
    begun = np.count_nonzero(trace[order][1:] != trace[order][:-1]) + 1
    if begun > rows["_trace"].n_unique() or place.max(initial=0) > _LAST:
        order = np.lexsort((place, trace))
    return rows.select(pl.all().gather(order))

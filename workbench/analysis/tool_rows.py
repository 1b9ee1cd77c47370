"""Single tool calls, trace by trace, with those that ask again what was asked before."""

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
import polars as pl

from workbench.analysis import engine, fetched

# Whether an earlier row of the trace asked the same tool in the same words; what was not recorded is
# not seen to repeat.
AGAIN = pl.col("_words").is_not_null() & ~pl.col("_words").is_first_distinct()


def fetch(
    frame: "nw.LazyFrame[Any]",
    by: Sequence[str],
    numbers: Sequence[str],
    *,
    texts: Sequence[str] = (),
    each: engine.Each | None = None,
) -> pl.DataFrame:
    """Fetch rows of `tool_uses`.

    Args:
        frame: the rows.
        by: the columns that name a group.
        numbers: columns of numbers.
        texts: columns of texts.
        each: makes of some rows what is kept of them; see `fetched.fetch`.

    Returns:
        As `fetched.fetch`, `_passed`, `_trace_id` and `_tool` too, with `_trace`, a number for the
        trace; `_words`, one for what was asked; `_failed`, whether the trace failed; `_wrong`,
        whether the call did.
    """

    def read(rows: pl.DataFrame) -> pl.DataFrame:
        words = pl.concat_str("_trace_id", "_tool", "_arguments", separator="\n")
        rows = rows.with_columns(
            # Of 10⁷ traces two have the same number once in 400,000 times.
            _trace=pl.col("_trace_id").hash(),
            _words=pl.when(words.is_not_null()).then(words.hash()),
            _failed=pl.col("_trace_error_type").is_not_null(),
            _wrong=pl.col("_tool").is_not_null() & pl.col("_error_type").is_not_null(),
            _ordinal=pl.col("_ordinal").cast(pl.Int32),
        )
        rows = each(rows) if each else rows
        return rows.drop("_arguments", "_error_type", "_trace_error_type")

    own = ("trace_id", "tool", "arguments", "error_type", "trace_error_type")
    return fetched.fetch(frame, by, ("ordinal", *numbers), texts=(*own, *texts), flags=("passed",), each=read)  # fmt: skip


def ordered(rows: pl.DataFrame) -> pl.DataFrame:
    """Put rows trace by trace and call by call; in a trace, calls without a place come last."""
    # Polars takes three times as long to sort by two columns.
    place = rows["_ordinal"].fill_null(np.iinfo(np.int32).max).to_numpy()
    return rows.select(pl.all().gather(np.lexsort((place, rows["_trace"].to_numpy()))))

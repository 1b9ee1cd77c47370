"""Static view of a panel, which a notebook shows without a kernel and widget state."""

import base64
import html
import io
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from workbench.analysis.core.result import Result

_COLUMNS = (
    "configuration",
    "n",
    "pass_rate",
    "pass_rate_low",
    "pass_rate_high",
    "cost_usd",
    "output_tokens",
    "e2e_p50_s",
)
_MAX_ROWS = 40


def bundle(title: str, summary: "Result | None", picture: str = "") -> dict[str, str]:
    """Write a title, the chart and the summary as text and as HTML without styles or scripts.

    Args:
        title: the title, one line.
        summary: a result of the summary analysis, by configuration; None shows the title alone.
        picture: the chart, as `picture` writes it.
    """
    if summary is None:
        return {"text/plain": title, "text/html": f"<p>{html.escape(title)}</p>{picture}"}
    frame = summary.frame.select(_COLUMNS).head(_MAX_ROWS)
    shown = frame.with_columns(pl.col(pl.Float64).round_sig_figs(3)).select(
        pl.col(name)
        .cast(pl.String)
        .str.strip_suffix(".0")
        .fill_null("—")
        .alias(summary[name].heading)
        for name in _COLUMNS
    )
    rest = summary.frame.height - frame.height
    more = f"and {rest:,} more configurations" if rest > 0 else ""
    page = f"<p>{html.escape(title)}</p>{picture}{_table(shown)}<p>{more}</p>"
    return {"text/plain": f"{title}\n{_text(shown)}\n{more}".rstrip(), "text/html": page}


def picture(chart: Any) -> str:
    """Write an Altair chart as an image with its data inline; "" for None."""
    if chart is None:
        return ""
    page = io.StringIO()
    chart.save(page, format="svg")
    encoded = base64.b64encode(page.getvalue().encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{encoded}">'


def _text(frame: pl.DataFrame) -> str:
    with pl.Config(
        tbl_rows=_MAX_ROWS,
        tbl_cols=-1,
        fmt_str_lengths=60,
        tbl_width_chars=160,
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
    ):
        return str(frame)


def _table(frame: pl.DataFrame) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in frame.columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(value)}</td>' for value in row)}</tr>"
        for row in frame.iter_rows()
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

"""Drawing of all charts: labels, titles, panels by task, and charts without rows."""

import dataclasses
import importlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from workbench import analysis
from workbench.analysis.core.declaration import unknown_name
from workbench.analysis.core.result import Result
from workbench.charts import theme
from workbench.errors import AnalysisError

MOST = 40  # rows of one panel, unless its module says otherwise
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
# Characters of a long name that are shown: names of one family differ at their ends.
_HEAD = 21
_TAIL = 17
_LARGE = 1e6  # from this value on an axis shows 2M, not 2,000,000


@dataclasses.dataclass(frozen=True)
class Panel:
    """Part of a result that is drawn in one frame.

    Attributes:
        result: the whole result: columns, options.
        rows: its rows, with the group's name as `group`.
        more: the further tables' rows of the same task.
        axes: x, y, log_x and width, as given or by default.
    """

    result: Result
    rows: pl.DataFrame
    more: Mapping[str, pl.DataFrame]
    axes: Mapping[str, Any]

    @property
    def width(self) -> int:
        """Width of the plotting area in pixels."""
        return int(self.axes["width"])

    def heading(self, column: str) -> str:
        """Return the title and unit of a column, capitalised."""
        text = self.result[column].heading
        return text[:1].upper() + text[1:]

    def percent(self, column: str) -> bool:
        """Whether a column is a share, shown in per cent."""
        return self.result[column].unit == "0..1"

    def axis(self, column: str, **settings: Any) -> alt.Axis:
        """Make an axis with the column's title; shares in per cent, millions as 2M."""
        if self.percent(column):
            settings.setdefault("format", "%")
        elif (
            self.result[column].type in {"int", "float"}
            and max(finite(self.rows, column), default=0) >= _LARGE
        ):
            settings.setdefault("format", "~s")
        return alt.Axis(title=self.heading(column), **settings)

    def log(self, column: str) -> bool:
        """Whether a column's axis is logarithmic: by option, else where it spans a factor of 20."""
        values = finite(self.rows, column)
        if not values or min(values) <= 0:
            return False
        log_x = self.axes.get("log_x")
        return bool(log_x) if log_x is not None else max(values) > 20 * min(values)


def clean(value: object) -> str:
    """Make a label of untrusted text: one line, no control characters, cut if long."""
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value))
    return text if len(text) <= _HEAD + _TAIL + 1 else f"{text[:_HEAD]}…{text[-_TAIL:]}"


def finite(frame: pl.DataFrame, *columns: str) -> list[float]:
    """List the finite values of some columns."""
    values = [v for c in columns if c in frame.columns for v in frame[c].to_list()]
    return [float(v) for v in values if v is not None and math.isfinite(v)]


def draw(result: Result, axes: Mapping[str, Any]) -> Any:
    """Draw a result: a panel per task where tasks are distinguished."""
    spec = analysis.get(result.name).chart
    known = ("x", "y", "log_x", "width")
    for name in axes:
        if name not in known:
            raise AnalysisError(unknown_name("setting of a chart", name, known))
    module = importlib.import_module(f"workbench.charts.{spec.kind}")
    chosen = {"x": spec.x, "y": spec.y, "width": theme.WIDTH} | module.defaults(result) | axes
    for axis in ("x", "y"):
        if axis in axes and axes[axis] not in {c.name for c in result.columns}:
            names = [c.name for c in result.columns]
            raise AnalysisError(unknown_name(f"column for {axis}", str(axes[axis]), names))
    title = analysis.get(result.name).title
    if result.frame.is_empty():
        return theme.configured(_nothing(title))
    parts = _split(result, chosen, getattr(module, "MOST", MOST))
    panels = [_titled(module.draw(panel), task, len(parts) > 1) for task, panel in parts]
    whole = panels[0] if len(panels) == 1 else alt.concat(*panels, columns=2)
    whole.title = _title(title, result, parts, getattr(module, "SPREAD", "lines"))
    return theme.configured(whole)


def _split(result: Result, axes: dict[str, Any], most: int) -> list[tuple[str, Panel]]:
    frame = _named(result, result.frame)
    more = {k: _named(result, v) for k, v in result.more.items()}
    if "task" not in frame.columns or result.by == ("task",):
        return [("", Panel(result, frame.head(most), more, axes))]
    tasks = frame["task"].unique().sort().to_list()
    if len(tasks) > 1:
        axes = axes | {"width": min(axes["width"], 300)}
    parts = []
    for task in tasks:
        here = pl.col("task").eq_missing(task)
        also = {k: v.filter(here) if "task" in v.columns else v for k, v in more.items()}
        parts.append((clean(task), Panel(result, frame.filter(here).head(most), also, axes)))
    return parts


def _named(result: Result, frame: pl.DataFrame) -> pl.DataFrame:
    """Add the groups' names as `group`, where a table tells groups apart."""
    names = [c for c in result.by if c in frame.columns and (c != "task" or len(result.by) == 1)]
    return frame.with_columns(group=_labels(frame, names)) if names else frame


def _labels(frame: pl.DataFrame, names: Sequence[str]) -> pl.Series:
    """Name the rows' groups, each once: a clash after cutting gets a number."""
    raw = [
        " · ".join("—" if v is None else str(v) for v in row)
        for row in frame.select(names).iter_rows()
    ]
    seen: dict[str, str] = {}
    used: set[str] = set()
    for text in raw:
        if text not in seen:
            name = clean(text)
            n = 2
            while name in used:
                name, n = f"{clean(text)} ({n})", n + 1
            seen[text] = name
            used.add(name)
    return pl.Series([seen[text] for text in raw], dtype=pl.String)


def _titled(chart: Any, task: str, several: bool) -> Any:
    if several:
        chart.title = alt.TitleParams(task, fontSize=13)
    return chart


def _title(
    title: str, result: Result, parts: Sequence[tuple[str, Panel]], spread: str
) -> alt.TitleParams:
    lines = []
    if len(parts) == 1 and parts[0][0]:
        lines.append(parts[0][0])
    shown = sum(panel.rows.height for _, panel in parts)
    if shown < result.frame.height:
        lines.append(f"{shown} of {result.frame.height} rows shown")
    lows = [c for c in result.frame.columns if c.endswith("_low")]
    if (
        spread
        and lows
        and result.frame.select(pl.any_horizontal(pl.col(lows).is_not_null()).any()).item()
    ):
        lines.append(f"{spread} are {100 * result.options['level']:g} % intervals")
    if result.dropped:
        lines.append("left out: " + ", ".join(f"{n:,} {why}" for why, n in result.dropped.items()))
    return alt.TitleParams(title, subtitle=[line[:100] for line in lines])


def _nothing(title: str) -> Any:
    text = alt.Chart(pl.DataFrame({"text": ["no rows"]}))
    mark = text.mark_text(fontSize=16, color=theme.MUTED).encode(text="text:N")
    return mark.properties(width=theme.WIDTH, height=120, title=title)

"""Configurations as a table and a chart: columns, axes, and formats of their figures."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from workbench import formats
from workbench.formats import UNKNOWN, is_unknown
from workbench.safe import one_line
from workbench.tui.widgets.grid import Cell, GridColumn
from workbench.tui.widgets.scatter import Axis, Point

Row = dict[str, Any]
Seen = Mapping[str, Any]
BAR = 8  # cells


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """A measure that an axis can show; `name` is its name in the frontier analysis."""

    name: str
    title: str
    is_outcome: bool = False


AXES = {
    m.name: m
    for m in (
        Measure("cost_usd", "$ per trace"),
        Measure("e2e_s", "seconds per trace"),
        Measure("output_tokens", "output tokens per trace"),
        Measure("reasoning_tokens", "thinking tokens per trace"),
        Measure("energy_j", "joules per trace"),
        Measure("pass_rate", "pass %", is_outcome=True),
        Measure("score", "mean score %", is_outcome=True),
    )
}


def _name(row: Seen) -> Cell:
    mark = ("◆ ", "accent") if row.get("on_frontier") else ("  ", "plain")
    tone = "dim" if row.get("dominated_by") else "plain"
    return [mark, (one_line(row["configuration"], 200), tone)]


def _pass_rate(row: Seen) -> Cell:
    rate, low, high = row["pass_rate"], row["pass_rate_low"], row["pass_rate_high"]
    if is_unknown(rate):
        return UNKNOWN
    half = f"± {formats.percent((high - low) / 2)}" if low is not None and high is not None else ""
    beaten = row.get("dominated_by")
    tone = "dim" if beaten else "good"
    return [
        (formats.percent(rate).rjust(5), "dim" if beaten else "plain"),
        (f" {half}".ljust(8), "dim"),
        (formats.bar(rate, BAR), tone),
    ]


def _chance(row: Seen) -> Cell:
    share = row.get("p_on_frontier")
    return UNKNOWN if is_unknown(share) else formats.decimal(share, 2)


def _plain(key: str, write: Any) -> Any:
    return lambda row: write(row.get(key))


COLUMNS = (
    GridColumn("configuration", "configuration", _name, wide=True, most=64),
    GridColumn("n", "n", _plain("n", formats.count), right=True, rank=2),
    GridColumn("pass_rate", "pass rate %", _pass_rate),
    GridColumn("cost_of_pass_usd", "$ / pass", _plain("cost_of_pass_usd", formats.usd), right=True),
    GridColumn("cost_usd", "$ / trace", _plain("cost_usd", formats.usd), right=True, rank=5),
    GridColumn(
        "output_tokens", "tokens", _plain("output_tokens", formats.count), right=True, rank=1
    ),
    GridColumn(
        "reasoning_tokens", "think", _plain("reasoning_tokens", formats.count), right=True, rank=3
    ),
    GridColumn("e2e_p50_s", "s", _plain("e2e_p50_s", formats.seconds), right=True, rank=1),
    GridColumn("energy_j", "J", _plain("energy_j", formats.decimal), right=True, rank=6),
    GridColumn("n_errors", "failed", _plain("n_errors", formats.count), right=True, rank=7),
    GridColumn("p_on_frontier", "P(◆)", _chance, right=True, rank=4),
)


def ordered(rows: Sequence[Row], key: str, *, descending: bool) -> list[Row]:
    """Sort rows by a column, unknown ones last."""
    known = [row for row in rows if not is_unknown(row.get(key))]
    unknown = [row for row in rows if is_unknown(row.get(key))]
    return sorted(known, key=lambda row: row[key], reverse=descending) + unknown


def note(rows: Sequence[Row], x: Measure, n_marked: int) -> str:
    """Write the line below the table: number of configurations and meaning of the diamond."""
    marked = f" · {n_marked} marked" if n_marked else ""
    return (
        f"{formats.counted(len(rows), 'configuration')} · ◆ on the frontier over {x.title}{marked}"
        if rows
        else ""
    )


def _usable(row: Row) -> bool:
    across, up = row.get("x"), row.get("y")
    if across is None or up is None:
        return False
    return math.isfinite(across) and math.isfinite(up) and across > 0


def points(rows: Sequence[Row]) -> list[Point]:
    """Return the configurations that have both measures, as points of the chart."""
    return [
        Point(
            key=str(row["configuration"]),
            label=str(row["configuration"]),
            x=row["x"],
            y=row["y"],
            low=row["y_low"],
            high=row["y_high"],
            on_frontier=bool(row["on_frontier"]),
            note=_note(row),
        )
        for row in rows
        if _usable(row)
    ]


def _note(row: Row) -> str:
    share = row.get("p_on_frontier")
    return f" P={share:.2f}" if row.get("dominated_by") and share else ""


def axis(measure: Measure) -> Axis:
    """Return the axis of a measure: costs on a log scale, outcomes in percent."""
    if measure.is_outcome:
        return Axis(measure.title, lambda v: formats.percent(v, 0), low=0.0, high=1.0)
    if measure.name == "cost_usd":
        return Axis(measure.title, lambda v: f"${formats.decimal(v, 1)}", is_log=True)
    return Axis(measure.title, lambda v: formats.decimal(v, 1), is_log=True)

"""Trace columns of a list of traces, and the store's columns that they need."""

from typing import Any

from workbench import formats
from workbench.safe import one_line
from workbench.schema import TRACE_FACTS
from workbench.tui.outcomes import outcome
from workbench.tui.widgets.grid import Cell, GridColumn
from workbench.tui.widgets.rows import Row


def _outcome(row: Row) -> Cell:
    return [outcome(row)]


def _text(key: str, width: int = 60) -> Any:
    return lambda row: formats.UNKNOWN if row[key] is None else one_line(row[key], width)


def _number(key: str) -> Any:
    column = TRACE_FACTS[key]
    return lambda row: formats.value_text(row[key], column)


def _answer(row: Row) -> Cell:
    if row["error_type"] is not None:
        return [(one_line(row["error_type"], 40), "warn")]
    shown: Cell = _text("answer")(row)
    return shown


COLUMNS = (
    GridColumn("passed", "", _outcome, most=2),
    GridColumn("task", "task", _text("task"), most=24),
    GridColumn("item", "item", _text("item"), most=20),
    GridColumn("trial", "trial", _number("trial"), right=True, rank=3),
    GridColumn("configuration", "configuration", _text("configuration"), most=36, rank=4),
    GridColumn("answer", "answer", _answer, wide=True, most=40),
    GridColumn("cost_usd", "$", _number("cost_usd"), right=True),
    GridColumn("e2e_s", "s", _number("e2e_s"), right=True),
    GridColumn("input_tokens", "in", _number("input_tokens"), right=True, rank=5),
    GridColumn("output_tokens", "out", _number("output_tokens"), right=True),
    GridColumn("reasoning_tokens", "think", _number("reasoning_tokens"), right=True),
    GridColumn("n_turns", "turns", _number("n_turns"), right=True, rank=6),
    GridColumn("n_tool_calls", "tools", _number("n_tool_calls"), right=True, rank=6),
    GridColumn("energy_j", "J", _number("energy_j"), right=True, rank=7),
    GridColumn("stop_reason", "stop", _text("stop_reason"), most=14, rank=7),
    GridColumn("started_at", "started (UTC)", _number("started_at"), rank=7),
)
FETCHED = ("trace_id", "error_type", "score", *(c.key for c in COLUMNS))

"""Declarations of a mapping: its columns, conditions, joined files, and the fields they fill."""

import dataclasses
import functools
from collections.abc import Mapping as Dict
from typing import Any, Final

from workbench import records, schema

CONVENTIONS = ("input excludes cached", "output excludes thinking")
KINDS = ("traces", "results", "prices")
KEEP = ("first", "last")
DIRECTIONS = ("higher", "lower")
NULL = "@null"
TOOL_FIELDS: Final = {
    "tool": "text",
    "arguments": "json",
    "result": "text",
    "started_at": "time",
    "e2e_s": "float",
    "result_tokens": "int",
    "cost_usd": "float",
    "error_type": "text",
    "error_message": "text",
}
_RECORDS: tuple[tuple[type[records.Record], str], ...] = (
    (records.Task, "tasks"),
    (records.Item, "items"),
    (records.Configuration, "configurations"),
    (records.Trace, "traces"),
    (records.Call, "calls"),
    (records.Price, "prices"),
)
_COMPUTED_FIELDS = {
    "metadata",
    "strategy_params",
    "settings",
    "usage",
    "configuration",
    "version",
    "ordinal",
}
_TEXT_FIELDS = (
    "task_version",
    "prompt",
    "system_prompt",
    "output",
    "thinking",
    "explanation",
    "scorer",
    "trace",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """Column of a file, and how its cells are converted to a field.

    Attributes:
        path: path of the column; ^ for a field beside the rows, @ for a property of the file.
        unit: unit of the cells; "" for the store's. The unit of a metric may be any word.
        offset: number to add after the conversion of the unit.
        null_if: values that mean unknown.
        values: cell → value to store; NULL is unknown.
        optional: whether a file may lack the column.
        decimal: decimal mark of numbers in text; "" detects it.
        form: format of times for `datetime.strptime`; "" for the usual formats.
        low, high: ends of a metric's scale; None if it has none.
        direction: which values of a metric are better; None if unknown.
        plus: columns to add, with the same conversion; files may lack them.
        otherwise: paths to look at where a cell is unknown, in their order.
        default: value of the field where all are unknown, in the store's unit.
        join: paths of the texts to join, in the place of `path`.
        separator: text between joined ones.
    """

    path: str
    unit: str = ""
    offset: float = 0
    null_if: tuple[Any, ...] = ()
    values: Dict[str, Any] | None = None
    optional: bool = False
    decimal: str = ""
    form: str = ""
    low: float | None = None
    high: float | None = None
    direction: str | None = None
    plus: "tuple[Column, ...]" = ()
    otherwise: tuple[str, ...] = ()
    default: Any = None
    join: tuple[str, ...] = ()
    separator: str = "/"

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths that are read."""
        return self.join or (self.path, *self.otherwise)


@dataclasses.dataclass(frozen=True, slots=True)
class StatedTotal:
    """A total that the file states: its column, the field that it is over, and the function."""

    column: Column
    of: str
    how: str = "sum"  # sum | mean | count
    tolerance: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """Condition on one cell of a row.

    Attributes:
        path: path of the cell.
        among: values of which it must be one; None allows all.
        without: values that it must not have.
        low, high: bounds of a number; None if there is none. An unknown cell is out of bounds.
    """

    path: str
    among: tuple[Any, ...] | None = None
    without: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Unpivot:
    """Columns of a wide table that become rows.

    Attributes:
        name: name in braces that takes the value.
        pattern: pattern of the columns, such as "{model}_score"; "" if values are given.
        values: the values.
    """

    name: str
    pattern: str = ""
    values: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class JoinedFile:
    """A second file, whose rows are found by a key.

    Attributes:
        name: first step of the paths to its columns.
        file: its path, seen from the folder of the first file.
        on: (path in a row of the first file, path in a row of this one).
        rows: path to its rows.
    """

    name: str
    file: str
    on: tuple[tuple[str, str], ...]
    rows: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping file after all checks.

    Attributes:
        is_shipped: whether it is part of the package.
        tokens_column: column that gives each row's token conventions; `tokens` where it is unknown.
        tool_rows: path from a row to its tool calls; None if the row itself is one.
    """

    name: str
    is_shipped: bool = False
    title: str = ""
    kind: str = "traces"
    rows: str = ""
    tokens: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    match_columns: tuple[str, ...] = ()
    constants: Dict[str, Any] = dataclasses.field(default_factory=dict)
    columns: Dict[str, Column] = dataclasses.field(default_factory=dict)
    strategy_params: Dict[str, Column] = dataclasses.field(default_factory=dict)
    settings: Dict[str, Column] = dataclasses.field(default_factory=dict)
    metadata: Dict[str, Column] = dataclasses.field(default_factory=dict)
    totals: Dict[str, StatedTotal] = dataclasses.field(default_factory=dict)
    results: Dict[str, Column] = dataclasses.field(default_factory=dict)
    prices: Dict[str, Column] = dataclasses.field(default_factory=dict)
    metrics: Dict[str, Column] = dataclasses.field(default_factory=dict)
    delimiter: str = ""
    decimal: str = ""
    keep: str = "first"
    where: tuple[Condition, ...] = ()
    unpivot: Unpivot | None = None
    joins: tuple[JoinedFile, ...] = ()
    scores: Dict[str, Column] = dataclasses.field(default_factory=dict)
    item_metadata: Dict[str, Column] = dataclasses.field(default_factory=dict)
    tool_calls: Dict[str, Column] = dataclasses.field(default_factory=dict)
    tool_rows: str | None = None
    tokens_column: Column | None = None

    def all_columns(self) -> list[tuple[str, Column]]:
        """Return every (field, column) that is read, in the order of the mapping file.

        Columns of tool calls that are lists within a row are not among them.
        """
        parts = (
            self.columns,
            {"tokens": self.tokens_column} if self.tokens_column else {},
            self.tool_calls if self.tool_rows is None else {},
            self.scores,
            self.item_metadata,
            self.metrics,
            self.strategy_params,
            self.settings,
            self.metadata,
            self.results,
            self.prices,
            {name: t.column for name, t in self.totals.items()},
        )
        columns = [pair for part in parts for pair in part.items()]
        return columns + [(name, more) for name, column in columns for more in column.plus]


@functools.cache
def fields() -> dict[str, schema.Column]:
    """Return the fields that a column may fill; the trace's field precedes the call's."""
    fields_by_name: dict[str, schema.Column] = {}
    for record, table in _RECORDS:
        known = {c.name: c for c in schema.TABLES[table].columns if not c.name.endswith("_id")}
        for name in record.__struct_fields__:
            if name in known and name not in _COMPUTED_FIELDS:
                fields_by_name.setdefault(name, known[name])
    for name in _TEXT_FIELDS:
        fields_by_name[name] = schema.Column(name, "text")
    fields_by_name["ended_at"] = schema.Column("ended_at", "time")
    for name in ("request_id", "response_id"):
        fields_by_name[name] = schema.CALLS[name]
    fields_by_name["energy_j"] = schema.ENERGY["energy_j"]
    fields_by_name["date"] = schema.RESULTS["date"]
    fields_by_name["n"] = schema.RESULTS["n"]
    return fields_by_name

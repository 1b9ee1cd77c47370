"""Mapping files in TOML, which assign the columns of a table to the fields of the store.

```toml
title = "…"                      # one line for `workbench import`
kind = "traces"                  # traces (a row is one attempt) | results (aggregates) | prices
rows = "records"                 # path to the list of rows in JSON or YAML; "" is the root; a
                                 # JSON object there is one row
tokens = ["input excludes cached", "output excludes thinking"]   # conventions of the file; the
                                 # tokens are added back. A row's total_tokens takes precedence
delimiter = ";"                  # of CSV; default: detected in the first line: , ; | or tab
decimal = ","                    # decimal mark of numbers in text; default: detected for each
                                 # column, or for the whole file

[match]                          # how to recognise a file; all conditions given must be true
files = ["*.json"]               # globs over the file's name
keys = ["model_name"]            # fields beside the rows
columns = ["index", "cost"]      # columns of the first row

[constants]                      # the same for every row
strategy = "direct"

[columns]                        # field of the store = "column of the file", or a table
item = "index"
model = "^model_name"            # ^ : a field beside the rows;  a.b : inside a nested object
task = "@stem"                   # @stem, @name, @folder : of the file; @row : number of the row
trial = "@repeat"                # number of earlier rows with the same item
e2e_s = { column = "latency_ms", unit = "ms" }
score = { column = "points", unit = "percent" }   # a score is 0..1; other values are refused
difficulty = { column = "^level", offset = 1 }
billed_cost_usd = { column = "cost", null_if = [0], decimal = ",", optional = true }
energy_j = { column = "joules", plus = ["idle"] }   # further columns to add; unknown cells add
                                 # nothing
started_at = { column = "day", format = "%d/%m/%Y" }   # for times that are neither ISO 8601 nor
                                 # numbers since 1970
passed = { column = "verdict", map = { ok = true, bad = false, late = "@null", "@null" = false } }
                                 # "@null" is unknown on the right, an empty cell on the left
request_id = "message.id"        # of an item's rows with the same id, the last one is imported
response_id = "generation_id"    # the provider's id of the reply, to match the lines of a bill
n_turns = "steps"                # number of requests that the row sums up (or
                                 # n_requests = "…")

[metrics]                        # metrics with scales other than 0..1: rows of the table scores
rubric = { column = "judge", range = [0, 10], direction = "higher" }
loss = { column = "nll", unit = "nats", direction = "lower" }

[strategy_params]                # and [settings], [metadata]: name = column as above; stored as
shots = "n_shots"                # JSON, with the column's type

[totals]                         # stated total = field of the store to add up (or average)
cost = { column = "^cost", of = "billed_cost_usd", how = "sum", tolerance = 0.005 }

[results]                        # kind = "results": metric = column as above, also range and
                                 # direction
[prices]                         # kind = "prices": field of the prices table = column as above
```
"""

import dataclasses
import difflib
import functools
import math
import tomllib
from collections.abc import Mapping as Dict
from pathlib import Path
from typing import Any

from workbench import cells, records, schema
from workbench.errors import ImportFormatError
from workbench.sources.tables.units import UNITS, to_stored_unit
from workbench.toml_reader import toml

SHIPPED = Path(__file__).parent / "mappings"
CONVENTIONS = ("input excludes cached", "output excludes thinking")
KINDS = ("traces", "results", "prices")
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
)
_SECTIONS = {
    "title",
    "kind",
    "rows",
    "match",
    "constants",
    "columns",
    "strategy_params",
    "settings",
    "metadata",
    "totals",
    "results",
    "prices",
    "tokens",
    "metrics",
    "delimiter",
    "decimal",
}
_COLUMN_KEYS = {
    "column",
    "unit",
    "offset",
    "null_if",
    "map",
    "optional",
    "decimal",
    "format",
    "plus",
}
_SCALE_KEYS = {"range", "direction"}
DIRECTIONS = ("higher", "lower")
NULL = "@null"


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """Column of a file, and how its cells are converted to a field.

    Attributes:
        path: name of the column; ^ for a field beside the rows, @ for a property of the file.
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


@dataclasses.dataclass(frozen=True, slots=True)
class StatedTotal:
    """A total that the file states: its column, the field that it is over, and the function."""

    column: Column
    of: str
    how: str = "sum"  # sum | mean | count
    tolerance: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping file after all checks.

    Attributes:
        is_shipped: whether it is part of the package.
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

    def all_columns(self) -> list[tuple[str, Column]]:
        """Return every (field, column) that is read, in the order of the mapping file."""
        parts = (
            self.columns,
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
    for name in ("request_id", "response_id"):
        fields_by_name[name] = schema.CALLS[name]
    fields_by_name["energy_j"] = schema.ENERGY["energy_j"]
    fields_by_name["date"] = schema.RESULTS["date"]
    fields_by_name["n"] = schema.RESULTS["n"]
    return fields_by_name


def shipped() -> dict[str, Path]:
    """Return the paths of the package's mappings, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def load(name: str | Path) -> Mapping:
    """Read a mapping from a file, or one of the package by its name.

    Raises:
        ImportFormatError: there is no such mapping, or it is wrong; the message names the place.
    """
    path = shipped().get(str(name), Path(name))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(shipped())
        raise ImportFormatError(
            f"no mapping {str(name)!r}: {error}; give a .toml file or one of {known}"
        ) from error
    return _parse(path, text)


@functools.cache
def load_shipped() -> tuple[Mapping, ...]:
    """Return all mappings of the package."""
    return tuple(load(path) for path in shipped().values())


def _parse(path: Path, text: str) -> Mapping:
    try:
        raw = toml(text)
    except tomllib.TOMLDecodeError as error:
        raise ImportFormatError(f"mapping {path.name} is not TOML: {error}") from error
    parser = _Parser(path.name)
    parser.names("section", raw, _SECTIONS)
    match = parser.table(raw, "match")
    parser.names("key of [match]", match, {"files", "keys", "columns"})
    kind = raw.get("kind", "traces")
    if kind not in KINDS:
        raise ImportFormatError(f"mapping {path.name}: kind {kind!r}; use one of {KINDS}")
    tokens = parser.texts("tokens", raw.get("tokens", []))
    parser.names("tokens", dict.fromkeys(tokens), set(CONVENTIONS))
    constants = parser.table(raw, "constants")
    columns = parser.columns(raw, "columns")
    parser.names("field", constants, set(fields()))
    parser.names("field", columns, set(fields()))
    parser.added(columns)
    prices = parser.columns(raw, "prices")
    delimiter = raw.get("delimiter", "")
    mark = raw.get("decimal", "")
    if delimiter and delimiter not in cells.DELIMITERS:
        raise parser.fail(f"delimiter {delimiter!r}; use one of {cells.DELIMITERS}")
    parser.mark("decimal", mark)
    parser.names("field of [prices]", prices, set(schema.PRICES.names))
    return Mapping(
        name=path.stem,
        is_shipped=path.parent == SHIPPED,
        title=str(raw.get("title", "")),
        kind=kind,
        rows=str(raw.get("rows", "")),
        tokens=tokens,
        files=parser.texts("files of [match]", match.get("files", [])),
        keys=parser.texts("keys of [match]", match.get("keys", [])),
        match_columns=parser.texts("columns of [match]", match.get("columns", [])),
        constants=constants,
        columns=columns,
        strategy_params=parser.columns(raw, "strategy_params"),
        settings=parser.columns(raw, "settings"),
        metadata=parser.columns(raw, "metadata"),
        totals=parser.totals(raw),
        results=parser.scaled(raw, "results"),
        prices=prices,
        metrics=parser.scaled(raw, "metrics", free_units=True),
        delimiter=delimiter,
        decimal=mark,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Parser:
    """Parser of a mapping's sections, whose errors name the place in the mapping."""

    mapping: str

    def fail(self, text: str) -> ImportFormatError:
        return ImportFormatError(f"mapping {self.mapping}: {text}")

    def names(self, what: str, names: Dict[str, Any], known: set[str]) -> None:
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3)
                hint = f"; did you mean {', '.join(near)}?" if near else ""
                raise self.fail(f"unknown {what} {name!r}{hint}")

    def table(self, raw: Dict[str, Any], section: str) -> dict[str, Any]:
        value = raw.get(section, {})
        if not isinstance(value, dict):
            raise self.fail(f"[{section}] must be a table, not {value!r}")
        return value

    def texts(self, where: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.fail(f'{where} must be a list of texts, ["…"], not {value!r}')
        return tuple(value)

    def text(self, where: str, value: object) -> str:
        if not isinstance(value, str):
            raise self.fail(f"{where} must be a text, not {value!r}")
        return value

    def number(self, where: str, value: object) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value):  # type: ignore[arg-type]  # it is a number
            raise self.fail(f"{where} must be a number, not {value!r}")
        return value  # type: ignore[return-value]  # likewise

    def columns(self, raw: Dict[str, Any], section: str) -> dict[str, Column]:
        return {
            name: self.column(f"[{section}] {name}", value)
            for name, value in self.table(raw, section).items()
        }

    def column(self, where: str, value: object, *, free_units: bool = False) -> Column:
        if isinstance(value, str):
            return Column(value)
        if not isinstance(value, dict) or not isinstance(value.get("column"), str):
            raise self.fail(f'{where} must be "column" or {{ column = "…", … }}, not {value!r}')
        self.names(f"key of {where}", value, _COLUMN_KEYS)
        unit = self.text(f"unit of {where}", value.get("unit", ""))
        if unit and not free_units:
            self.names(f"unit of {where}", {unit: 1}, set(UNITS))
        self.mark(f"decimal of {where}", value.get("decimal", ""))
        null_if = value.get("null_if", [])
        values = value.get("map")
        if not isinstance(null_if, list):
            raise self.fail(f"null_if of {where} must be a list of values, not {null_if!r}")
        if values is not None and not isinstance(values, dict):
            raise self.fail(f"map of {where} must be a table, {{ cell = value }}, not {values!r}")
        column = Column(
            path=value["column"],
            unit=unit,
            offset=self.number(f"offset of {where}", value.get("offset", 0)),
            null_if=tuple(null_if),
            values=values,
            optional=bool(value.get("optional", False)),
            decimal=value.get("decimal", ""),
            form=str(value.get("format", "")),
        )
        return dataclasses.replace(column, plus=self.plus(where, column, value.get("plus", [])))

    def plus(self, where: str, column: Column, paths: object) -> tuple[Column, ...]:
        """Read the columns to add to a column."""
        return tuple(
            dataclasses.replace(column, path=path, optional=True)
            for path in self.texts(f"plus of {where}", paths)
        )

    def added(self, columns: Dict[str, Column]) -> None:
        """Refuse sums of columns that are not numbers."""
        for name, column in columns.items():
            if column.plus and fields()[name].type not in {"int", "float"}:
                raise self.fail(f"plus of [columns] {name}: {name} is not a number; remove plus")

    def scaled(
        self, raw: Dict[str, Any], section: str, *, free_units: bool = False
    ) -> dict[str, Column]:
        """Read columns with an optional scale: range and direction."""
        columns: dict[str, Column] = {}
        for name, value in self.table(raw, section).items():
            where = f"[{section}] {name}"
            scale = value if isinstance(value, dict) else {}
            bare = {k: v for k, v in scale.items() if k not in _SCALE_KEYS} if scale else value
            low, high = self.range(where, scale.get("range", [-math.inf, math.inf]))
            direction = scale.get("direction")
            if direction is not None and direction not in DIRECTIONS:
                raise self.fail(f"direction of {where} is {direction!r}; use one of {DIRECTIONS}")
            column = self.column(where, bare, free_units=free_units)
            if column.unit in UNITS:
                low, high = (
                    None if end is None else to_stored_unit(end, column.unit) for end in (low, high)
                )
            columns[name] = dataclasses.replace(column, low=low, high=high, direction=direction)
        return columns

    def range(self, where: str, value: object) -> tuple[float | None, float | None]:
        """Read the ends of a scale; None for an infinite one."""
        try:
            low, high = (float(end) for end in value)  # type: ignore[attr-defined]  # or TypeError
        except (TypeError, ValueError):
            low = high = math.nan
        if not low < high:
            raise self.fail(
                f"range of {where} must be [low, high], not {value!r}; inf stands for no end"
            )
        return (low if math.isfinite(low) else None, high if math.isfinite(high) else None)

    def mark(self, where: str, value: object) -> None:
        if value not in ("", cells.POINT, cells.COMMA):
            raise self.fail(f'{where} is {value!r}; use "." or ","')

    def totals(self, raw: Dict[str, Any]) -> dict[str, StatedTotal]:
        totals: dict[str, StatedTotal] = {}
        for name, value in self.table(raw, "totals").items():
            if not isinstance(value, dict) or "of" not in value:
                raise self.fail(f'[totals] {name} needs {{ column = "^…", of = "field" }}')
            of = self.text(f"of of [totals] {name}", value["of"])
            self.names(f"field of [totals] {name}", {of: 1}, set(fields()))
            how = self.text(f"how of [totals] {name}", value.get("how", "sum"))
            self.names(f"how of [totals] {name}", {how: 1}, {"sum", "mean", "count"})
            rest = {k: v for k, v in value.items() if k not in {"of", "how", "tolerance"}}
            column = self.column(f"[totals] {name}", rest)
            tolerance = self.number(f"tolerance of [totals] {name}", value.get("tolerance", 0))
            totals[name] = StatedTotal(column, of, how, tolerance)
        return totals

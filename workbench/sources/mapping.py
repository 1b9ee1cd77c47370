"""Mapping files in TOML: the field that each column of a foreign table is read into.

```toml
title = "…"                      # one line for `workbench import`
kind = "traces"                  # traces (a row is one attempt) | results (aggregates) | prices
rows = "records"                 # path to the list of rows in JSON or YAML; "" is the root; a
                                 # JSON object there is one row
tokens = ["input excludes cached", "output excludes thinking"]   # where it is so; added back.
                                 # A row whose total_tokens shows the other is read by its total
delimiter = ";"                  # of CSV; else told by the first line: , ; | or tab
decimal = ","                    # decimal mark of numbers in text; else told by each column, or
                                 # by the whole file

[match]                          # how to recognise a file; all that is given must hold
files = ["*.json"]               # globs over the file's name
keys = ["model_name"]            # fields beside the rows
columns = ["index", "cost"]      # columns of the first row

[constants]                      # the same for every row
strategy = "direct"

[columns]                        # field of ours = "their column", or a table
item = "index"
model = "^model_name"            # ^ : a field beside the rows;  a.b : inside a nested object
task = "@stem"                   # @stem, @name, @folder : of the file; @row : number of the row
trial = "@repeat"                # how often the same item stood there before
e2e_s = { column = "latency_ms", unit = "ms" }
score = { column = "points", unit = "percent" }   # a score is 0..1; what else a cell holds is
                                 # refused
difficulty = { column = "^level", offset = 1 }
billed_cost_usd = { column = "cost", null_if = [0], decimal = ",", optional = true }
energy_j = { column = "joules", plus = ["idle"] }   # further columns added; one that is
                                 # unknown adds nothing
started_at = { column = "day", format = "%d/%m/%Y" }   # where it is neither ISO 8601 nor a time
                                 # since 1970
passed = { column = "verdict", map = { ok = true, bad = false, late = "@null", "@null" = false } }
                                 # "@null" is unknown on the right, an empty cell on the left
request_id = "message.id"        # of rows of one item with the same, the last is kept
response_id = "generation_id"    # the provider's id of the reply, to match a bill by
n_turns = "steps"                # a row of several turns is a sum of as many requests (or
                                 # n_requests = "…")

[metrics]                        # scores on scales of their own, as rows of the table scores
rubric = { column = "judge", range = [0, 10], direction = "higher" }
loss = { column = "nll", unit = "nats", direction = "lower" }

[strategy_params]                # and [settings], [metadata]: name = column as above; kept as
shots = "n_shots"                # JSON, with the column's type

[totals]                         # stated total = which of our fields to add up (or average)
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
from workbench.sources.units import UNITS, in_ours
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
_MADE = {"metadata", "strategy_params", "settings", "usage", "configuration", "version", "ordinal"}
_TEXTS = ("task_version", "prompt", "system_prompt", "output", "thinking", "explanation", "scorer")
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
_KEYS = {"column", "unit", "offset", "null_if", "map", "optional", "decimal", "format", "plus"}
_SCALED = {"range", "direction"}
DIRECTIONS = ("higher", "lower")
NULL = "@null"


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """Where a field comes from and how it is turned into ours.

    Attributes:
        path: their column; ^ a field beside the rows, @ a fact about the file.
        unit: theirs; "" where it is ours already. A metric's may be any word.
        offset: added after the unit.
        null_if: values that mean unknown.
        values: theirs → ours; NULL is unknown.
        optional: whether a file may lack the column.
        decimal: mark of numbers in text; "" where the cells tell.
        form: of times, as `datetime.strptime` takes it; "" where they are of a known form.
        low, high: ends of a metric's scale; None where it has none.
        direction: which values of a metric are better; None where nobody says.
        plus: columns to add, read alike; files may lack them.
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
class TotalOf:
    """A total that the file states: where, over which field of ours, and how it is made."""

    column: Column
    of: str
    how: str = "sum"  # sum | mean | count
    tolerance: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping file, checked.

    Attributes:
        is_shipped: whether it comes with the product.
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
    totals: Dict[str, TotalOf] = dataclasses.field(default_factory=dict)
    results: Dict[str, Column] = dataclasses.field(default_factory=dict)
    prices: Dict[str, Column] = dataclasses.field(default_factory=dict)
    metrics: Dict[str, Column] = dataclasses.field(default_factory=dict)
    delimiter: str = ""
    decimal: str = ""

    def all_columns(self) -> list[tuple[str, Column]]:
        """Every (field, column) that is read, in the order of the file."""
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
        every = [pair for part in parts for pair in part.items()]
        return every + [(name, more) for name, column in every for more in column.plus]


@functools.cache
def fields() -> dict[str, schema.Column]:
    """Every field of ours that a column may fill; the trace's own meaning wins over the call's."""
    found: dict[str, schema.Column] = {}
    for record, table in _RECORDS:
        known = {c.name: c for c in schema.TABLES[table].columns if not c.name.endswith("_id")}
        for name in record.__struct_fields__:
            if name in known and name not in _MADE:
                found.setdefault(name, known[name])
    for name in _TEXTS:
        found[name] = schema.Column(name, "text")
    for name in ("request_id", "response_id"):
        found[name] = schema.CALLS[name]
    found["energy_j"] = schema.ENERGY["energy_j"]
    found["date"] = schema.RESULTS["date"]
    found["n"] = schema.RESULTS["n"]
    return found


def shipped() -> dict[str, Path]:
    """The mappings that come with the product, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}


def load(name: str | Path) -> Mapping:
    """Read a mapping from a file, or a shipped one by its name.

    Raises:
        ImportFormatError: there is none, or it is wrong; the message names the place.
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
    """All mappings that come with the product."""
    return tuple(load(path) for path in shipped().values())


def _parse(path: Path, text: str) -> Mapping:
    try:
        raw = toml(text)
    except tomllib.TOMLDecodeError as error:
        raise ImportFormatError(f"mapping {path.name} is not TOML: {error}") from error
    check = _Check(path.name)
    check.names("section", raw, _SECTIONS)
    match = check.table(raw, "match")
    check.names("key of [match]", match, {"files", "keys", "columns"})
    kind = raw.get("kind", "traces")
    if kind not in KINDS:
        raise ImportFormatError(f"mapping {path.name}: kind {kind!r}; use one of {KINDS}")
    tokens = check.texts("tokens", raw.get("tokens", []))
    check.names("tokens", dict.fromkeys(tokens), set(CONVENTIONS))
    constants = check.table(raw, "constants")
    columns = check.columns(raw, "columns")
    check.names("field", constants, set(fields()))
    check.names("field", columns, set(fields()))
    check.added(columns)
    prices = check.columns(raw, "prices")
    delimiter, mark = raw.get("delimiter", ""), raw.get("decimal", "")
    if delimiter and delimiter not in cells.DELIMITERS:
        raise check.fail(f"delimiter {delimiter!r}; use one of {cells.DELIMITERS}")
    check.mark("decimal", mark)
    check.names("field of [prices]", prices, set(schema.PRICES.names))
    return Mapping(
        name=path.stem,
        is_shipped=path.parent == SHIPPED,
        title=str(raw.get("title", "")),
        kind=kind,
        rows=str(raw.get("rows", "")),
        tokens=tokens,
        files=check.texts("files of [match]", match.get("files", [])),
        keys=check.texts("keys of [match]", match.get("keys", [])),
        match_columns=check.texts("columns of [match]", match.get("columns", [])),
        constants=constants,
        columns=columns,
        strategy_params=check.columns(raw, "strategy_params"),
        settings=check.columns(raw, "settings"),
        metadata=check.columns(raw, "metadata"),
        totals=check.totals(raw),
        results=check.scaled(raw, "results"),
        prices=prices,
        metrics=check.scaled(raw, "metrics", free_units=True),
        delimiter=delimiter,
        decimal=mark,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Check:
    """Turns sections into columns, and says where in the mapping a fault is."""

    mapping: str

    def fail(self, text: str) -> ImportFormatError:
        return ImportFormatError(f"mapping {self.mapping}: {text}")

    def names(self, what: str, found: Dict[str, Any], known: set[str]) -> None:
        for name in found:
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
        self.names(f"key of {where}", value, _KEYS)
        unit = self.text(f"unit of {where}", value.get("unit", ""))
        if unit and not free_units:
            self.names(f"unit of {where}", {unit: 1}, set(UNITS))
        self.mark(f"decimal of {where}", value.get("decimal", ""))
        null_if, values = value.get("null_if", []), value.get("map")
        if not isinstance(null_if, list):
            raise self.fail(f"null_if of {where} must be a list of values, not {null_if!r}")
        if values is not None and not isinstance(values, dict):
            raise self.fail(f"map of {where} must be a table, {{ theirs = ours }}, not {values!r}")
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
        """Read the names of columns that are added to one."""
        return tuple(
            dataclasses.replace(column, path=path, optional=True)
            for path in self.texts(f"plus of {where}", paths)
        )

    def added(self, columns: Dict[str, Column]) -> None:
        """Refuse sums of what is no number."""
        for name, column in columns.items():
            if column.plus and fields()[name].type not in {"int", "float"}:
                raise self.fail(
                    f"plus of [columns] {name}: {name} is no number, so nothing is added to it"
                )

    def scaled(
        self, raw: Dict[str, Any], section: str, *, free_units: bool = False
    ) -> dict[str, Column]:
        """Read columns that may say their scale: range and direction."""
        found: dict[str, Column] = {}
        for name, value in self.table(raw, section).items():
            where = f"[{section}] {name}"
            scale = value if isinstance(value, dict) else {}
            bare = {k: v for k, v in scale.items() if k not in _SCALED} if scale else value
            low, high = self.range(where, scale.get("range", [-math.inf, math.inf]))
            direction = scale.get("direction")
            if direction is not None and direction not in DIRECTIONS:
                raise self.fail(f"direction of {where} is {direction!r}; use one of {DIRECTIONS}")
            column = self.column(where, bare, free_units=free_units)
            if column.unit in UNITS:
                low, high = (
                    None if end is None else in_ours(end, column.unit) for end in (low, high)
                )
            found[name] = dataclasses.replace(column, low=low, high=high, direction=direction)
        return found

    def range(self, where: str, value: object) -> tuple[float | None, float | None]:
        """Read the ends of a scale; an infinite one is none."""
        try:
            low, high = (float(end) for end in value)  # type: ignore[attr-defined]  # else TypeError
        except (TypeError, ValueError):
            low = high = math.nan
        if not low < high:
            raise self.fail(f"range of {where} must be [low, high], not {value!r}; inf is no end")
        return (low if math.isfinite(low) else None, high if math.isfinite(high) else None)

    def mark(self, where: str, value: object) -> None:
        if value not in ("", cells.POINT, cells.COMMA):
            raise self.fail(f'{where} is {value!r}; use "." or ","')

    def totals(self, raw: Dict[str, Any]) -> dict[str, TotalOf]:
        found: dict[str, TotalOf] = {}
        for name, value in self.table(raw, "totals").items():
            if not isinstance(value, dict) or "of" not in value:
                raise self.fail(f'[totals] {name} needs {{ column = "^…", of = "our field" }}')
            of = self.text(f"of of [totals] {name}", value["of"])
            self.names(f"field of [totals] {name}", {of: 1}, set(fields()))
            how = self.text(f"how of [totals] {name}", value.get("how", "sum"))
            self.names(f"how of [totals] {name}", {how: 1}, {"sum", "mean", "count"})
            rest = {k: v for k, v in value.items() if k not in {"of", "how", "tolerance"}}
            column = self.column(f"[totals] {name}", rest)
            tolerance = self.number(f"tolerance of [totals] {name}", value.get("tolerance", 0))
            found[name] = TotalOf(column, of, how, tolerance)
        return found

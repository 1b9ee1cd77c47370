"""Mapping files: which column of a foreign table is which field of ours, in TOML.

```toml
title = "…"                      # one line for `workbench import`
kind = "traces"                  # traces (a row is one attempt) | results (aggregates) | prices
rows = "records"                 # path to the list of rows in JSON or YAML; "" is the root; a JSON object there is one row
tokens = ["input excludes cached", "output excludes thinking"]   # where it is so; added back

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
difficulty = { column = "^level", offset = 1 }
billed_cost_usd = { column = "cost", null_if = [0], optional = true }
passed = { column = "verdict", map = { ok = true, bad = false } }

[strategy_params] [settings] [metadata]   # name = column as above; kept as JSON

[totals]                         # stated total = which of our fields to add up (or average)
cost = { column = "^cost", of = "billed_cost_usd", how = "sum", tolerance = 0.005 }

[results]                        # kind = "results": metric = column as above
[prices]                         # kind = "prices": field of the prices table = column as above
```
"""

import dataclasses
import difflib
import functools
import tomllib
from collections.abc import Mapping as Dict
from pathlib import Path
from typing import Any

from workbench import records, schema
from workbench.errors import ImportFormatError
from workbench.sources.units import UNITS

SHIPPED = Path(__file__).parent / "mappings"
CONVENTIONS = ("input excludes cached", "output excludes thinking")
KINDS = ("traces", "results", "prices")
_RECORDS: tuple[tuple[type[records.Record], str], ...] = (
    (records.Task, "tasks"), (records.Item, "items"), (records.Configuration, "configurations"),
    (records.Trace, "traces"), (records.Call, "calls"), (records.Price, "prices"),
)  # fmt: skip
_MADE = {"metadata", "strategy_params", "settings", "usage", "configuration", "version", "ordinal"}
_TEXTS = ("task_version", "prompt", "system_prompt", "output", "thinking", "explanation", "scorer")
_SECTIONS = {
    "title", "kind", "rows", "match", "constants", "columns", "strategy_params", "settings",
    "metadata", "totals", "results", "prices", "tokens",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """Where a field comes from and how it is turned into ours.

    Attributes:
        path: their column; ^ a field beside the rows, @ a fact about the file.
        unit: theirs; "" where it is ours already.
        offset: added after the unit.
        null_if: values that mean unknown.
        values: theirs → ours.
        optional: whether a file may lack the column.
    """

    path: str
    unit: str = ""
    offset: float = 0
    null_if: tuple[Any, ...] = ()
    values: Dict[str, Any] | None = None
    optional: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class TotalOf:
    """A total that the file states: where, over which field of ours, and how it is made."""

    column: Column
    of: str
    how: str = "sum"  # sum | mean | count
    tolerance: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping file, checked."""

    name: str
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

    def all_columns(self) -> list[tuple[str, Column]]:
        """Every (field, column) that is read, in the order of the file."""
        parts = (
            self.columns, self.strategy_params, self.settings, self.metadata, self.results,
            self.prices, {name: t.column for name, t in self.totals.items()},
        )  # fmt: skip
        return [pair for part in parts for pair in part.items()]


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
    found["request_id"] = schema.CALLS["request_id"]
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
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ImportFormatError(f"mapping {path.name} is not TOML: {error}") from error
    check = _Check(path.name)
    check.names("section", raw, _SECTIONS)
    match = check.table(raw, "match")
    check.names("key of [match]", match, {"files", "keys", "columns"})
    kind = raw.get("kind", "traces")
    if kind not in KINDS:
        raise ImportFormatError(f"mapping {path.name}: kind {kind!r}; use one of {KINDS}")
    check.names("tokens", dict.fromkeys(raw.get("tokens", ())), set(CONVENTIONS))
    constants = check.table(raw, "constants")
    columns = check.columns(raw, "columns")
    check.names("field", constants, set(fields()))
    check.names("field", columns, set(fields()))
    prices = check.columns(raw, "prices")
    check.names("field of [prices]", prices, set(schema.PRICES.names))
    return Mapping(
        name=path.stem, title=str(raw.get("title", "")), kind=kind, rows=str(raw.get("rows", "")),
        tokens=tuple(raw.get("tokens", ())),
        files=tuple(match.get("files", ())), keys=tuple(match.get("keys", ())),
        match_columns=tuple(match.get("columns", ())), constants=constants, columns=columns,
        strategy_params=check.columns(raw, "strategy_params"),
        settings=check.columns(raw, "settings"), metadata=check.columns(raw, "metadata"),
        totals=check.totals(raw), results=check.columns(raw, "results"), prices=prices,
    )  # fmt: skip


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

    def columns(self, raw: Dict[str, Any], section: str) -> dict[str, Column]:
        return {
            name: self.column(f"[{section}] {name}", value)
            for name, value in self.table(raw, section).items()
        }

    def column(self, where: str, value: object) -> Column:
        if isinstance(value, str):
            return Column(value)
        if not isinstance(value, dict) or not isinstance(value.get("column"), str):
            raise self.fail(f'{where} must be "column" or {{ column = "…", … }}, not {value!r}')
        keys = {"column", "unit", "offset", "null_if", "map", "optional"}
        self.names(f"key of {where}", value, keys)
        unit = value.get("unit", "")
        if unit:
            self.names(f"unit of {where}", {unit: 1}, set(UNITS))
        return Column(
            path=value["column"], unit=unit, offset=value.get("offset", 0),
            null_if=tuple(value.get("null_if", ())), values=value.get("map"),
            optional=bool(value.get("optional", False)),
        )  # fmt: skip

    def totals(self, raw: Dict[str, Any]) -> dict[str, TotalOf]:
        found: dict[str, TotalOf] = {}
        for name, value in self.table(raw, "totals").items():
            if not isinstance(value, dict) or "of" not in value:
                raise self.fail(f'[totals] {name} needs {{ column = "^…", of = "our field" }}')
            self.names(f"field of [totals] {name}", {value["of"]: 1}, set(fields()))
            how = value.get("how", "sum")
            self.names(f"how of [totals] {name}", {how: 1}, {"sum", "mean", "count"})
            rest = {k: v for k, v in value.items() if k not in {"of", "how", "tolerance"}}
            column = self.column(f"[totals] {name}", rest)
            found[name] = TotalOf(column, value["of"], how, float(value.get("tolerance", 0)))
        return found

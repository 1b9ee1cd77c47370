"""Conversion of the rows of a table to records, with a mapping."""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterator
from collections.abc import Mapping as Dict
from typing import Any

import msgspec

from workbench import cells, schema
from workbench.cells import POINT, integral
from workbench.errors import ImportFormatError
from workbench.records import (
    AnyRecord,
    Configuration,
    Item,
    Price,
    Result,
    Score,
    Task,
    content_id,
    json_text,
)
from workbench.sources.report import FileReport, Total
from workbench.sources.tables.column_evidence import ColumnEvidence
from workbench.sources.tables.columns import NULL, TOOL_FIELDS, Column, Mapping, fields
from workbench.sources.tables.paths import (
    EACH,
    MISSING,
    NOTHING,
    Found,
    Row,
    Unfolding,
    Values,
    shown,
    steps,
)
from workbench.sources.tables.row_stream import RowStream
from workbench.sources.tables.table_counts import (
    clear_contradictions,
    clear_negative,
    make_inclusive,
)
from workbench.sources.tables.table_rows import Table
from workbench.sources.tables.trace_groups import SCORER as _SCORER
from workbench.sources.tables.trace_groups import (
    Group,
    Part,
    ToolUse,
)
from workbench.sources.tables.trace_groups import (
    number_text as _number_text,
)
from workbench.sources.tables.trace_groups import (
    pick as _pick,
)
from workbench.sources.tables.trace_groups import (
    scores_of as _scores,
)
from workbench.sources.tables.units import PLAIN_FORMAT, UNITS, CellFormat, convert, equals, is_null

_ROUNDING = 1e-9  # a rounded mean of scores may be this far outside of its scale
NAMES = (
    "task",
    "task_version",
    "item",
    "cluster",
    "model",
    "provider",
    "strategy",
    "effort",
    "scorer",
)
_MAX_LISTED = 20  # names of columns in one note
_FLOAT = schema.Column("number", "float")
SHARE = schema.Column("score", "float", "0..1")
_OF_THE_FILE = frozenset({"@stem", "@name", "@folder", "@row", "@repeat"})
_TOOLS = schema.TABLES["tool_calls"]
_TOOL_COLUMNS = {
    name: schema.Column(name, kind, _TOOLS[name].unit if name in _TOOLS.names else "")
    for name, kind in TOOL_FIELDS.items()
}
_MOMENT = schema.Column("time", "time")


def _names(record: type[msgspec.Struct], *without: str) -> tuple[str, ...]:
    return tuple(f for f in record.__struct_fields__ if f in fields() and f not in without)


ITEM_FIELDS = _names(Item)
CONFIGURATION_FIELDS = _names(Configuration)


class RowReader:
    """Reader of a table's rows; it also sums up the fields of which the file states a total."""

    def __init__(self, stream: RowStream, table: Table, run_id: str) -> None:
        """Bind the mapping to one file; constants are converted once."""
        self.stream = stream
        self.path = stream.path
        self.mapping = mapping = stream.mapping
        self.run_id = run_id
        self.header = table.header
        self.is_text = table.is_text
        self.read_paths: set[str] = set()
        self.columns_seen: set[str] = set(table.columns or ())
        self.constants = {
            name: _constant(name, value, mapping) for name, value in mapping.constants.items()
        }
        self._fields = [(name, c, fields()[name]) for name, c in mapping.columns.items()]
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.evidence = ColumnEvidence(
            self._texts, numeric_paths(mapping), _named(mapping), lambda: self._open().delimiter
        )
        self._yielded_ids: set[str] = set()
        trial = mapping.columns.get("trial")
        self._counts_repeats = trial is not None and trial.path == "@repeat"
        self._trials: set[bytes] = set()  # ids of the traces so far
        self.distinct_texts: Callable[[frozenset[str]], list[dict[str, str]] | None] | None = None
        self._repeats: dict[tuple[str, str, str | None], int] = {}
        self._rows_read = 0
        self._last: Found = Found("", {}, table.header)
        self._groups: dict[str, Group] = {}
        self._held: dict[bytes, tuple[str, list[Any]]] = {}

    # -- cells ---------------------------------------------------------------------------------

    def cell(self, row: Found, column: Column, field: schema.Column) -> Any:
        """Read one cell and those to add to it, as the given field; None if all are unknown.

        Raises:
            ImportFormatError: a cell has the wrong type, or is outside of the column's scale.
        """
        value = self._cell(row, column, field)
        for more in column.plus:
            added = self._cell(row, more, field)
            value = added if value is None else value + (added or 0)
        if value is None and column.default is not None:
            return self._converted(column.default, Column(column.path), field, row.place)
        return value

    def _cell(self, row: Found, column: Column, field: schema.Column) -> Any:
        """Read one cell in the field's type and unit; None if it is unknown."""
        path, _, mapped = self._known(row, column, field.type)
        if mapped is None:
            return None
        if path != column.path:
            column = dataclasses.replace(column, path=path)
        return self._converted(mapped, column, field, row.place)

    def _converted(self, cell: Any, column: Column, field: schema.Column, place: str) -> Any:
        try:
            value = convert(cell, field.type, field.unit, self._cell_format(cell, column, field))
            return _check_range(value, column, field)
        except ImportFormatError as error:
            text = f"{self.path}, {place}, column {column.path!r}: {error}"
            raise ImportFormatError(text) from error

    def _known(self, row: Found, column: Column, kind: str) -> tuple[str, Any, Any]:
        """Return the first known cell of a column: its path, the cell, and what `map` makes of it.

        The last two are None if all are unknown.
        """
        if column.join:
            return column.path, *self._joined(row, column, kind)
        for path in column.paths:
            raw = self.stream.raw(row, path)
            if raw is MISSING:
                continue
            self.read_paths.add(path)
            mapped = _mapped(raw, column, kind)
            if mapped is not None:
                return path, raw, mapped
        return column.path, None, None

    def _joined(self, row: Found, column: Column, kind: str) -> tuple[Any, Any]:
        """Join the texts of a column; None if one is unknown."""
        parts: list[str] = []
        for path in column.join:
            raw = self.stream.raw(row, path)
            if raw is not MISSING:
                self.read_paths.add(path)
            if raw is MISSING or is_null(raw, "text"):
                return None, None
            parts.append(str(convert(raw, "text")))
        text = column.separator.join(parts)
        return text, _mapped(text, column, kind)

    def _cell_format(self, cell: object, column: Column, field: schema.Column) -> CellFormat:
        if field.type in {"text", "json", "bool"}:
            return PLAIN_FORMAT
        mark = column.decimal or self.mapping.decimal
        if not mark and isinstance(cell, str) and field.type in {"int", "float"}:
            mark = self.evidence.mark(column.path, cell, field.type)
        if not (column.unit or column.offset or column.form) and mark in {"", POINT}:
            return PLAIN_FORMAT
        unit = column.unit if column.unit in UNITS else ""
        return CellFormat(unit, column.offset, mark or POINT, column.form)

    def _open(self) -> Table:
        """Open the file again, to survey all of its rows."""
        return self.stream.open(FileReport(self.path, skip_bad_rows=True))

    def _again(self) -> Iterator[Found]:
        """Read the rows of the file again."""
        return self.stream.rows(self._open(), FileReport(self.path, skip_bad_rows=True))

    def _texts(self, paths: frozenset[str]) -> Iterator[dict[str, str]]:
        """Yield the text cells of some columns by reading the file again.

        A text may come once where it stands in many rows.
        """
        distinct = self.distinct_texts(paths) if self.distinct_texts else None
        if distinct is not None:
            yield from distinct
            return
        for row in self._again():
            raw_cells = {path: self.stream.raw(row, path) for path in paths}
            yield {path: cell for path, cell in raw_cells.items() if isinstance(cell, str)}

    @functools.cached_property
    def _last_of(self) -> dict[tuple[str, ...], int]:
        """Last row of each request with several rows: a stream writes rows with growing counts."""
        last: dict[tuple[str, ...], int] = {}
        repeated: set[tuple[str, ...]] = set()
        if "request_id" in self.mapping.columns:
            for number, row in enumerate(self._again(), 1):
                if (key := self._request(row)) is not None:
                    repeated |= {key} & last.keys()
                    last[key] = number
        return {key: last[key] for key in repeated}

    def _request(self, row: Found) -> tuple[str, ...] | None:
        """Return the key of a row's request, with item, model and trial; None without an id."""
        paths = {
            name: column.path
            for name, column in self.mapping.columns.items()
            if name in {"request_id", "item", "model", "trial", "trace"}
            and column.path not in {"@row", "@repeat"}
        }
        cells_ = {name: self.stream.raw(row, path) for name, path in paths.items()}
        if is_null(cells_.get("request_id"), "text") or cells_["request_id"] is MISSING:
            return None
        return tuple(str(cell) for cell in cells_.values())

    def _is_superseded(self, row: Found) -> bool:
        """Whether a later row has the same request."""
        if not self._last_of:
            return False
        key = self._request(row)
        return key is not None and self._last_of.get(key, 0) > self._rows_read

    def values(self, row: Found) -> dict[str, Any]:
        """Read all fields of the mapping."""
        self._rows_read += 1
        self._last = row
        values = dict(self.constants)
        for name, column, field in self._fields:
            values[name] = self.cell(row, column, field)
        item = self.mapping.columns.get("item")
        if item is not None and isinstance(values["item"], str):
            values["item"] = self._typed_key(values["item"], item)
        if values.get("e2e_s") is None and values.get("ended_at") and values.get("started_at"):
            values["e2e_s"] = (values["ended_at"] - values["started_at"]).total_seconds()
        for name in NAMES if self.is_text else ():
            if isinstance(values.get(name), str):
                values[name] = values[name].strip()
        return values

    def _typed_key(self, text: str, column: Column) -> str:
        """Write a key as typed formats do: in a column of whole numbers, 1.0 is 1."""
        whole = integral(text) if self.is_text and "." in text else None
        return (
            whole if whole is not None and self.evidence.survey(column.path).is_integral else text
        )

    def _add_up(self, values: Row) -> None:
        for name, value in values.items():
            self.counts[name] = self.counts.get(name, 0) + 1
            if isinstance(value, (int, float)):
                self.sums[name] = self.sums.get(name, 0) + value

    def group(self, row: Found, columns: Dict[str, Column]) -> str | None:
        """Read named columns into one JSON text without unknown ones; None if all are unknown."""
        values: dict[str, Any] = {}
        for name, column in columns.items():
            if column.unit or column.form:
                field = _MOMENT if column.form else _FLOAT
                value = self.cell(row, column, field)
                values[name] = value.isoformat() if column.form and value is not None else value
                continue
            path, raw, mapped = self._known(row, column, "text")
            typed = self._typed(path, raw, mapped, column)
            values[name] = column.default if typed is None else typed
        known = {name: value for name, value in values.items() if value is not None}
        return json_text(known) if known else None

    def _typed(self, path: str, raw: object, mapped: Any, column: Column) -> Any:
        """Convert a text to the type of its column; mapped and typed cells have a type already."""
        if mapped is not raw or not isinstance(mapped, str) or column.join:
            return mapped
        if self.stream.is_property(path):
            return mapped if path in _OF_THE_FILE else _typed_alone(mapped)
        return self.evidence.survey(path).typed(mapped) if self.is_text else mapped

    # -- records -------------------------------------------------------------------------------

    def price(self, row: Found, report: FileReport) -> Price:
        """Build the price of one row of a price sheet."""
        self._last = row
        values: Row = {n: v for n, v in self.constants.items() if n in Price.__struct_fields__}
        for name, column in self.mapping.prices.items():
            values[name] = self.cell(row, column, schema.PRICES[name])
        self._require(values, ("model",), row.place)
        clear_negative(values, {c.name: c for c in schema.PRICES.columns}, row.place, report)
        values.setdefault("sheet", self.mapping.name)
        return Price(**_pick(values, tuple(values)))

    def results(self, row: Found, report: FileReport) -> list[AnyRecord]:
        """Build a row's aggregates: task and configuration if new, then a result per metric."""
        values = self.values(row)
        self._require(values, ("task", "model"), row.place)
        task = self.task(values)
        configuration = self.configuration(row, values)
        metadata = self.group(row, self.mapping.metadata)
        values_by_metric = {
            metric: self.cell(row, column, metric_field(metric, column))
            for metric, column in self.mapping.results.items()
        }
        self._add_up(values)
        key = (configuration.configuration_id, str(values.get("date")), metadata)
        self._repeats[key] = repeat = self._repeats.get(key, -1) + 1
        if repeat:  # a second measurement is another result
            report.notes["rows that repeat a configuration: imported as repeats"] += 1
            metadata = json_text({"repeat": repeat, "of": metadata})
        results = [
            Result(
                run_id=self.run_id,
                configuration_id=configuration.configuration_id,
                task_id=task.task_id,
                metric=metric,
                value=values_by_metric[metric],
                unit=UNITS[column.unit].store_unit if column.unit else None,
                n=values.get("n"),
                date=values.get("date"),
                metadata=metadata,
                scale_low=column.low,
                scale_high=column.high,
                direction=column.direction,
            )
            for metric, column in self.mapping.results.items()
        ]
        return [*self.unseen(task, configuration), *results]

    def trace(self, row: Found, report: FileReport) -> list[AnyRecord]:
        """Build a row's attempt: task, item and configuration if new, then the trace.

        No record is returned for a row that `grouped` will put into a trace.
        """
        values = self.values(row)
        if "trace" in self.mapping.columns:
            self._require(values, ("trace",), row.place)
        if self.mapping.tool_rows is None and (tool := self._tool(row)) is not None:
            group = self._groups.setdefault(values["trace"], Group(values["trace"]))
            group.parts.append(Part(row.place, values | {"started_at": tool.started_at}, (tool,)))
            return []
        self._require(values, ("task", "item", "model"), row.place)
        part = self._part(row, values, report)
        task = self.task(values)
        configuration = self.configuration(row, values)
        item_metadata = self.group(row, self.mapping.item_metadata)
        item = Item(task_id=task.task_id, **_pick(values, ITEM_FIELDS), metadata=item_metadata)
        self._add_up(values)
        if self._is_superseded(row):
            what = f"{row.place}: request {values['request_id']!r} continues in a later row"
            report.duplicates.add(f"{what}; the last one is imported")
            return []
        if "trace" in self.mapping.columns:
            self._correct(row, values, report)
            group = self._groups.setdefault(values["trace"], Group(values["trace"]))
            group.add(part, task, item, configuration, report)
            return []
        trial = values.get("trial") or 0
        key = self._trial_key(configuration, item, trial)
        while self._counts_repeats and key in self._trials:
            trial += 1
            key = self._trial_key(configuration, item, trial)
        if key in self._trials and self.mapping.keep == "first":
            what = f"{row.place}: item {item.item!r}, trial {trial} occurs twice"
            report.duplicates.add(f"{what}; the first one is imported")
            return []
        self._correct(row, values, report)
        self._trials.add(key)
        values["trial"] = trial
        group = Group("", [part], task, item, configuration)
        records = [task, item, configuration, group.trace(self.run_id)]
        return self._taken(key, row.place, records, report)

    def _correct(self, row: Found, values: Row, report: FileReport) -> None:
        """Make token counts inclusive, and what contradicts itself unknown."""
        make_inclusive(values, self._conventions(row), row.place, report)
        clear_contradictions(values, fields(), row.place, report)

    def _trial_key(self, configuration: Configuration, item: Item, trial: int) -> bytes:
        """Return the bytes of the trace's id."""
        parts = (self.run_id, configuration.configuration_id, item.item_id, trial)
        return bytes.fromhex(content_id("Trace", *parts))

    def add_trials(self, keys: list[bytes]) -> bool:
        """Note the ids of a block's traces; returns False, and notes none, if one is known."""
        fresh = set(keys)
        if len(fresh) < len(keys) or not self._trials.isdisjoint(fresh):
            return False
        self._trials |= fresh
        return True

    def add_ids(self, ids: list[str]) -> list[bool]:
        """Note the ids of a block's items; returns which of them are new."""
        are_new = [id not in self._yielded_ids for id in ids]
        self._yielded_ids.update(ids)
        return are_new

    def _taken(self, key: bytes, place: str, records: list[Any], report: FileReport) -> list[Any]:
        """Return a trace's records, or hold them if a later row may replace them."""
        if self.mapping.keep == "first":
            report.rows_out += 1
            return [*self.unseen(*records[:-1]), records[-1]]
        if key in self._held:
            item, trial = records[1].item, records[3].trial
            what = f"{self._held[key][0]}: item {item!r}, trial {trial} occurs again"
            report.duplicates.add(f"{what}; the last one is imported")
        self._held[key] = (place, records)
        return []

    def grouped(self, report: FileReport) -> Iterator[AnyRecord]:
        """Yield the traces of several rows, and those that a later row could have replaced."""
        for _, records in self._held.values():
            report.rows_out += 1
            yield from (*self.unseen(*records[:-1]), records[-1])
        for group in self._groups.values():
            if not group.records:
                report.bad_row(
                    f"{self.path}, {group.parts[0].place}: trace {group.name!r} has tool calls, but"
                    " no row of a call",
                    read=0,
                )
                continue
            report.rows_out += len(group.parts)
            yield from (*self.unseen(*group.records), group.trace(self.run_id))
        if self._groups:
            report.notes["traces, of several rows each where they have the same id"] += len(
                self._groups
            )

    def _part(self, row: Found, values: Row, report: FileReport) -> Part:
        scores = (*_scores(values), *self._further(row, values), *self._metrics(row, values))
        tools = () if self.mapping.tool_rows is None else tuple(self._tools_within(row, report))
        metadata = self.group(row, self.mapping.metadata)
        return Part(row.place, values, tools, scores, metadata, is_call=True)

    def _further(self, row: Found, values: Row) -> Iterator[Score]:
        """Read the scores of [scores]."""
        for name, column in self.mapping.scores.items():
            if name == (values.get("scorer") or _SCORER):
                raise ImportFormatError(
                    f"{self.path}, {row.place}: [scores] {name} has the name of the scorer; give it"
                    " another name"
                )
            value = self.cell(row, column, SHARE)
            if value is not None:
                passed = value >= 1
                yield Score(scorer=name, score=value, passed=passed, value=_number_text(value))

    def _conventions(self, row: Found) -> tuple[str, ...]:
        """Return the token conventions of a row."""
        column = self.mapping.tokens_column
        if column is None:
            return self.mapping.tokens
        _, raw, mapped = self._known(row, column, "text")
        if raw is None:
            return self.mapping.tokens
        if isinstance(mapped, tuple):
            return mapped
        return self.mapping.tokens

    # -- tool calls ----------------------------------------------------------------------------

    def _tool(self, row: Found) -> ToolUse | None:
        """Read the tool call of a row; None if it has no tool."""
        values = {
            name: self.cell(row, column, _TOOL_COLUMNS[name])
            for name, column in self.mapping.tool_calls.items()
        }
        return ToolUse(row.place, **values) if values.get("tool") else None

    def _tools_within(self, row: Found, report: FileReport) -> Iterator[ToolUse]:
        """Read the tool calls that are lists or objects within a row."""
        steps_to = self.mapping.tool_rows or EACH
        where = f"{self.path}, {row.place}"
        unfolding = Unfolding(Values(), steps_to, where, lambda _: None, is_optional=True)
        for place, node, beside, names in unfolding.rows(row.cells):
            if not isinstance(node, dict):
                raise ImportFormatError(
                    f"{where}, {place}: a tool call must be an object, not {shown(node)}"
                )
            tool = self._tool(Found(f"{row.place}, {place}", node, beside, names, row.number))
            if tool is None:
                report.notes["tool calls without a tool's name: left out"] += 1
            else:
                yield tool

    # -- parts of records ----------------------------------------------------------------------

    def task(self, values: Row) -> Task:
        """Build the task of a row."""
        scorer = values.get("scorer")
        return Task(task=values["task"], version=values.get("task_version"), scorer=scorer)

    def configuration(self, row: Found, values: Row) -> Configuration:
        """Build the configuration of a row."""
        return Configuration(
            **_pick(values, CONFIGURATION_FIELDS),
            strategy_params=self.group(row, self.mapping.strategy_params),
            settings=self.group(row, self.mapping.settings),
        )

    def _metrics(self, row: Found, values: Row) -> Iterator[Score]:
        """Read the metrics of [metrics]; one with the scale 0..1, higher is better, is a score."""
        scorer = values.get("scorer") or _SCORER
        for name, column in self.mapping.metrics.items():
            if name == scorer:
                raise ImportFormatError(
                    f"{self.path}, {row.place}: [metrics] {name} has the name of the scorer;"
                    " give it another name"
                )
            value = self.cell(row, column, metric_field(name, column))
            if value is None:
                continue
            is_share = (column.low, column.high, column.direction) == (0, 1, "higher")
            unit = UNITS[column.unit].store_unit if column.unit in UNITS else column.unit
            yield Score(
                scorer=name,
                score=value if is_share else None,
                metric=value,
                unit=unit or None,
                value=_number_text(value),
                scale_low=column.low,
                scale_high=column.high,
                direction=column.direction,
            )

    def unseen(self, *records: Task | Item | Configuration) -> Iterator[AnyRecord]:
        """Yield those of some records that were not there before."""
        for record in records:
            id = getattr(record, f"{type(record).__name__.lower()}_id")
            if id not in self._yielded_ids:
                self._yielded_ids.add(id)
                yield record

    def _require(self, values: Row, names: tuple[str, ...], place: str) -> None:
        for name in names:
            if values.get(name) in {None, ""}:
                raise ImportFormatError(
                    f"{self.path}, {place}: no {name}; mapping {self.mapping.name} must give its"
                    " column in [columns], or its value in [constants]"
                )

    # -- checks --------------------------------------------------------------------------------

    def check_columns(self, names: set[str], *, final: bool) -> None:
        """Check that the file has all columns of the mapping.

        Args:
            names: columns seen so far.
            final: whether all rows were seen; before, nested columns may still appear.

        Raises:
            ImportFormatError: the file lacks a column.
        """
        for field, column in self.mapping.all_columns():
            if column.optional or column.default is not None:
                continue
            needed = column.join or column.paths[:1]
            if not column.join and any(self._is_there(p, names, final) for p in column.paths):
                continue
            for path in needed:
                if not self._is_there(path, names, final):
                    raise self._no_column(field, path, names)

    def _is_there(self, path: str, names: set[str], final: bool) -> bool:
        """Whether a column is in the file, or may still appear."""
        if path in self.read_paths or self.stream.is_property(path):
            return True
        if path.startswith("^"):
            header = self.header or (self._last.beside if final else NOTHING)
            return path[1:] in header or (not final and not self.header) or _is_nested(path, final)
        return path in names or _is_nested(path, final)

    def _no_column(self, field: str, path: str, names: set[str]) -> ImportFormatError:
        is_header = path.startswith("^")
        known = set(self.header or self._last.beside) if is_header else names
        if path.startswith("@"):
            known = {*self.stream.file, "@value", *(f"@{name}" for name in self._last.names)}
        near = difflib.get_close_matches(path.removeprefix("^"), known, n=1, cutoff=0.4)
        hint = f"; the nearest name is {near[0]!r}" if near else ""
        where = "beside its rows" if is_header else "in its rows"
        return ImportFormatError(
            f"mapping {self.mapping.name}: {field} = {path!r}, but {self.path} has no such "
            f"column {where}{hint}"
        )

    def note_unread(self, report: FileReport) -> None:
        """Note the columns that a user's mapping does not read."""
        if self.mapping.is_shipped:
            return
        read = self.stream.paths() | {p for _, c in self.mapping.all_columns() for p in c.paths}
        read |= self.stream.unpivoted_paths(read, tuple(self.columns_seen))
        read |= {str(steps(path)[0]) for path in read}
        unread = sorted(self.columns_seen - read)
        if unread:
            more = f" and {len(unread) - _MAX_LISTED} more" if len(unread) > _MAX_LISTED else ""
            report.notes[f"columns not read: {', '.join(unread[:_MAX_LISTED])}{more}"] += 1

    def totals(self) -> Iterator[Total]:
        """Yield each total that the file states with that of its rows, duplicates included."""
        beside = self.header or self._last.beside
        for name, total in self.mapping.totals.items():
            stated = self.cell(Found("totals", {}, beside), total.column, _FLOAT)
            n = self.counts.get(total.of, 0)
            added = self.sums.get(total.of, 0.0)
            computed = {"sum": added, "mean": added / n if n else 0.0, "count": float(n)}[total.how]
            if stated is not None:
                yield Total(name, stated, computed, total.tolerance)


def _is_nested(path: str, final: bool) -> bool:
    """Whether a path may still appear in a later row: it leads into a cell, or has a name in it."""
    return not final and any(mark in path for mark in ".[{")


def _typed_alone(text: str) -> Any:
    """Convert a text to its type, by itself."""
    survey = cells.Survey()
    survey.add(text)
    return survey.typed(text)


def numeric_paths(mapping: Mapping) -> frozenset[str]:
    """Return the columns of numbers, which are evidence for the file's decimal mark."""
    types = {"int", "float"}
    number_columns = [
        p for n, c in mapping.columns.items() if fields()[n].type in types for p in c.paths
    ]
    prices = [
        p for n, c in mapping.prices.items() if schema.PRICES[n].type in types for p in c.paths
    ]
    figures = [
        p
        for part in (mapping.metrics, mapping.results, mapping.scores)
        for c in part.values()
        for p in c.paths
    ]
    groups = (
        mapping.strategy_params,
        mapping.settings,
        mapping.metadata,
        mapping.item_metadata,
    )
    amounts = [p for part in groups for c in part.values() if c.unit for p in c.paths]
    tools = [
        p
        for n, c in mapping.tool_calls.items()
        if TOOL_FIELDS[n] in types and mapping.tool_rows is None
        for p in c.paths
    ]
    return frozenset([*number_columns, *prices, *figures, *amounts, *tools])


def _named(mapping: Mapping) -> frozenset[str]:
    """Return the columns whose cells get the type of their column: keys and parameters."""
    groups = (
        mapping.strategy_params,
        mapping.settings,
        mapping.metadata,
        mapping.item_metadata,
    )
    item = [column for name, column in mapping.columns.items() if name == "item"]
    return frozenset(
        p for part in (item, *(g.values() for g in groups)) for c in part for p in c.paths
    )


def _constant(name: str, value: object, mapping: Mapping) -> Any:
    """Convert a constant of a mapping as if it were a cell."""
    field = fields()[name]
    try:
        return _check_range(convert(value, field.type, field.unit), Column(name), field)
    except ImportFormatError as error:
        raise ImportFormatError(f"mapping {mapping.name}, [constants] {name}: {error}") from error


def _mapped(raw: object, column: Column, kind: str) -> Any:
    """Apply a column's `map` and `null_if` to a cell; None if it is unknown."""
    if column.values is not None:
        key = NULL if is_null(raw, "text") else cells.text(raw)
        if key not in column.values and key.lower() in {"true", "false"}:
            key = key.lower()
        if key in column.values:
            value = column.values[key]
            return None if value == NULL else value
    if is_null(raw, kind):
        return None
    if column.null_if and any(equals(raw, null) for null in column.null_if):
        return None
    return raw


def _check_range(value: Any, column: Column, field: schema.Column) -> Any:
    """Check that a value is within the scale of its field or the range of its metric.

    Raises:
        ImportFormatError: the value is outside; the message shows how to import other scales.
    """
    if not isinstance(value, float):
        return value
    low, high = (0, 1) if field.unit == "0..1" else (column.low, column.high)
    if low is not None and low - _ROUNDING <= value < low:
        return float(low)
    if high is not None and high < value <= high + _ROUNDING:
        return float(high)
    if (low is None or value >= low) and (high is None or value <= high):
        return value
    name = column.path
    if field.unit != "0..1":
        ends = f"{'−∞' if low is None else f'{low:g}'} to {'∞' if high is None else f'{high:g}'}"
        raise ImportFormatError(
            f"{value:g} is outside of the range {ends} that the mapping gives it"
        )
    if column.unit:
        raise ImportFormatError(f"{value:g} is outside of 0..1 after {column.unit} → 0..1")
    raise ImportFormatError(
        f"{value:g} is outside of 0..1; for percentages set "
        f'{field.name} = {{ column = "{name}", unit = "percent" }}, '
        "and for points or losses a metric: "
        f'[metrics] points = {{ column = "{name}", range = [0, 100], direction = "higher" }}'
    )


def metric_field(name: str, column: Column) -> schema.Column:
    """Return the field that a metric is read as."""
    unit = UNITS[column.unit].store_unit if column.unit in UNITS else ""
    return schema.Column(name, "float", unit)

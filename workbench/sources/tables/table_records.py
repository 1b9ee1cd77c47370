"""Conversion of the rows of a table to records, with a mapping."""

import difflib
import functools
from collections.abc import Iterator
from collections.abc import Mapping as Dict
from pathlib import Path
from typing import Any

import msgspec

from workbench import cells, schema
from workbench.cells import POINT, integral
from workbench.errors import ImportFormatError
from workbench.records import (
    AnyRecord,
    Call,
    Configuration,
    EnergyReading,
    Item,
    Message,
    Price,
    Result,
    Score,
    Task,
    Trace,
    json_text,
)
from workbench.sources.report import FileReport, Total
from workbench.sources.tables.column_evidence import ColumnEvidence
from workbench.sources.tables.mapping import NULL, Column, Mapping, fields
from workbench.sources.tables.table_counts import (
    clear_contradictions,
    clear_negative,
    make_inclusive,
)
from workbench.sources.tables.table_rows import Row, Table, open_table
from workbench.sources.tables.units import PLAIN_FORMAT, UNITS, CellFormat, convert, equals, is_null

_MISSING = object()
_SCORER = "reported"  # scorer of rows whose mapping has none
_ROUNDING = 1e-9  # a rounded mean of scores may be this far outside of its scale
_NAMES = (
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
_MOMENT = schema.Column("time", "time")
_MESSAGES = (
    ("system_prompt", "system", "text"),
    ("prompt", "user", "text"),
    ("thinking", "assistant", "thinking"),
    ("output", "assistant", "text"),
)


def _names(record: type[msgspec.Struct], *without: str) -> tuple[str, ...]:
    return tuple(f for f in record.__struct_fields__ if f in fields() and f not in without)


_ITEM = _names(Item)
_CONFIGURATION = _names(Configuration)
_TRACE = _names(Trace, "score", "passed")
_CALL = _names(Call)


class RowReader:
    """Reader of a table's rows; it also sums up the fields of which the file states a total."""

    def __init__(self, path: Path, table: Table, mapping: Mapping, run_id: str) -> None:
        """Bind the mapping to one file; constants are converted once."""
        self.path = path
        self.mapping = mapping
        self.run_id = run_id
        self.header = table.header
        self.is_text = table.is_text
        self.file: Row = {"@stem": path.stem, "@name": path.name, "@folder": path.parent.name}
        self.file |= {"@row": 0, "@repeat": 0}
        self.read_paths: set[str] = set()
        self.columns_seen: set[str] = set(table.columns or ())
        self.constants = {
            name: _constant(name, value, mapping) for name, value in mapping.constants.items()
        }
        self._fields = [(name, c, fields()[name]) for name, c in mapping.columns.items()]
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.evidence = ColumnEvidence(
            self._texts, _numeric(mapping), _named(mapping), lambda: self._open().delimiter
        )
        self._yielded_ids: set[str] = set()
        trial = mapping.columns.get("trial")
        self._counts_repeats = trial is not None and trial.path == "@repeat"
        self._trials: set[tuple[str, str, int]] = set()
        self._repeats: dict[tuple[str, str, str | None], int] = {}

    # -- cells ---------------------------------------------------------------------------------

    def cell(self, row: Row, column: Column, field: schema.Column, place: str) -> Any:
        """Read one cell and those to add to it, as the given field; None if all are unknown.

        Raises:
            ImportFormatError: a cell has the wrong type, or is outside of the column's scale.
        """
        value = self._cell(row, column, field, place)
        for more in column.plus:
            added = self._cell(row, more, field, place)
            value = added if value is None else value + (added or 0)
        return value

    def _cell(self, row: Row, column: Column, field: schema.Column, place: str) -> Any:
        """Read one cell in the field's type and unit; None if it is unknown."""
        raw = self._raw(row, column.path)
        if raw is _MISSING:
            return None
        self.read_paths.add(column.path)
        mapped = _mapped(raw, column, field.type)
        if mapped is None:
            return None
        try:
            value = convert(
                mapped, field.type, field.unit, self._cell_format(mapped, column, field)
            )
            return _check_range(value, column, field)
        except ImportFormatError as error:
            text = f"{self.path}, {place}, column {column.path!r}: {error}"
            raise ImportFormatError(text) from error

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

    def _raw(self, row: Row, path: str) -> Any:
        if path in self.file:
            return self.file[path]
        source, name = (self.header, path[1:]) if path.startswith("^") else (row, path)
        if name in source:
            return source[name]
        value: Any = source
        for step in name.split("."):
            if not isinstance(value, dict) or step not in value:
                return _MISSING
            value = value[step]
        return value

    def _open(self) -> Table:
        """Open the file again, to survey all of its rows."""
        report = FileReport(self.path, skip_bad_rows=True)
        return open_table(self.path, self.mapping.rows, report, delimiter=self.mapping.delimiter)

    def _texts(self, paths: frozenset[str]) -> Iterator[dict[str, str]]:
        """Yield the text cells of some columns, row by row, by reading the file again."""
        for _, row in self._open().rows:
            raw_cells = {path: self._raw(row, path) for path in paths}
            yield {path: cell for path, cell in raw_cells.items() if isinstance(cell, str)}

    @functools.cached_property
    def _last_of(self) -> dict[tuple[str, ...], int]:
        """Last row of each request with several rows: a stream writes rows with growing counts."""
        last: dict[tuple[str, ...], int] = {}
        repeated: set[tuple[str, ...]] = set()
        if "request_id" in self.mapping.columns:
            for number, (_, row) in enumerate(self._open().rows, 1):
                if (key := self._request(row)) is not None:
                    repeated |= {key} & last.keys()
                    last[key] = number
        return {key: last[key] for key in repeated}

    def _request(self, row: Row) -> tuple[str, ...] | None:
        """Return the key of a row's request, with item, model and trial; None without an id."""
        paths = {
            name: column.path
            for name, column in self.mapping.columns.items()
            if name in {"request_id", "item", "model", "trial"} and column.path not in self.file
        }
        cells_ = {name: self._raw(row, path) for name, path in paths.items()}
        if is_null(cells_.get("request_id"), "text") or cells_["request_id"] is _MISSING:
            return None
        return tuple(str(cell) for cell in cells_.values())

    def _is_superseded(self, row: Row) -> bool:
        """Whether a later row has the same request."""
        if not self._last_of:
            return False
        key = self._request(row)
        return key is not None and self._last_of.get(key, 0) > self.file["@row"]

    def values(self, row: Row, place: str) -> dict[str, Any]:
        """Read all fields of the mapping."""
        self.file["@row"] += 1
        values = dict(self.constants)
        for name, column, field in self._fields:
            values[name] = self.cell(row, column, field, place)
        item = self.mapping.columns.get("item")
        if item is not None and isinstance(values["item"], str):
            values["item"] = self._typed_key(values["item"], item)
        for name in _NAMES if self.is_text else ():
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

    def group(self, row: Row, columns: Dict[str, Column], place: str) -> str | None:
        """Read named columns into one JSON text without unknown ones; None if all are unknown."""
        values: dict[str, Any] = {}
        for name, column in columns.items():
            if column.unit or column.form:
                field = _MOMENT if column.form else _FLOAT
                value = self.cell(row, column, field, place)
                values[name] = value.isoformat() if column.form and value is not None else value
                continue
            raw = self._raw(row, column.path)
            if raw is not _MISSING:
                self.read_paths.add(column.path)
                values[name] = self._typed(raw, _mapped(raw, column, "text"), column)
        known = {name: value for name, value in values.items() if value is not None}
        return json_text(known) if known else None

    def _typed(self, raw: object, mapped: Any, column: Column) -> Any:
        """Convert a text to the type of its column; mapped and typed cells have a type already."""
        has_type = mapped is not raw or column.path in self.file
        if has_type or not self.is_text or not isinstance(mapped, str):
            return mapped
        return self.evidence.survey(column.path).typed(mapped)

    # -- records -------------------------------------------------------------------------------

    def price(self, row: Row, place: str, report: FileReport) -> Price:
        """Build the price of one row of a price sheet."""
        values: Row = {n: v for n, v in self.constants.items() if n in Price.__struct_fields__}
        for name, column in self.mapping.prices.items():
            values[name] = self.cell(row, column, schema.PRICES[name], place)
        self._require(values, ("model",), place)
        clear_negative(values, {c.name: c for c in schema.PRICES.columns}, place, report)
        values.setdefault("sheet", self.mapping.name)
        return Price(**_pick(values, tuple(values)))

    def results(self, row: Row, place: str, report: FileReport) -> list[AnyRecord]:
        """Build a row's aggregates: task and configuration if new, then a result per metric."""
        values = self.values(row, place)
        self._require(values, ("task", "model"), place)
        task = self._task(values)
        configuration = self._configuration(row, values, place)
        metadata = self.group(row, self.mapping.metadata, place)
        values_by_metric = {
            metric: self.cell(row, column, _metric_field(metric, column), place)
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
        return [*self._unseen(task, configuration), *results]

    def trace(self, row: Row, place: str, report: FileReport) -> list[AnyRecord]:
        """Build a row's attempt: task, item and configuration if new, then the trace."""
        values = self.values(row, place)
        self._require(values, ("task", "item", "model"), place)
        task = self._task(values)
        configuration = self._configuration(row, values, place)
        metadata = self.group(row, self.mapping.metadata, place)
        scores = (*_scores(values), *self._metrics(row, values, place))
        self._add_up(values)
        if self._is_superseded(row):
            what = f"{place}: request {values['request_id']!r} continues in a later row"
            report.duplicates.add(f"{what}; the last one is imported")
            return []
        item = Item(task_id=task.task_id, **_pick(values, _ITEM))
        trial = values.get("trial") or 0
        while (key := (configuration.configuration_id, item.item_id, trial)) in self._trials:
            if not self._counts_repeats:
                what = f"{place}: item {item.item!r}, trial {trial} occurs twice"
                report.duplicates.add(f"{what}; the first one is imported")
                return []
            trial += 1
        self._trials.add(key)
        make_inclusive(values, self.mapping.tokens, place, report)
        clear_contradictions(values, fields(), place, report)
        report.rows_out += 1
        first = scores[0] if scores and scores[0].metric is None else None
        trace = Trace(
            run_id=self.run_id,
            configuration_id=configuration.configuration_id,
            task_id=task.task_id,
            item_id=item.item_id,
            **(_pick(values, _TRACE) | {"trial": trial}),
            score=first.score if first else None,
            passed=first.passed if first else None,
            metadata=metadata,
            calls=(_call(values),),
            messages=_messages(values),
            scores=scores,
            energy=_energy(values),
        )
        return [*self._unseen(task, item, configuration), trace]

    def _task(self, values: Row) -> Task:
        scorer = values.get("scorer")
        return Task(task=values["task"], version=values.get("task_version"), scorer=scorer)

    def _configuration(self, row: Row, values: Row, place: str) -> Configuration:
        return Configuration(
            **_pick(values, _CONFIGURATION),
            strategy_params=self.group(row, self.mapping.strategy_params, place),
            settings=self.group(row, self.mapping.settings, place),
        )

    def _metrics(self, row: Row, values: Row, place: str) -> Iterator[Score]:
        """Read the metrics of [metrics]; one with the scale 0..1, higher is better, is a score."""
        scorer = values.get("scorer") or _SCORER
        for name, column in self.mapping.metrics.items():
            if name == scorer:
                raise ImportFormatError(
                    f"{self.path}, {place}: [metrics] {name} has the name of the scorer;"
                    " give it another name"
                )
            value = self.cell(row, column, _metric_field(name, column), place)
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

    def _unseen(self, *records: Task | Item | Configuration) -> Iterator[AnyRecord]:
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
            path = column.path
            if column.optional or path in self.read_paths or path in self.file:
                continue
            is_header = path.startswith("^")
            known = set(self.header) if is_header else names
            name = path.removeprefix("^")
            if name in known or (not final and "." in name):
                continue
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"; the nearest name is {near[0]!r}" if near else ""
            where = "beside its rows" if is_header else "in its rows"
            raise ImportFormatError(
                f"mapping {self.mapping.name}: {field} = {path!r}, but {self.path} has no such "
                f"column {where}{hint}"
            )

    def note_unread(self, report: FileReport) -> None:
        """Note the columns that a user's mapping does not read."""
        if self.mapping.is_shipped:
            return
        read = {c.path for _, c in self.mapping.all_columns()}
        read |= {path.partition(".")[0] for path in read}
        unread = sorted(self.columns_seen - read)
        if unread:
            more = f" and {len(unread) - _MAX_LISTED} more" if len(unread) > _MAX_LISTED else ""
            report.notes[f"columns not read: {', '.join(unread[:_MAX_LISTED])}{more}"] += 1

    def totals(self) -> Iterator[Total]:
        """Yield each total that the file states with that of its rows, duplicates included."""
        for name, total in self.mapping.totals.items():
            stated = self.cell({}, total.column, _FLOAT, "totals")
            n = self.counts.get(total.of, 0)
            added = self.sums.get(total.of, 0.0)
            computed = {"sum": added, "mean": added / n if n else 0.0, "count": float(n)}[total.how]
            if stated is not None:
                yield Total(name, stated, computed, total.tolerance)


def _numeric(mapping: Mapping) -> frozenset[str]:
    """Return the columns of numbers, which are evidence for the file's decimal mark."""
    types = {"int", "float"}
    number_columns = [c.path for n, c in mapping.columns.items() if fields()[n].type in types]
    prices = [c.path for n, c in mapping.prices.items() if schema.PRICES[n].type in types]
    figures = [c.path for part in (mapping.metrics, mapping.results) for c in part.values()]
    groups = (mapping.strategy_params, mapping.settings, mapping.metadata)
    amounts = [c.path for part in groups for c in part.values() if c.unit]
    return frozenset([*number_columns, *prices, *figures, *amounts])


def _named(mapping: Mapping) -> frozenset[str]:
    """Return the columns whose cells get the type of their column: keys and parameters."""
    groups = (mapping.strategy_params, mapping.settings, mapping.metadata)
    item = [column for name, column in mapping.columns.items() if name == "item"]
    return frozenset(c.path for part in (item, *(g.values() for g in groups)) for c in part)


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


def _metric_field(name: str, column: Column) -> schema.Column:
    """Return the field that a metric is read as."""
    unit = UNITS[column.unit].store_unit if column.unit in UNITS else ""
    return schema.Column(name, "float", unit)


def _number_text(value: float) -> str:
    return f"{value:.15g}"


def _pick(values: Row, names: tuple[str, ...]) -> Row:
    return {name: values[name] for name in names if values.get(name) is not None}


def _call(values: Row) -> Call:
    """Build one call with a row's totals, of as many requests as the row has turns."""
    call: Row = {"tokens_source": "reported", "n_requests": values.get("n_turns") or None}
    return Call(**(call | _pick(values, _CALL)))


def _scores(values: Row) -> Iterator[Score]:
    score = values.get("score")
    passed = values.get("passed")
    if score is None and passed is None:
        return
    score = float(passed is True) if score is None else score
    yield Score(
        scorer=values.get("scorer") or _SCORER,
        score=score,
        passed=score >= 1 if passed is None else passed,
        value=_number_text(score),
        answer=values.get("answer"),
        explanation=values.get("explanation"),
    )


def _messages(values: Row) -> tuple[Message, ...]:
    messages: list[Message] = []
    for name, role, kind in _MESSAGES:
        if values.get(name):
            call = 0 if role == "assistant" else None
            text = values[name]
            messages.append(
                Message(ordinal=len(messages), role=role, kind=kind, text=text, call_ordinal=call)
            )
    return tuple(messages)


def _energy(values: Row) -> tuple[EnergyReading, ...]:
    joules = values.get("energy_j")
    if joules is None:
        return ()
    return (EnergyReading(call_ordinal=0, device="all", method="reported", energy_j=joules),)

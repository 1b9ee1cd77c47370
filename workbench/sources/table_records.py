"""Rows of a table → records, by a mapping."""

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
from workbench.sources.column_evidence import ColumnEvidence
from workbench.sources.mapping import NULL, Column, Mapping, fields
from workbench.sources.report import FileReport, Total
from workbench.sources.table_counts import forget_contradictions, forget_negative, make_inclusive
from workbench.sources.table_rows import Row, Table, open_table
from workbench.sources.units import PLAIN, UNITS, Reading, convert, equals, is_null

_MISSING = object()
_SCORER = "reported"  # where a mapping names none
_ROUNDING = 1e-9  # a mean of scores may end a little outside of its scale
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
_LISTED = 20  # names of columns in one note
_FLOAT, _MOMENT = schema.Column("number", "float"), schema.Column("time", "time")
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
    """Turns rows into records, and adds up what the file states in total."""

    def __init__(self, path: Path, table: Table, mapping: Mapping, run_id: str) -> None:
        """Bind the mapping to one file; constants are converted once."""
        self.path, self.mapping, self.run_id = path, mapping, run_id
        self.header, self.is_text = table.header, table.is_text
        self.file: Row = {"@stem": path.stem, "@name": path.name, "@folder": path.parent.name}
        self.file |= {"@row": 0, "@repeat": 0}
        self.found: set[str] = set()
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
        self._told: set[str] = set()
        trial = mapping.columns.get("trial")
        self._counts_repeats = trial is not None and trial.path == "@repeat"
        self._trials: set[tuple[str, str, int]] = set()
        self._repeats: dict[tuple[str, str, str | None], int] = {}

    # -- cells ---------------------------------------------------------------------------------

    def cell(self, row: Row, column: Column, ours: schema.Column, place: str) -> Any:
        """Read one cell, and those that are added to it, as our column; None where all are unknown.

        Raises:
            ImportFormatError: it holds no such thing, or one outside of the column's scale.
        """
        value = self._cell(row, column, ours, place)
        for more in column.plus:
            added = self._cell(row, more, ours, place)
            value = added if value is None else value + (added or 0)
        return value

    def _cell(self, row: Row, column: Column, ours: schema.Column, place: str) -> Any:
        """Read one cell as the type of our column, in our unit; None where it is unknown."""
        raw = self._raw(row, column.path)
        if raw is _MISSING:
            return None
        self.found.add(column.path)
        given = _given(raw, column, ours.type)
        if given is None:
            return None
        try:
            value = convert(given, ours.type, ours.unit, self._reading(given, column, ours))
            return _within(value, column, ours)
        except ImportFormatError as error:
            text = f"{self.path}, {place}, column {column.path!r}: {error}"
            raise ImportFormatError(text) from error

    def _reading(self, cell: object, column: Column, ours: schema.Column) -> Reading:
        if ours.type in {"text", "json", "bool"}:
            return PLAIN
        mark = column.decimal or self.mapping.decimal
        if not mark and isinstance(cell, str) and ours.type in {"int", "float"}:
            mark = self.evidence.mark(column.path, cell, ours.type)
        if not (column.unit or column.offset or column.form) and mark in {"", POINT}:
            return PLAIN
        unit = column.unit if column.unit in UNITS else ""
        return Reading(unit, column.offset, mark or POINT, column.form)

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
        """Open the file once more, to learn of its rows what one row cannot say."""
        report = FileReport(self.path, skip_bad_rows=True)
        return open_table(self.path, self.mapping.rows, report, delimiter=self.mapping.delimiter)

    def _texts(self, paths: frozenset[str]) -> Iterator[dict[str, str]]:
        """Yield the cells of some columns that are texts, row by row, as a file of its own."""
        for _, row in self._open().rows:
            found = {path: self._raw(row, path) for path in paths}
            yield {path: cell for path, cell in found.items() if isinstance(cell, str)}

    @functools.cached_property
    def _last_of(self) -> dict[tuple[str, ...], int]:
        """Last row of each request that has several: a stream writes rows with growing counts."""
        last: dict[tuple[str, ...], int] = {}
        repeated: set[tuple[str, ...]] = set()
        if "request_id" in self.mapping.columns:
            for number, (_, row) in enumerate(self._open().rows, 1):
                if (key := self._request(row)) is not None:
                    repeated |= {key} & last.keys()
                    last[key] = number
        return {key: last[key] for key in repeated}

    def _request(self, row: Row) -> tuple[str, ...] | None:
        """Name the request of a row, its item and trial; None where it has no name."""
        paths = {
            name: column.path
            for name, column in self.mapping.columns.items()
            if name in {"request_id", "item", "model", "trial"} and column.path not in self.file
        }
        cells_ = {name: self._raw(row, path) for name, path in paths.items()}
        if is_null(cells_.get("request_id"), "text") or cells_["request_id"] is _MISSING:
            return None
        return tuple(str(cell) for cell in cells_.values())

    def _goes_on(self, row: Row) -> bool:
        """Whether a later row tells more of the same request."""
        if not self._last_of:
            return False
        key = self._request(row)
        return key is not None and self._last_of.get(key, 0) > self.file["@row"]

    def values(self, row: Row, place: str) -> dict[str, Any]:
        """Read all of our fields that the mapping names."""
        self.file["@row"] += 1
        values = dict(self.constants)
        for name, column, ours in self._fields:
            values[name] = self.cell(row, column, ours, place)
        item = self.mapping.columns.get("item")
        if item is not None and isinstance(values["item"], str):
            values["item"] = self._key(values["item"], item)
        for name in _NAMES if self.is_text else ():
            if isinstance(values.get(name), str):
                values[name] = values[name].strip()
        return values

    def _key(self, text: str, column: Column) -> str:
        """Write a key as other formats type it: in a column of whole numbers 1.0 is 1."""
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
        """Read named columns into one JSON text; unknown ones are left out, None if all are."""
        found: dict[str, Any] = {}
        for name, column in columns.items():
            if column.unit or column.form:
                ours = _MOMENT if column.form else _FLOAT
                value = self.cell(row, column, ours, place)
                found[name] = value.isoformat() if column.form and value is not None else value
                continue
            raw = self._raw(row, column.path)
            if raw is not _MISSING:
                self.found.add(column.path)
                found[name] = self._typed(raw, _given(raw, column, "text"), column)
        known = {name: value for name, value in found.items() if value is not None}
        return json_text(known) if known else None

    def _typed(self, raw: object, given: Any, column: Column) -> Any:
        """Give a text the type of its column; what a mapping says, or a typed file, has one."""
        told = given is not raw or column.path in self.file
        if told or not self.is_text or not isinstance(given, str):
            return given
        return self.evidence.survey(column.path).typed(given)

    # -- records -------------------------------------------------------------------------------

    def price(self, row: Row, place: str, report: FileReport) -> Price:
        """One line of a price sheet."""
        values: Row = {n: v for n, v in self.constants.items() if n in Price.__struct_fields__}
        for name, column in self.mapping.prices.items():
            values[name] = self.cell(row, column, schema.PRICES[name], place)
        self._need(values, ("model",), place)
        forget_negative(values, {c.name: c for c in schema.PRICES.columns}, place, report)
        values.setdefault("sheet", self.mapping.name)
        return Price(**_pick(values, tuple(values)))

    def results(self, row: Row, place: str, report: FileReport) -> list[AnyRecord]:
        """One row of aggregates: its task and configuration, then a result per metric."""
        values = self.values(row, place)
        self._need(values, ("task", "model"), place)
        task, configuration = self._task(values), self._configuration(row, values, place)
        metadata = self.group(row, self.mapping.metadata, place)
        figures = {
            metric: self.cell(row, column, _scaled(metric, column), place)
            for metric, column in self.mapping.results.items()
        }
        self._add_up(values)
        key = (configuration.configuration_id, str(values.get("date")), metadata)
        self._repeats[key] = repeat = self._repeats.get(key, -1) + 1
        if repeat:  # measured again: kept beside the first
            report.notes["rows that repeat a configuration, kept apart as repeats"] += 1
            metadata = json_text({"repeat": repeat, "of": metadata})
        made = [
            Result(
                run_id=self.run_id,
                configuration_id=configuration.configuration_id,
                task_id=task.task_id,
                metric=metric,
                value=figures[metric],
                unit=UNITS[column.unit].ours if column.unit else None,
                n=values.get("n"),
                date=values.get("date"),
                metadata=metadata,
                scale_low=column.low,
                scale_high=column.high,
                direction=column.direction,
            )
            for metric, column in self.mapping.results.items()
        ]
        return [*self._new(task, configuration), *made]

    def trace(self, row: Row, place: str, report: FileReport) -> list[AnyRecord]:
        """One attempt: its task, item and configuration where they are new, then the trace."""
        values = self.values(row, place)
        self._need(values, ("task", "item", "model"), place)
        task, configuration = self._task(values), self._configuration(row, values, place)
        metadata = self.group(row, self.mapping.metadata, place)
        scores = (*_scores(values), *self._metrics(row, values, place))
        self._add_up(values)
        if self._goes_on(row):
            what = f"{place}: request {values['request_id']!r} goes on in a later row"
            report.duplicates.add(f"{what}; the last is kept")
            return []
        item = Item(task_id=task.task_id, **_pick(values, _ITEM))
        trial = values.get("trial") or 0
        while (key := (configuration.configuration_id, item.item_id, trial)) in self._trials:
            if not self._counts_repeats:
                what = f"{place}: item {item.item!r}, trial {trial} stands there before"
                report.duplicates.add(f"{what}; the first is kept")
                return []
            trial += 1
        self._trials.add(key)
        make_inclusive(values, self.mapping.tokens, place, report)
        forget_contradictions(values, fields(), place, report)
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
        return [*self._new(task, item, configuration), trace]

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
        """Read the scores on scales of their own; a scale of 0..1 is also a score."""
        taken = values.get("scorer") or _SCORER
        for name, column in self.mapping.metrics.items():
            if name == taken:
                raise ImportFormatError(
                    f"{self.path}, {place}: [metrics] {name} has the name of the scorer; "
                    "call it another"
                )
            value = self.cell(row, column, _scaled(name, column), place)
            if value is None:
                continue
            is_share = (column.low, column.high, column.direction) == (0, 1, "higher")
            unit = UNITS[column.unit].ours if column.unit in UNITS else column.unit
            yield Score(
                scorer=name,
                score=value if is_share else None,
                metric=value,
                unit=unit or None,
                value=_shown(value),
                scale_low=column.low,
                scale_high=column.high,
                direction=column.direction,
            )

    def _new(self, *records: Task | Item | Configuration) -> Iterator[AnyRecord]:
        for record in records:
            id = getattr(record, f"{type(record).__name__.lower()}_id")
            if id not in self._told:
                self._told.add(id)
                yield record

    def _need(self, values: Row, names: tuple[str, ...], place: str) -> None:
        for name in names:
            if values.get(name) in {None, ""}:
                raise ImportFormatError(
                    f"{self.path}, {place}: no {name}; mapping {self.mapping.name} must say where "
                    f"it is, in [columns] or [constants]"
                )

    # -- checks --------------------------------------------------------------------------------

    def check_columns(self, names: set[str], *, final: bool) -> None:
        """Raise where the mapping names a column that the file lacks.

        Args:
            names: columns seen so far.
            final: whether all rows were seen, so that nested and optional ones are known too.
        """
        for field, column in self.mapping.all_columns():
            path = column.path
            if column.optional or path in self.found or path in self.file:
                continue
            beside = path.startswith("^")
            known = set(self.header) if beside else names
            bare = path.removeprefix("^")
            if bare in known or (not final and "." in bare):
                continue
            near = difflib.get_close_matches(bare, known, n=1, cutoff=0.4)
            hint = f"; the nearest name is {near[0]!r}" if near else ""
            where = "beside its rows" if beside else "in its rows"
            raise ImportFormatError(
                f"mapping {self.mapping.name}: {field} = {path!r}, but {self.path} has no such "
                f"column {where}{hint}"
            )

    def note_unread(self, report: FileReport) -> None:
        """Note the columns that a user's mapping leaves unread."""
        if self.mapping.is_shipped:
            return
        read = {c.path for _, c in self.mapping.all_columns()}
        read |= {path.partition(".")[0] for path in read}
        unread = sorted(self.columns_seen - read)
        if unread:
            more = f" and {len(unread) - _LISTED} more" if len(unread) > _LISTED else ""
            report.notes[f"columns not read: {', '.join(unread[:_LISTED])}{more}"] += 1

    def totals(self) -> Iterator[Total]:
        """Compare each total that the file states with what its rows give, duplicates included."""
        for name, total in self.mapping.totals.items():
            stated = self.cell({}, total.column, _FLOAT, "totals")
            n = self.counts.get(total.of, 0)
            added = self.sums.get(total.of, 0.0)
            found = {"sum": added, "mean": added / n if n else 0.0, "count": float(n)}[total.how]
            if stated is not None:
                yield Total(name, stated, found, total.tolerance)


def _numeric(mapping: Mapping) -> frozenset[str]:
    """The columns that must hold numbers, whose decimal marks speak for the file."""
    own = [c.path for n, c in mapping.columns.items() if fields()[n].type in {"int", "float"}]
    prices = [
        c.path for n, c in mapping.prices.items() if schema.PRICES[n].type in {"int", "float"}
    ]
    figures = [c.path for part in (mapping.metrics, mapping.results) for c in part.values()]
    groups = (mapping.strategy_params, mapping.settings, mapping.metadata)
    amounts = [c.path for part in groups for c in part.values() if c.unit]
    return frozenset([*own, *prices, *figures, *amounts])


def _named(mapping: Mapping) -> frozenset[str]:
    """The columns whose cells take the type of their column: keys and parameters."""
    groups = (mapping.strategy_params, mapping.settings, mapping.metadata)
    item = [column for name, column in mapping.columns.items() if name == "item"]
    return frozenset(c.path for part in (item, *(g.values() for g in groups)) for c in part)


def _constant(name: str, value: object, mapping: Mapping) -> Any:
    """Read what a mapping says of every row, as it would be read from a cell."""
    ours = fields()[name]
    try:
        return _within(convert(value, ours.type, ours.unit), Column(name), ours)
    except ImportFormatError as error:
        raise ImportFormatError(f"mapping {mapping.name}, [constants] {name}: {error}") from error


def _given(raw: object, column: Column, kind: str) -> Any:
    """Apply what a mapping says of single values; None where a cell is unknown."""
    if column.values is not None:
        key = NULL if is_null(raw, "text") else cells.text(raw)
        if key not in column.values and key.lower() in {"true", "false"}:
            key = key.lower()
        if key in column.values:
            given = column.values[key]
            return None if given == NULL else given
    if is_null(raw, kind):
        return None
    if column.null_if and any(equals(raw, null) for null in column.null_if):
        return None
    return raw


def _within(value: Any, column: Column, ours: schema.Column) -> Any:
    """Check a value against its scale: 0..1 of our own columns, or the range of a mapped metric.

    Raises:
        ImportFormatError: it is outside; the message says how other scales come in.
    """
    if not isinstance(value, float):
        return value
    low, high = (0, 1) if ours.unit == "0..1" else (column.low, column.high)
    if low is not None and low - _ROUNDING <= value < low:
        return float(low)
    if high is not None and high < value <= high + _ROUNDING:
        return float(high)
    if (low is None or value >= low) and (high is None or value <= high):
        return value
    name = column.path
    if ours.unit != "0..1":
        ends = f"{'−∞' if low is None else f'{low:g}'} to {'∞' if high is None else f'{high:g}'}"
        raise ImportFormatError(
            f"{value:g} is outside of the range {ends} that the mapping gives it"
        )
    if column.unit:
        raise ImportFormatError(f"{value:g} is outside of 0..1 after {column.unit} → 0..1")
    raise ImportFormatError(
        f"{value:g} is outside of 0..1; for percentages say "
        f'{ours.name} = {{ column = "{name}", unit = "percent" }}, '
        "and for points or losses a metric: "
        f'[metrics] points = {{ column = "{name}", range = [0, 100], direction = "higher" }}'
    )


def _scaled(name: str, column: Column) -> schema.Column:
    """The column that a metric is read as."""
    unit = UNITS[column.unit].ours if column.unit in UNITS else ""
    return schema.Column(name, "float", unit)


def _shown(value: float) -> str:
    return f"{value:.15g}"


def _pick(values: Row, names: tuple[str, ...]) -> Row:
    return {name: values[name] for name in names if values.get(name) is not None}


def _call(values: Row) -> Call:
    """Build the one call that holds a row's totals, of as many requests as the row has turns."""
    call: Row = {"tokens_source": "reported", "n_requests": values.get("n_turns") or None}
    return Call(**(call | _pick(values, _CALL)))


def _scores(values: Row) -> Iterator[Score]:
    score, passed = values.get("score"), values.get("passed")
    if score is None and passed is None:
        return
    score = float(passed is True) if score is None else score
    yield Score(
        scorer=values.get("scorer") or _SCORER,
        score=score,
        passed=score >= 1 if passed is None else passed,
        value=_shown(score),
        answer=values.get("answer"),
        explanation=values.get("explanation"),
    )


def _messages(values: Row) -> tuple[Message, ...]:
    found: list[Message] = []
    for name, role, kind in _MESSAGES:
        if values.get(name):
            call = 0 if role == "assistant" else None
            text = values[name]
            found.append(
                Message(ordinal=len(found), role=role, kind=kind, text=text, call_ordinal=call)
            )
    return tuple(found)


def _energy(values: Row) -> tuple[EnergyReading, ...]:
    joules = values.get("energy_j")
    if joules is None:
        return ()
    return (EnergyReading(call_ordinal=0, device="all", method="reported", energy_j=joules),)

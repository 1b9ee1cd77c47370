"""Rows of a table → records, as a mapping says."""

import difflib
from collections.abc import Iterator
from collections.abc import Mapping as Dict
from pathlib import Path
from typing import Any

import msgspec

from workbench import schema
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
from workbench.sources.mapping import Column, Mapping, fields
from workbench.sources.report import FileReport, Total
from workbench.sources.table_rows import Row, Table
from workbench.sources.units import UNITS, convert, equals, is_null

_MISSING = object()
_CACHED = ("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens")
_MESSAGES = (
    ("system_prompt", "system", "text"), ("prompt", "user", "text"),
    ("thinking", "assistant", "thinking"), ("output", "assistant", "text"),
)  # fmt: skip


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
        self.header = table.header
        self.file: Row = {"@stem": path.stem, "@name": path.name, "@folder": path.parent.name}
        self.file |= {"@row": 0, "@repeat": 0}
        self.found: set[str] = set()
        self.columns_seen: set[str] = set(table.columns or ())
        self.constants = {
            name: convert(value, fields()[name].type) for name, value in mapping.constants.items()
        }
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self._told: set[str] = set()
        trial = mapping.columns.get("trial")
        self._counts_repeats = trial is not None and trial.path == "@repeat"
        self._trials: set[tuple[str, str, int]] = set()
        self._repeats: dict[tuple[str, str, str | None], int] = {}

    # -- cells ---------------------------------------------------------------------------------

    def cell(self, row: Row, column: Column, kind: str, place: str) -> Any:
        """Read one cell as the type of our column; None where it is unknown."""
        raw = self._raw(row, column.path)
        if raw is _MISSING:
            return None
        self.found.add(column.path)
        if is_null(raw, kind) or any(equals(raw, null) for null in column.null_if):
            return None
        if column.values is not None:
            name = str(raw).lower() if isinstance(raw, bool) else str(raw)
            raw = column.values.get(name, raw)
        factor = UNITS[column.unit].factor if column.unit else 1
        try:
            return convert(raw, kind, factor, column.offset)
        except ImportFormatError as error:
            text = f"{self.path}, {place}, column {column.path!r}: {error}"
            raise ImportFormatError(text) from error

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

    def values(self, row: Row, place: str) -> dict[str, Any]:
        """Read all of our fields that the mapping names."""
        self.file["@row"] += 1
        values = dict(self.constants)
        for name, column in self.mapping.columns.items():
            values[name] = self.cell(row, column, fields()[name].type, place)
        for name, value in values.items():
            self.counts[name] = self.counts.get(name, 0) + 1
            if isinstance(value, (int, float)):
                self.sums[name] = self.sums.get(name, 0) + value
        return values

    def group(self, row: Row, columns: Dict[str, Column], place: str) -> str | None:
        """Read named columns into one JSON text; unknown ones are left out, None if all are."""
        found: dict[str, Any] = {}
        for name, column in columns.items():
            raw = self._raw(row, column.path)
            if raw is not _MISSING:
                self.found.add(column.path)
            if raw is _MISSING or is_null(raw, "text"):
                continue
            plain = not (column.unit or column.null_if or column.values)
            found[name] = raw if plain else self.cell(row, column, "float", place)
        return json_text(found) if found else None

    # -- records -------------------------------------------------------------------------------

    def price(self, row: Row, place: str) -> Price:
        """One line of a price sheet."""
        values: Row = {n: v for n, v in self.constants.items() if n in Price.__struct_fields__}
        for name, column in self.mapping.prices.items():
            values[name] = self.cell(row, column, schema.PRICES[name].type, place)
        self._need(values, ("model",), place)
        values.setdefault("sheet", self.mapping.name)
        return Price(**_pick(values, tuple(values)))

    def results(self, row: Row, place: str, report: FileReport) -> Iterator[AnyRecord]:
        """One row of aggregates: its task and configuration, then a result per metric."""
        values = self.values(row, place)
        self._need(values, ("task", "model"), place)
        task, configuration = self._task(values), self._configuration(row, values, place)
        yield from self._new(task, configuration)
        metadata = self.group(row, self.mapping.metadata, place)
        key = (configuration.configuration_id, str(values.get("date")), metadata)
        self._repeats[key] = repeat = self._repeats.get(key, -1) + 1
        if repeat:  # measured again: kept beside the first
            report.notes["rows that repeat a configuration, kept apart as repeats"] += 1
            metadata = json_text({"repeat": repeat, "of": metadata})
        for metric, column in self.mapping.results.items():
            yield Result(
                run_id=self.run_id, configuration_id=configuration.configuration_id,
                task_id=task.task_id, metric=metric,
                value=self.cell(row, column, "float", place),
                unit=UNITS[column.unit].ours if column.unit else None,
                n=values.get("n"), date=values.get("date"), metadata=metadata,
            )  # fmt: skip

    def trace(self, row: Row, place: str, report: FileReport) -> Iterator[AnyRecord]:
        """One attempt: its task, item and configuration where they are new, then the trace."""
        values = self.values(row, place)
        self._need(values, ("task", "item", "model"), place)
        task, configuration = self._task(values), self._configuration(row, values, place)
        item = Item(task_id=task.task_id, **_pick(values, _ITEM))
        trial = values.get("trial") or 0
        while (key := (configuration.configuration_id, item.item_id, trial)) in self._trials:
            if not self._counts_repeats:
                what = f"{place}: item {item.item!r}, trial {trial} stands there before"
                report.duplicates.add(f"{what}; the first is kept")
                return
            trial += 1
        self._trials.add(key)
        yield from self._new(task, item, configuration)
        score = _score(values)
        calls = (self._call(values, place, report),)
        report.rows_out += 1
        yield Trace(
            run_id=self.run_id, configuration_id=configuration.configuration_id,
            task_id=task.task_id, item_id=item.item_id,
            **(_pick(values, _TRACE) | {"trial": trial}),
            score=score.score if score else None, passed=score.passed if score else None,
            metadata=self.group(row, self.mapping.metadata, place), calls=calls,
            messages=_messages(values), scores=(score,) if score else (), energy=_energy(values),
        )  # fmt: skip

    def _task(self, values: Row) -> Task:
        scorer = values.get("scorer")
        return Task(task=values["task"], version=values.get("task_version"), scorer=scorer)

    def _configuration(self, row: Row, values: Row, place: str) -> Configuration:
        return Configuration(
            **_pick(values, _CONFIGURATION),
            strategy_params=self.group(row, self.mapping.strategy_params, place),
            settings=self.group(row, self.mapping.settings, place),
        )

    def _call(self, values: Row, place: str, report: FileReport) -> Call:
        _add_back(values, self.mapping.tokens, report)
        thinking, output = values.get("reasoning_tokens"), values.get("output_tokens")
        if thinking is not None and output is not None and thinking > output:
            report.mismatches.add(f"{place}: thinking {thinking} is more than the output {output}")
        call: Row = {"tokens_source": "reported", "n_requests": None}  # totals of an attempt
        return Call(**(call | _pick(values, _CALL)))

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

    def totals(self) -> Iterator[Total]:
        """Compare each total that the file states with what its rows give, duplicates included."""
        for name, total in self.mapping.totals.items():
            stated = self.cell({}, total.column, "float", "totals")
            n = self.counts.get(total.of, 0)
            added = self.sums.get(total.of, 0.0)
            found = {"sum": added, "mean": added / n if n else 0.0, "count": float(n)}[total.how]
            if stated is not None:
                yield Total(name, stated, found, total.tolerance)


def _add_back(values: Row, conventions: tuple[str, ...], report: FileReport) -> None:
    """Make the totals inclusive where the mapping says that they are not."""
    if "input excludes cached" in conventions and values.get("input_tokens") is not None:
        values["input_tokens"] += sum(values.get(name) or 0 for name in _CACHED)
        report.conventions["input excludes cached: added back"] += 1
    if "output excludes thinking" in conventions and values.get("output_tokens") is not None:
        values["output_tokens"] += values.get("reasoning_tokens") or 0
        report.conventions["thinking beside output: added"] += 1


def _pick(values: Row, names: tuple[str, ...]) -> Row:
    return {name: values[name] for name in names if values.get(name) is not None}


def _score(values: Row) -> Score | None:
    score, passed = values.get("score"), values.get("passed")
    if score is None and passed is None:
        return None
    score = float(passed is True) if score is None else score
    return Score(
        scorer=values.get("scorer") or "reported", score=score,
        passed=score >= 1 if passed is None else passed, value=f"{score:g}",
        answer=values.get("answer"), explanation=values.get("explanation"),
    )  # fmt: skip


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

"""Cells of one row of a user's file → the parts of an item; independent of the other rows."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from workbench.cells import COMMA, POINT, decimal_mark, integral, is_empty, is_unknown
from workbench.cells import number as number_of
from workbench.cells import text as text_of
from workbench.datasets.mapping import Columns, cell, names_in
from workbench.datasets.reading import Row
from workbench.datasets.targets import Truths
from workbench.errors import TaskError
from workbench.scoring.filling import fill

_MOST_CHARACTERS = 10_000_000
_LISTED = ("text", "choices", "value", "values")  # fields of an object that hold the list itself


class NoQuestion(TaskError):
    """A row whose question is empty."""


@dataclasses.dataclass(slots=True)
class Parts:
    """What one row holds."""

    place: str
    input: str
    truths: Truths
    shape: str  # of the target's cell: text, list, object or none
    key: str | None
    choices: tuple[str, ...]
    tags: tuple[str, ...]
    cluster: str | None
    difficulty: float | None
    value_usd: float | None
    human_cost_usd: float | None
    scorer: str | None
    metadata: dict[str, Any]


def parts(row: Row, columns: Columns) -> Parts:
    """Read a row; TaskError names the place and the column, NoQuestion means an empty question."""
    reading = _Reading(row)
    question = reading.text(columns.input, "input")
    if question is None:
        raise NoQuestion(f"{row.place}: `input` is empty (column {columns.input!r})")
    target = _target_cell(row, columns, reading)
    return Parts(
        place=row.place,
        input=question,
        truths=reading.truths(target, columns.target or "target"),
        shape=_shape(target),
        key=reading.key(columns),
        choices=columns.constant or reading.choices(columns.choices),
        tags=tuple(tag for name in columns.tags for tag in reading.tags(name)),
        cluster=reading.text(columns.cluster, "cluster"),
        difficulty=reading.number(columns, "difficulty"),
        value_usd=reading.number(columns, "value_usd"),
        human_cost_usd=reading.number(columns, "human_cost_usd"),
        scorer=reading.text(columns.scorer, "scorer"),
        metadata=reading.metadata(columns),
    )


def _target_cell(row: Row, columns: Columns, reading: "_Reading") -> Any:
    if columns.target is None:
        return None
    if "{" in columns.target and columns.target not in row.cells:
        return reading.text(columns.target, "target")
    found = cell(row.cells, columns.target)
    if isinstance(found, Mapping) and isinstance(found.get("text"), list):
        return found["text"]  # as SQuAD has it
    return found


def _shape(target: Any) -> str:
    if is_empty(target):
        return "none"
    return (
        "list" if isinstance(target, list) else "object" if isinstance(target, Mapping) else "text"
    )


class _Reading:
    """Reads the cells of one row."""

    def __init__(self, row: Row) -> None:
        self.row = row

    def fail(self, column: str, why: str) -> TaskError:
        return TaskError(f"{self.row.place}: column {column!r}: {why}")

    def text(self, source: str | None, field: str) -> str | None:
        """Read a column, or fill a template, none of whose blanks may be empty."""
        if source is None:
            return None
        if "{" not in source or source in self.row.cells:
            found = cell(self.row.cells, source)
            return None if is_empty(found) else self.plain(found, source)
        empty = [n for n in names_in(source) if is_empty(cell(self.row.cells, n))]
        if empty:
            raise self.fail(empty[0], f"empty, and the template of `{field}` needs it")
        return fill(source, lambda name: self.plain(cell(self.row.cells, name), name))

    def plain(self, found: Any, column: str) -> str:
        """Write a cell as text; a list or an object is none."""
        if isinstance(found, bool):
            text = "true" if found else "false"
        elif isinstance(found, list | Mapping | bytes):
            kind = {list: "a list", dict: "an object"}.get(type(found), "bytes")
            raise self.fail(column, f"{kind}, not text; name a field in it ({column}.name)")
        else:
            text = text_of(found)
        if len(text) > _MOST_CHARACTERS:
            raise self.fail(column, f"{len(text):,} characters, more than {_MOST_CHARACTERS:,}")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise self.fail(
                    column, f"half a character (a lone surrogate) at {error.start}"
                ) from error
        return text

    def truths(self, target: Any, column: str) -> Truths:
        """Read what is accepted; a list is several truths, an object its JSON text."""
        if is_empty(target):
            return ()
        if isinstance(target, Mapping):
            return (self.json(target, column),)
        if isinstance(target, list):
            flat = [t for t in target if not is_empty(t)]
            if any(isinstance(t, list | Mapping) for t in flat):
                return (self.json(target, column),)
            return tuple(dict.fromkeys(self.plain(t, column) for t in flat))
        return (self.plain(target, column),)

    def json(self, value: Any, column: str) -> str:
        try:
            return msgspec.json.encode(value, order="sorted").decode()
        except (TypeError, ValueError, RecursionError) as error:
            raise self.fail(column, f"cannot be written as JSON: {error}") from error

    def choices(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Read the options: a list or text in one cell, or a cell each, to the last full one."""
        if len(columns) != 1:
            cells = [cell(self.row.cells, c) for c in columns]
            while cells and is_empty(cells[-1]):
                cells.pop()
            return tuple(
                self.plain("" if is_empty(v) else v, c)
                for v, c in zip(cells, columns, strict=False)
            )
        column = columns[0]
        found = cell(self.row.cells, column)
        if isinstance(found, str):
            found = self.listed(found, column)
        if isinstance(found, Mapping):
            inner = next((found[n] for n in _LISTED if isinstance(found.get(n), list)), None)
            found = inner if inner is not None else [found[k] for k in sorted(found)]
        if is_empty(found):
            return ()
        if not isinstance(found, list):
            raise self.fail(column, f"{str(found)[:80]!r} is no list of options")
        return tuple(self.plain("" if is_empty(v) else v, column) for v in found)

    def listed(self, text: str, column: str) -> Any:
        """Read a list that was written as a text: JSON, or parts between `|`."""
        if text.lstrip().startswith(("[", "{")):
            try:
                return json.loads(text)
            except (ValueError, RecursionError) as error:
                if "|" not in text:
                    raise self.fail(column, f"no JSON list: {error}; or write a|b|c") from error
        return [part.strip() for part in text.split("|")]

    def tags(self, column: str) -> list[str]:
        found = cell(self.row.cells, column)
        if isinstance(found, str):
            return [part.strip() for part in found.split("|") if part.strip()]
        values = found if isinstance(found, list) else [found]
        return [self.plain(v, column) for v in values if not is_empty(v)]

    def key(self, columns: Columns) -> str | None:
        """Read the key of the item; in a column of whole numbers 1.0 is 1."""
        found = self.text(columns.item, "item")
        return integral(found) if found is not None and columns.has_whole_keys else found

    def number(self, columns: Columns, field: str) -> float | None:
        column = getattr(columns, field)
        found = None if column is None else cell(self.row.cells, column)
        if is_unknown(found):
            return None
        mark = columns.marks.get(field)
        if mark is None and isinstance(found, str):
            mark = decimal_mark(found)
            if mark is None and COMMA in found:
                why = f'{found!r} may have a decimal comma or thousands; say decimal = "." or ","'
                raise self.fail(column, why)
        try:
            return float(number_of(found, mark or POINT))
        except ValueError as error:
            raise TaskError(
                f"{self.row.place}: {field} {found!r} is not a finite number: "
                f"{error} (column {column!r})"
            ) from error

    def metadata(self, columns: Columns) -> dict[str, Any]:
        """Collect what is kept beside: an object as it is, single columns by their names."""
        found = cell(self.row.cells, columns.spread) if columns.spread else None
        if isinstance(found, str):
            found = self.object(found, columns.spread or "metadata")
        if found is not None and not isinstance(found, Mapping):
            raise self.fail(columns.spread or "metadata", "not an object")
        kept = dict(found or {})
        for name, column in columns.metadata.items():
            value = self.text(column, name) if "{" in column else cell(self.row.cells, column)
            if not is_empty(value):
                kept[name] = self.parsed(value) if name == "tests" else value
        try:  # dates and the like of a Parquet file become what JSON has
            return dict(msgspec.to_builtins(kept))
        except (TypeError, RecursionError) as error:
            raise self.fail(columns.spread or "metadata", f"cannot be kept: {error}") from error

    def object(self, text: str, column: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.fail(column, f"not readable as CSV: no JSON object: {error}") from error

    @staticmethod
    def parsed(value: Any) -> Any:
        """Read tests that a CSV cell holds as JSON; a script stays a text."""
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except (ValueError, RecursionError):
                return value
        return value

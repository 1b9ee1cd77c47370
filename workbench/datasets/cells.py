"""Conversion of the cells of one row of a user's file to the parts of an item."""

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

_MAX_CHARACTERS = 10_000_000
# fields of an object that may contain the list of options
_LIST_FIELDS = ("text", "choices", "value", "values")


class EmptyQuestion(TaskError):
    """The question of a row is empty."""


@dataclasses.dataclass(slots=True)
class ItemParts:
    """The values of one row, before the targets of the whole file are converted."""

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


def item_parts(row: Row, columns: Columns) -> ItemParts:
    """Read a row.

    Raises:
        EmptyQuestion: the question is empty.
        TaskError: a cell is wrong; the message names the place and the column.
    """
    reader = _RowReader(row)
    question = reader.text(columns.input, "input")
    if question is None:
        raise EmptyQuestion(f"{row.place}: `input` is empty (column {columns.input!r})")
    target = _target_cell(row, columns, reader)
    return ItemParts(
        place=row.place,
        input=question,
        truths=reader.truths(target, columns.target or "target"),
        shape=_shape(target),
        key=reader.key(columns),
        choices=columns.constant or reader.choices(columns.choices),
        tags=tuple(tag for name in columns.tags for tag in reader.tags(name)),
        cluster=reader.text(columns.cluster, "cluster"),
        difficulty=reader.number(columns, "difficulty"),
        value_usd=reader.number(columns, "value_usd"),
        human_cost_usd=reader.number(columns, "human_cost_usd"),
        scorer=reader.text(columns.scorer, "scorer"),
        metadata=reader.metadata(columns),
    )


def _target_cell(row: Row, columns: Columns, reader: "_RowReader") -> Any:
    if columns.target is None:
        return None
    if "{" in columns.target and columns.target not in row.cells:
        return reader.text(columns.target, "target")
    target = cell(row.cells, columns.target)
    if isinstance(target, Mapping) and isinstance(target.get("text"), list):
        return target["text"]  # the layout of SQuAD
    return target


def _shape(target: Any) -> str:
    if is_empty(target):
        return "none"
    return (
        "list" if isinstance(target, list) else "object" if isinstance(target, Mapping) else "text"
    )


class _RowReader:
    """Reader of the cells of one row."""

    def __init__(self, row: Row) -> None:
        self.row = row

    def fail(self, column: str, why: str) -> TaskError:
        return TaskError(f"{self.row.place}: column {column!r}: {why}")

    def text(self, source: str | None, field: str) -> str | None:
        """Read a column, or fill a template; an empty blank is an error."""
        if source is None:
            return None
        if "{" not in source or source in self.row.cells:
            value = cell(self.row.cells, source)
            return None if is_empty(value) else self.as_text(value, source)
        empty = [n for n in names_in(source) if is_empty(cell(self.row.cells, n))]
        if empty:
            raise self.fail(empty[0], f"empty, and the template of `{field}` needs it")
        return fill(source, lambda name: self.as_text(cell(self.row.cells, name), name))

    def as_text(self, value: Any, column: str) -> str:
        """Write a scalar cell as text; a list or an object is an error."""
        if isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, list | Mapping | bytes):
            kind = {list: "a list", dict: "an object"}.get(type(value), "bytes")
            raise self.fail(column, f"{kind}, not text; name a field in it ({column}.name)")
        else:
            text = text_of(value)
        if len(text) > _MAX_CHARACTERS:
            raise self.fail(column, f"{len(text):,} characters, more than {_MAX_CHARACTERS:,}")
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise self.fail(
                    column, f"half a character (a lone surrogate) at {error.start}"
                ) from error
        return text

    def truths(self, target: Any, column: str) -> Truths:
        """Read the accepted answers; a list is several of them, an object its JSON text."""
        if is_empty(target):
            return ()
        if isinstance(target, Mapping):
            return (self.json(target, column),)
        if isinstance(target, list):
            flat = [t for t in target if not is_empty(t)]
            if any(isinstance(t, list | Mapping) for t in flat):
                return (self.json(target, column),)
            return tuple(dict.fromkeys(self.as_text(t, column) for t in flat))
        return (self.as_text(target, column),)

    def json(self, value: Any, column: str) -> str:
        try:
            return msgspec.json.encode(value, order="sorted").decode()
        except (TypeError, ValueError, RecursionError) as error:
            raise self.fail(column, f"cannot be written as JSON: {error}") from error

    def choices(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Read the options: from one cell, or from one cell each up to the last one not empty."""
        if len(columns) != 1:
            cells = [cell(self.row.cells, c) for c in columns]
            while cells and is_empty(cells[-1]):
                cells.pop()
            return tuple(
                self.as_text("" if is_empty(v) else v, c)
                for v, c in zip(cells, columns, strict=False)
            )
        column = columns[0]
        value = cell(self.row.cells, column)
        if isinstance(value, str):
            value = self.parse_list(value, column)
        if isinstance(value, Mapping):
            listed = next((value[n] for n in _LIST_FIELDS if isinstance(value.get(n), list)), None)
            value = listed if listed is not None else [value[k] for k in sorted(value)]
        if is_empty(value):
            return ()
        if not isinstance(value, list):
            raise self.fail(column, f"{str(value)[:80]!r} is not a list of options")
        return tuple(self.as_text("" if is_empty(v) else v, column) for v in value)

    def parse_list(self, text: str, column: str) -> Any:
        """Parse a list in a text: JSON, or parts separated by `|`."""
        if text.lstrip().startswith(("[", "{")):
            try:
                return json.loads(text)
            except (ValueError, RecursionError) as error:
                if "|" not in text:
                    raise self.fail(column, f"not a JSON list: {error}; or write a|b|c") from error
        return [part.strip() for part in text.split("|")]

    def tags(self, column: str) -> list[str]:
        value = cell(self.row.cells, column)
        if isinstance(value, str):
            return [part.strip() for part in value.split("|") if part.strip()]
        values = value if isinstance(value, list) else [value]
        return [self.as_text(v, column) for v in values if not is_empty(v)]

    def key(self, columns: Columns) -> str | None:
        """Read the key of the item; in a column of whole numbers, 1.0 is 1."""
        key = self.text(columns.item, "item")
        return integral(key) if key is not None and columns.has_whole_keys else key

    def number(self, columns: Columns, field: str) -> float | None:
        column = getattr(columns, field)
        value = None if column is None else cell(self.row.cells, column)
        if is_unknown(value):
            return None
        mark = columns.marks.get(field)
        if mark is None and isinstance(value, str):
            mark = decimal_mark(value)
            if mark is None and (COMMA in value or columns.may_have_commas):
                why = f'{value!r} is ambiguous: set decimal = "." or decimal = ","'
                raise self.fail(column, why)
        try:
            return float(number_of(value, mark or POINT))
        except ValueError as error:
            raise TaskError(
                f"{self.row.place}: {field} {value!r} is not a finite number: "
                f"{error} (column {column!r})"
            ) from error

    def metadata(self, columns: Columns) -> dict[str, Any]:
        """Collect the metadata: the members of an object, and single columns by their names."""
        spread = cell(self.row.cells, columns.spread) if columns.spread else None
        if isinstance(spread, str):
            spread = self.parse_object(spread, columns.spread or "metadata")
        if spread is not None and not isinstance(spread, Mapping):
            raise self.fail(columns.spread or "metadata", "not an object")
        metadata = dict(spread or {})
        for name, column in columns.metadata.items():
            value = self.text(column, name) if "{" in column else cell(self.row.cells, column)
            if not is_empty(value):
                metadata[name] = self.parse_tests(value) if name == "tests" else value
        try:  # convert types of Parquet that JSON lacks, such as dates
            return dict(msgspec.to_builtins(metadata))
        except (TypeError, RecursionError) as error:
            raise self.fail(
                columns.spread or "metadata", f"cannot be written as JSON: {error}"
            ) from error

    def parse_object(self, text: str, column: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.fail(column, f"not a JSON object: {error}") from error

    @staticmethod
    def parse_tests(value: Any) -> Any:
        """Parse tests in a cell of a CSV as JSON; a script stays a text."""
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except (ValueError, RecursionError):
                return value
        return value

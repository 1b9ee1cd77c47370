"""Mapping of the columns of a user's file to fields, by the header or guessed by name."""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from workbench.cells import common_mark, integral, is_empty
from workbench.datasets.reading import Row, Table
from workbench.datasets.spec import Header
from workbench.errors import TaskError
from workbench.scoring import LETTERS
from workbench.scoring.filling import blanks

# common names of columns, the most likely first
_INPUT = (
    "input",
    "question",
    "problem",
    "prompt",
    "query",
    "instruction",
    "ctx",
    "goal",
    "puzzle",
    "text",
)
_CONTEXT = ("context", "passage")
_TARGET = (
    "target",
    "answer",
    "answers",
    "answerkey",
    "answer_key",
    "correct_answer",
    "label",
    "expected",
    "expected_output",
    "expected_answer",
    "ground_truth",
    "gold",
    "solution",
    "output",
    "reference",
    "correct",
    "answer_idx",
    "answer_index",
    "targets",
)
_CHOICES = ("choices", "options", "endings", "answer_choices", "candidates")
_ITEM = (
    "item",
    "id",
    "task_id",
    "question_id",
    "qid",
    "uid",
    "doc_id",
    "unique_id",
    "problem_id",
    "idx",
    "index",
)
_TAGS = ("tags", "subject", "category", "topic")
_TESTS = ("tests", "test_list", "test", "test_cases")
_SETUP = ("setup", "test_setup_code")
_OPTION = re.compile(r"(option|choice|answer|ending|opt|op|sol)?[_ ]?([a-j]|\d)", re.IGNORECASE)
_SAME_NAME_FIELDS = ("cluster", "difficulty", "value_usd", "human_cost_usd", "scorer", "metadata")
FIELDS = ("item", "input", "target", "choices", "tags", *_SAME_NAME_FIELDS)


@dataclasses.dataclass(slots=True)
class Columns:
    """The source of each field: the name of a column, or a template over columns.

    Attributes:
        choices: one column with the list, or several with one option each.
        constant: options that all items share, instead of columns.
        metadata: name in an item's metadata → column.
        spread: column with an object whose members are metadata.
        guessed: the fields that the header does not assign.
        marks: field → decimal mark, if the header or the column decides it.
        may_have_commas: whether a point may separate thousands, where nothing decides.
        has_whole_keys: whether all keys are whole numbers, some with an empty fraction.
    """

    input: str = ""
    target: str | None = None
    item: str | None = None
    choices: tuple[str, ...] = ()
    constant: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    cluster: str | None = None
    difficulty: str | None = None
    value_usd: str | None = None
    human_cost_usd: str | None = None
    scorer: str | None = None
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    spread: str | None = None
    guessed: set[str] = dataclasses.field(default_factory=set)
    marks: dict[str, str] = dataclasses.field(default_factory=dict)
    may_have_commas: bool = False
    has_whole_keys: bool = False
    notes: list[str] = dataclasses.field(default_factory=list)

    def description(self) -> dict[str, str]:
        """Return the source of each field as text; "(guessed)" marks guesses."""
        sources: dict[str, Any] = {
            f: getattr(self, f)
            for f in (
                "item",
                "input",
                "target",
                "cluster",
                "difficulty",
                "value_usd",
                "human_cost_usd",
                "scorer",
            )
        }
        sources |= {
            "choices": ", ".join(self.choices or self.constant),
            "tags": ", ".join(self.tags),
        }
        sources |= {f"metadata.{name}": column for name, column in self.metadata.items()}
        sources["metadata"] = self.spread
        described = {
            f: f"{v} (guessed)" if f in self.guessed else v for f, v in sources.items() if v
        }
        return {field: str(source) for field, source in described.items()}

    def used_columns(self) -> set[str]:
        """Return the names of the columns that are read."""
        texts = [
            self.input,
            self.target,
            self.item,
            *self.choices,
            *self.tags,
            *self.metadata.values(),
        ]
        texts += [self.cluster, self.difficulty, self.value_usd, self.human_cost_usd]
        names = {n for t in texts if t for n in names_in(t)} | {self.scorer, self.spread}
        return {n for n in names if n} | {n.partition(".")[0] for n in names if n}


def names_in(source: str) -> list[str]:
    """List the columns of a source: itself, or those in the blanks of a template."""
    return blanks(source) if "{" in source else [source]


def cell(cells: Mapping[str, Any], name: str) -> Any:
    """Look up a cell by column, or by "a.b" within the object of a column; None if absent."""
    if name in cells:
        return cells[name]
    value: Any = cells
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def assign_columns(table: Table, header: Header, path: Path) -> Columns:
    """Assign the columns of a file to fields.

    Raises:
        TaskError: a column in the header does not exist, or no column looks like the question.
    """
    index = _ColumnIndex(table, path)
    columns = Columns()
    _apply_header(columns, header, index)
    _guess_main(columns, header, index)
    _guess_rest(columns, header, index)
    _survey_columns(columns, header, table)
    unused = [c for c in table.columns if c not in columns.used_columns()]
    for name in unused:
        near = difflib.get_close_matches(
            name, [f for f in FIELDS if f not in table.columns], n=1, cutoff=0.8
        )
        if near and not getattr(columns, near[0], None):
            columns.notes.append(f"column {name!r} is not used; did you mean {near[0]!r}?")
    if unused:
        shown = ", ".join(map(repr, unused[:12])) + (
            f" and {len(unused) - 12} more" if len(unused) > 12 else ""
        )
        columns.notes.append(f"columns not used: {shown}")
    return columns


def _survey_columns(columns: Columns, header: Header, table: Table) -> None:
    """Detect the decimal marks and the type of the keys, which need all cells of a column."""

    def texts(source: str) -> Iterator[Any]:
        return (cell(row.cells, source) for row in table.rows)

    columns.may_have_commas = table.has_semicolons
    unknown: list[str] = []
    for field in ("difficulty", "value_usd", "human_cost_usd"):
        source = getattr(columns, field)
        mark = header.decimal or (None if source is None else common_mark(texts(source)))
        if mark is not None:
            columns.marks[field] = mark
        else:
            unknown.append(field)
    marks = set(columns.marks.values())
    if len(marks) == 1 and table.has_semicolons:  # the file's other numbers decide
        columns.marks |= dict.fromkeys(unknown, marks.pop())
    if columns.item is not None and "{" not in columns.item:
        keys = [key for key in texts(columns.item) if not is_empty(key)]
        are_integral = all(isinstance(key, str) and integral(key) is not None for key in keys)
        columns.has_whole_keys = are_integral and any("." in key for key in keys)


class _ColumnIndex:
    """Index of the columns of a file and of the members of their objects, by name."""

    def __init__(self, table: Table, path: Path) -> None:
        self.path = path
        self.columns = table.columns
        self.rows = table.rows
        self.nested = sorted(
            {
                f"{c}.{k}"
                for row in table.rows[:100]
                for c, v in row.cells.items()
                if isinstance(v, dict)
                for k in v
            }
        )
        self._folded = {c.casefold(): c for c in reversed(self.columns)}

    def check(self, source: str, field: str) -> str:
        """Return the source if all its columns exist; raise TaskError otherwise."""
        try:
            names = names_in(source)
        except ValueError as error:
            raise TaskError(f"{self.path}: {field} = {source!r}: {error}") from error
        if "{" in source and source in self.columns:
            names = []
        for name in names:
            if not self.has(name):
                near = difflib.get_close_matches(name, [*self.columns, *self.nested], n=1)
                hint = (
                    f"did you mean {near[0]!r}?"
                    if near
                    else f"there are {', '.join(self.columns[:20])}"
                )
                raise TaskError(
                    f"{self.path}: {field} names the column {name!r}, which does not exist; {hint}"
                )
        return source

    def has(self, name: str) -> bool:
        """Return whether some row has a cell of this name."""
        return name in self.columns or any(cell(r.cells, name) is not None for r in self.rows)

    def first(self, names: Iterable[str], taken: set[str]) -> str | None:
        """Return the first name that is a column, in any case; else one within objects."""
        for name in names:
            if (column := self._folded.get(name)) is not None and column not in taken:
                return column
        for name in names:
            inner = [n for n in self.nested if n.partition(".")[2].casefold() == name]
            if inner and inner[0] not in taken:
                return inner[0]
        return None


def _apply_header(columns: Columns, header: Header, index: _ColumnIndex) -> None:
    for field in (
        "input",
        "target",
        "item",
        "cluster",
        "difficulty",
        "value_usd",
        "human_cost_usd",
    ):
        if (source := getattr(header, field)) is not None:
            setattr(columns, field, index.check(source, field))
    if header.choices is not None:
        _apply_choices(columns, header.choices, index)
    if header.tags is not None:
        names = (header.tags,) if isinstance(header.tags, str) else header.tags
        columns.tags = tuple(index.check(n, "tags") for n in names)
    more = header.metadata or {}
    table = more if isinstance(more, dict) else {name: name for name in more}
    table = table | {
        n: v for n in ("tests", "entry_point") if (v := getattr(header, n)) is not None
    }
    columns.metadata = {
        name: index.check(column, f"metadata.{name}") for name, column in table.items()
    }


def _apply_choices(columns: Columns, names: str | tuple[str, ...], index: _ColumnIndex) -> None:
    if isinstance(names, str):
        columns.choices = (index.check(names, "choices"),)
    elif not any(index.has(name) for name in names):
        columns.constant = names
        columns.notes.append(
            f"choices: the same for all items ({', '.join(names)}), as none of them is a column"
        )
    else:
        columns.choices = tuple(index.check(name, "choices") for name in names)


def _guess_main(columns: Columns, header: Header, index: _ColumnIndex) -> None:
    if not columns.input:
        column = index.first(_INPUT, set())
        if column is None:
            raise TaskError(
                f"{index.path}: none of the columns ({', '.join(index.columns[:20])}) "
                "looks like the question; name it,"
                f' for example input = "{index.columns[0]}"'
            )
        columns.input = column
        columns.guessed |= {"input"} - {column}
        context = index.first(_CONTEXT, {column}) if column.casefold() == "question" else None
        if context is not None and context in index.columns:
            columns.input = f"{{{context}}}\n\n{{{column}}}"
    if not columns.choices and not columns.constant:
        _guess_choices(columns, index)
    if columns.target is None:
        taken = set(names_in(columns.input)) | set(columns.choices)
        column = index.first(_TARGET, taken)
        columns.target = column
        columns.guessed |= {"target"} - {column or "target"}


def _guess_choices(columns: Columns, index: _ColumnIndex) -> None:
    column = index.first(_CHOICES, set(names_in(columns.input)))
    if column is not None:
        columns.choices = (column,)
        columns.guessed |= {"choices"} - {column}
        return
    families: dict[str, list[tuple[str, str]]] = {}
    for name in index.columns:
        if (match := _OPTION.fullmatch(name)) is not None:
            families.setdefault((match[1] or "").casefold(), []).append((match[2].upper(), name))
    for family, options in families.items():
        keys = [key for key, _ in sorted(options)]
        runs = (
            list(LETTERS[: len(keys)]),
            [str(i) for i in range(len(keys))],
            [str(i + 1) for i in range(len(keys))],
        )
        bare_digits = not family and keys[0].isdigit()
        if len(keys) >= 2 and keys in runs and not bare_digits:
            columns.choices = tuple(name for _, name in sorted(options))
            columns.guessed.add("choices")
            return


def _guess_rest(columns: Columns, header: Header, index: _ColumnIndex) -> None:
    for field in _SAME_NAME_FIELDS:
        attribute = "spread" if field == "metadata" else field
        if (
            getattr(columns, attribute) is None
            and field in index.columns
            and field not in columns.metadata.values()
        ):
            setattr(columns, attribute, field)
    if columns.item is None:
        column = index.first(_ITEM, set(names_in(columns.input)))
        if column is not None and "." not in column:
            _guess_key(columns, column, index.rows)
    if header.tags is None and (column := index.first(_TAGS, columns.used_columns())) is not None:
        columns.tags = (column,)
        columns.guessed |= {"tags"} - {column}
    _guess_tests(columns, header, index)


def _guess_key(columns: Columns, column: str, rows: list[Row]) -> None:
    """Use a column as the key if its values are unique, or if it is called "item"."""
    keys = [str(row.cells.get(column, "")) for row in rows]
    if column == "item" or (len(set(keys)) == len(keys) and "" not in keys):
        columns.item = column
        columns.guessed |= {"item"} - {column}
    else:
        columns.notes.append(
            f"column {column!r} is not used as the key: its values are not unique, or missing; "
            "keys are made from the content of items"
        )


def _guess_tests(columns: Columns, header: Header, index: _ColumnIndex) -> None:
    """Assign the columns of unit tests, if the scorer needs them or no other one is possible."""
    wanted = "unit_tests" in header.scorers
    if "tests" in columns.metadata or not (
        wanted or (not header.scorers and "scorer" not in index.columns)
    ):
        return
    if not wanted and (columns.choices or "." in (index.first(_TESTS, set()) or ".")):
        return
    pairs = (("tests", _TESTS), ("entry_point", ("entry_point",)), ("setup", _SETUP))
    for name, candidates in pairs:
        column = index.first(candidates, set())
        if (
            column is not None
            and name not in columns.metadata
            and (name == "tests" or "tests" in columns.metadata)
        ):
            columns.metadata[name] = column
            columns.guessed |= {f"metadata.{name}"} - {f"metadata.{column}"}
    entry = columns.metadata.get("entry_point")
    if entry is not None and "prefix" not in columns.metadata and "{" not in columns.input:
        begins_so = [
            f"def {cell(r.cells, entry)}" in str(cell(r.cells, columns.input))
            for r in index.rows[:20]
        ]
        if all(begins_so):  # the question is the beginning of the code to write
            columns.metadata["prefix"] = columns.input
            columns.guessed.add("metadata.prefix")

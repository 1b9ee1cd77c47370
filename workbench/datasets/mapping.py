"""Mapping of a user's file: which column is which field, as configured or guessed by name."""

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

# names that other people's files use, the likeliest first
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
_PLAIN = ("cluster", "difficulty", "value_usd", "human_cost_usd", "scorer", "metadata")
OURS = ("item", "input", "target", "choices", "tags", *_PLAIN)


@dataclasses.dataclass(slots=True)
class Columns:
    """What is read from where; a text is the name of a column, or a template over columns.

    Attributes:
        choices: one column with the list, or several with an option each.
        constant: options that all items share, in place of columns.
        metadata: columns by the name that they get in an item's metadata.
        guessed: the fields that nobody named.
        marks: decimal mark of the numbers of a field, where their column or the header tells.
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
    has_whole_keys: bool = False
    notes: list[str] = dataclasses.field(default_factory=list)

    def said(self) -> dict[str, str]:
        """Say what each field is read from."""
        found: dict[str, Any] = {
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
        found |= {"choices": ", ".join(self.choices or self.constant), "tags": ", ".join(self.tags)}
        found |= {f"metadata.{name}": column for name, column in self.metadata.items()}
        found["metadata"] = self.spread
        marked = {f: f"{v} (guessed)" if f in self.guessed else v for f, v in found.items() if v}
        return {field: str(source) for field, source in marked.items()}

    def used(self) -> set[str]:
        """Name the columns that are read."""
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
    """List the columns that a source names: itself, or those in its blanks."""
    return blanks(source) if "{" in source else [source]


def cell(cells: Mapping[str, Any], name: str) -> Any:
    """Look up a cell by column, or by "a.b" within the object of a column; None if absent."""
    if name in cells:
        return cells[name]
    found: Any = cells
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def decide(table: Table, header: Header, path: Path) -> Columns:
    """Find out what is read from where.

    Raises:
        TaskError: a column that was named is not there, or none can be guessed for the question.
    """
    known = _Known(table, path)
    found = Columns()
    _take_told(found, header, known)
    _guess_main(found, header, known)
    _guess_rest(found, header, known)
    _survey(found, header, table)
    unused = [c for c in table.columns if c not in found.used()]
    for name in unused:
        near = difflib.get_close_matches(
            name, [f for f in OURS if f not in table.columns], n=1, cutoff=0.8
        )
        if near and not getattr(found, near[0], None):
            found.notes.append(f"column {name!r} is not used; did you mean {near[0]!r}?")
    if unused:
        shown = ", ".join(map(repr, unused[:12])) + (
            f" and {len(unused) - 12} more" if len(unused) > 12 else ""
        )
        found.notes.append(f"columns not used: {shown}")
    return found


def _survey(found: Columns, header: Header, table: Table) -> None:
    """Learn of whole columns what a single cell cannot say."""

    def texts(source: str) -> Iterator[Any]:
        return (cell(row.cells, source) for row in table.rows)

    for field in ("difficulty", "value_usd", "human_cost_usd"):
        source = getattr(found, field)
        mark = header.decimal or (None if source is None else common_mark(texts(source)))
        if mark is not None:
            found.marks[field] = mark
    if found.item is not None and "{" not in found.item:
        keys = [key for key in texts(found.item) if not is_empty(key)]
        whole = all(isinstance(key, str) and integral(key) is not None for key in keys)
        found.has_whole_keys = whole and any("." in key for key in keys)


class _Known:
    """The columns of a file, to look names up in."""

    def __init__(self, table: Table, path: Path) -> None:
        self.path, self.columns, self.rows = path, table.columns, table.rows
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
        """Return a source whose columns are all there; TaskError names the one that is not."""
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
                    f"{self.path}: {field} names the column {name!r}, which is not there; {hint}"
                )
        return source

    def has(self, name: str) -> bool:
        """Whether some row has such a cell."""
        return name in self.columns or any(cell(r.cells, name) is not None for r in self.rows)

    def first(self, names: Iterable[str], taken: set[str]) -> str | None:
        """Return the first of some names that is a column, in any case; then within objects."""
        for name in names:
            if (column := self._folded.get(name)) is not None and column not in taken:
                return column
        for name in names:
            inner = [n for n in self.nested if n.partition(".")[2].casefold() == name]
            if inner and inner[0] not in taken:
                return inner[0]
        return None


def _take_told(found: Columns, header: Header, known: _Known) -> None:
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
            setattr(found, field, known.check(source, field))
    if header.choices is not None:
        _take_choices(found, header.choices, known)
    if header.tags is not None:
        names = (header.tags,) if isinstance(header.tags, str) else header.tags
        found.tags = tuple(known.check(n, "tags") for n in names)
    more = header.metadata or {}
    table = more if isinstance(more, dict) else {name: name for name in more}
    table = table | {
        n: v for n in ("tests", "entry_point") if (v := getattr(header, n)) is not None
    }
    found.metadata = {
        name: known.check(column, f"metadata.{name}") for name, column in table.items()
    }


def _take_choices(found: Columns, told: str | tuple[str, ...], known: _Known) -> None:
    if isinstance(told, str):
        found.choices = (known.check(told, "choices"),)
    elif not any(known.has(name) for name in told):
        found.constant = told
        found.notes.append(
            f"choices: the same for all items ({', '.join(told)}), as none of them is a column"
        )
    else:
        found.choices = tuple(known.check(name, "choices") for name in told)


def _guess_main(found: Columns, header: Header, known: _Known) -> None:
    if not found.input:
        column = known.first(_INPUT, set())
        if column is None:
            raise TaskError(
                f"{known.path}: none of the columns ({', '.join(known.columns[:20])}) "
                "looks like the question; say"
                f' which is, for example input = "{known.columns[0]}"'
            )
        found.input = column
        found.guessed |= {"input"} - {column}
        context = known.first(_CONTEXT, {column}) if column.casefold() == "question" else None
        if context is not None and context in known.columns:
            found.input = f"{{{context}}}\n\n{{{column}}}"
    if not found.choices and not found.constant:
        _guess_choices(found, known)
    if found.target is None:
        taken = set(names_in(found.input)) | set(found.choices)
        column = known.first(_TARGET, taken)
        found.target = column
        found.guessed |= {"target"} - {column or "target"}


def _guess_choices(found: Columns, known: _Known) -> None:
    column = known.first(_CHOICES, set(names_in(found.input)))
    if column is not None:
        found.choices = (column,)
        found.guessed |= {"choices"} - {column}
        return
    families: dict[str, list[tuple[str, str]]] = {}
    for name in known.columns:
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
            found.choices = tuple(name for _, name in sorted(options))
            found.guessed.add("choices")
            return


def _guess_rest(found: Columns, header: Header, known: _Known) -> None:
    for field in _PLAIN:
        home = "spread" if field == "metadata" else field
        if (
            getattr(found, home) is None
            and field in known.columns
            and field not in found.metadata.values()
        ):
            setattr(found, home, field)
    if found.item is None:
        column = known.first(_ITEM, set(names_in(found.input)))
        if column is not None and "." not in column:
            _take_key(found, column, known.rows)
    if header.tags is None and (column := known.first(_TAGS, found.used())) is not None:
        found.tags = (column,)
        found.guessed |= {"tags"} - {column}
    _guess_tests(found, header, known)


def _take_key(found: Columns, column: str, rows: list[Row]) -> None:
    """Take a column as the key if it tells all rows apart; our own name is taken at its word."""
    keys = [str(row.cells.get(column, "")) for row in rows]
    if column == "item" or (len(set(keys)) == len(keys) and "" not in keys):
        found.item = column
        found.guessed |= {"item"} - {column}
    else:
        found.notes.append(
            f"column {column!r} is no key: some rows share it, or have none; "
            "items are told apart by their content"
        )


def _guess_tests(found: Columns, header: Header, known: _Known) -> None:
    """Take what unit tests need, where they were asked for or nothing else could be the truth."""
    wanted = "unit_tests" in header.scorers
    if "tests" in found.metadata or not (
        wanted or (not header.scorers and "scorer" not in known.columns)
    ):
        return
    if not wanted and (found.choices or "." in (known.first(_TESTS, set()) or ".")):
        return
    pairs = (("tests", _TESTS), ("entry_point", ("entry_point",)), ("setup", _SETUP))
    for name, likely in pairs:
        column = known.first(likely, set())
        if (
            column is not None
            and name not in found.metadata
            and (name == "tests" or "tests" in found.metadata)
        ):
            found.metadata[name] = column
            found.guessed |= {f"metadata.{name}"} - {f"metadata.{column}"}
    entry = found.metadata.get("entry_point")
    if entry is not None and "prefix" not in found.metadata and "{" not in found.input:
        begun = [
            f"def {cell(r.cells, entry)}" in str(cell(r.cells, found.input))
            for r in known.rows[:20]
        ]
        if all(begun):  # the question is the beginning of the code
            found.metadata["prefix"] = found.input
            found.guessed.add("metadata.prefix")

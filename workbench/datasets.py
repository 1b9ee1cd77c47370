"""Task sets and sample traces; the one module that knows where `data/` is.

A task set is a `.jsonl` or `.csv` file: one item a row. What the set says of itself (`Header`) is the first line
of a `.jsonl` file, or a `.toml` file of the same name beside it.
"""

import csv
import dataclasses
import difflib
import io
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from workbench import scoring
from workbench.errors import TaskError
from workbench.records import Item, Score, Task, json_text
from workbench.scoring import LETTERS, Scorer, TaskItem

__all__ = [
    "Example", "Header", "TaskItem", "TaskSet", "data_dir", "load_task", "sample_prices", "sample_traces_dir",
    "task_names",
]  # fmt: skip
_T = TypeVar("_T")
_SUFFIXES = (".jsonl", ".csv")
_CELL_LIMIT = 10_000_000  # the default of 128 KiB is less than one long document to be asked about


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A worked example that strategies show to a model; never one of the items.

    Attributes:
        thought: what may be thought before the answer.
    """

    input: str
    target: str
    thought: str = ""
    choices: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The input with its lettered options, as the model sees it."""
        return TaskItem("", "", self.input, self.target, choices=self.choices).question


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a task set says of itself; all but the name may be left out."""

    task: str
    version: str | None = None
    description: str | None = None
    scorer: str = "exact"
    prompt: str = "Answer the question."
    licence: str | None = None
    examples: tuple[Example, ...] = ()


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a task file."""

    input: str
    target: str | int | float
    item: str | None = None
    scorer: str | None = None
    tags: tuple[str, ...] = ()
    difficulty: float | None = None
    cluster: str | None = None
    choices: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class TaskSet:
    """A task with its items, in the order of the file.

    Attributes:
        prompt: the instruction that comes before every question.
        examples: worked examples for strategies.
    """

    task: Task
    items: list[TaskItem]
    scorer: Scorer
    prompt: str
    examples: tuple[Example, ...] = ()

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.task

    def score(self, item: TaskItem, text: str | None) -> Score:
        """Score a text with the item's own scorer; null text gives nulls."""
        return scoring.get(item.scorer)(item, text)

    def record(self, item: TaskItem) -> Item:
        """Make the record of an item, as the store keeps it."""
        return Item(
            task_id=self.task.task_id,
            item=item.item,
            input=item.question,
            target=item.target,
            tags=json_text(list(item.tags)) if item.tags else None,
            cluster=item.cluster,
            difficulty=item.difficulty,
            metadata=json_text(dict(item.metadata)) if item.metadata else None,
        )


def data_dir() -> Path:
    """Find the data that ships: inside the installed package, else beside it in a checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "_data", here.parent / "data"):
        if (folder / "tasks").is_dir():
            return folder
    raise TaskError(
        f"the data folder is missing: looked for {here / '_data'} and {here.parent / 'data'}"
    )


def sample_traces_dir() -> Path:
    """Return the folder of the sample traces, one Parquet file per table."""
    return data_dir() / "traces"


def sample_prices() -> Path:
    """Return the price sheet that prices the sample traces."""
    return data_dir() / "prices" / "example.toml"


def task_names() -> list[str]:
    """List the task sets that ship."""
    return sorted(p.stem for p in (data_dir() / "tasks").glob("*.jsonl"))


def load_task(name_or_path: str | Path) -> TaskSet:
    """Load a task set that ships, by name, or a file of the user's (.jsonl, .csv).

    Raises:
        TaskError: there is no such set, or a line of the file is wrong (the message has file and line).
    """
    text = str(name_or_path)
    path = Path(name_or_path)
    if path.suffix.lower() not in _SUFFIXES:
        if text not in task_names():
            near = difflib.get_close_matches(text, task_names(), n=2)
            known = (
                f"did you mean {' or '.join(near)}?"
                if near
                else f"there are {', '.join(task_names())}"
            )
            raise TaskError(
                f"no task set is called {text!r}; {known} (or give a .jsonl or .csv file)"
            )
        path = data_dir() / "tasks" / f"{text}.jsonl"
    return _load(path)


def _load(path: Path) -> TaskSet:
    content = _read(path)
    lines = _csv_rows(content, path) if path.suffix.lower() == ".csv" else _json_rows(content, path)
    rows = list(lines)
    header = _header(path, rows)
    items: dict[str, TaskItem] = {}
    for line, raw in rows:
        item = _item(header, raw, len(items), f"{path}:{line}")
        if item.item in items:
            raise TaskError(
                f"{path}:{line}: item {item.item!r} is there twice; give each item its own key"
            )
        items[item.item] = item
    if not items:
        raise TaskError(
            f"{path}: no item in the file; write one per line with `input` and `target`"
        )
    about = {"licence": header.licence, "prompt": header.prompt}
    task = Task(
        task=header.task, version=header.version, description=header.description, scorer=header.scorer,
        metadata=json_text({k: v for k, v in about.items() if v is not None}),
    )  # fmt: skip
    scorer = scoring.get(header.scorer)
    return TaskSet(task, list(items.values()), scorer, header.prompt, header.examples)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise TaskError(f"{path}: there is no such task file") from error
    except UnicodeDecodeError as error:
        raise TaskError(
            f"{path}: not UTF-8 text, at byte {error.start}; save the file as UTF-8"
        ) from error
    except OSError as error:
        raise TaskError(f"{path}: cannot be read: {error.strerror}") from error


def _json_rows(content: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError) as error:
            raise TaskError(f"{path}:{number}: not a JSON object: {error}") from error


def _csv_rows(content: str, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the filled cells of each row; lists are written with `|` between their parts."""
    csv.field_size_limit(max(csv.field_size_limit(), _CELL_LIMIT))
    reader = csv.DictReader(io.StringIO(content, newline=""), strict=True)
    try:
        for row in reader:
            if None in row:
                raise TaskError(
                    f"{path}:{reader.line_num}: more cells than the first line has names"
                )
            cells: dict[str, Any] = {k: v for k, v in row.items() if v not in {None, ""}}
            for name in {"tags", "choices"} & cells.keys():
                cells[name] = [part.strip() for part in cells[name].split("|")]
            if "metadata" in cells:
                cells["metadata"] = msgspec.json.decode(cells["metadata"])
            yield reader.line_num, cells
    except (csv.Error, msgspec.DecodeError) as error:
        raise TaskError(f"{path}:{reader.line_num}: not readable as CSV: {error}") from error


def _header(path: Path, rows: list[tuple[int, dict[str, Any]]]) -> Header:
    """Take the header from the first line or from the file beside; else make one from the file's name."""
    beside = path.with_suffix(".toml")
    raw: dict[str, Any] = {}
    place = str(path)
    if rows and "input" not in rows[0][1] and "task" in rows[0][1]:
        place = f"{path}:{rows[0][0]}"
        raw = rows.pop(0)[1]
    elif beside.is_file():
        place = str(beside)
        try:
            raw = tomllib.loads(_read(beside))
        except tomllib.TOMLDecodeError as error:
            raise TaskError(f"{beside}: not TOML: {error}") from error
    header = _convert({"task": path.stem, **raw}, Header, place)
    try:
        scoring.get(header.scorer)
    except TaskError as error:
        raise TaskError(f"{place}: {error}") from error
    return header


def _convert(raw: dict[str, Any], kind: type[_T], place: str) -> _T:
    try:
        return msgspec.convert(raw, kind, strict=False)
    except msgspec.ValidationError as error:
        raise TaskError(f"{place}: {error}") from error


def _item(header: Header, raw: dict[str, Any], position: int, place: str) -> TaskItem:
    row = _convert(raw, _Row, place)
    target = str(row.target)
    scorer = row.scorer or header.scorer
    if row.difficulty is not None and not math.isfinite(row.difficulty):
        raise TaskError(f"{place}: difficulty {row.difficulty} is not a finite number")
    if scorer == "choice":
        valid = LETTERS[: len(row.choices)]
        if not 2 <= len(row.choices) <= len(LETTERS):
            raise TaskError(
                f"{place}: a choice needs 2 to {len(LETTERS)} `choices`, not {len(row.choices)}"
            )
        if len(target) != 1 or target not in valid:
            raise TaskError(
                f"{place}: target {target!r} is no letter of its choices ({valid[0]}–{valid[-1]})"
            )
    try:
        scoring.get(scorer)
    except TaskError as error:
        raise TaskError(f"{place}: {error}") from error
    return TaskItem(
        task=header.task, item=row.item or f"{position + 1:04d}", input=row.input, target=target,
        scorer=scorer, tags=row.tags, difficulty=row.difficulty, cluster=row.cluster,
        choices=row.choices, metadata=row.metadata,
    )  # fmt: skip

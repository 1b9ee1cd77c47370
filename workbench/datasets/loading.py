"""Loading of a task set by name, file or table of the plan: header, columns, items, scorers."""

import dataclasses
import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from workbench import scoring
from workbench.datasets import cells, mapping, reading, shuffling, targets
from workbench.datasets.shipped import data_dir, task_names
from workbench.datasets.spec import Header, TaskSpec, convert
from workbench.datasets.taskset import TaskSet
from workbench.errors import TaskError
from workbench.formats import counted
from workbench.records import Task, content_id, json_text
from workbench.scoring import Judge, Scorer, TaskItem
from workbench.toml_reader import toml

_MAX_FAULTS = 20  # that are listed
_PROMPTS = {
    "choice": "Answer the question with the letter of the right option.",
    "unit_tests": "Write Python code that does what is asked, in one fenced code block.",
    "json": "Answer with one JSON value.",
    "math": "Solve the problem, and put the final answer into \\boxed{}.",
}
_LATEX = re.compile(r"\\(?:frac|dfrac|sqrt|pi|text|left|begin|cup|infty|cdot)\b")
Source = str | Path | Mapping[str, Any] | TaskSpec
FindScorer = Callable[[str, Path], Scorer]  # (`module:function`, first folder to look in)


@dataclasses.dataclass(slots=True)
class Loaded:
    """A task set with the items that could be read, and the faults of the others.

    Attributes:
        faults: the first faults, with file, line and column.
        n_faults: the number of all faults.
    """

    tasks: TaskSet
    faults: list[str]
    n_faults: int


def load_task(
    source: Source,
    *,
    folder: Path | None = None,
    allow_code: bool = False,
    find_scorer: FindScorer | None = None,
    helpers: Mapping[str, Mapping[str, Any]] | None = None,
) -> TaskSet:
    """Load a task set.

    Args:
        source: name of a shipped set, path of a file (.jsonl, .csv, .tsv, .json or .parquet), or
            table of a plan (`TaskSpec`).
        folder: the plan's folder, searched first for files and the user's scorers.
        allow_code: whether a scorer `module:function` that only the file names may be imported. A
            scorer that the plan names may always be imported.
        find_scorer: returns every scorer named `module:function`; `allow_code` has no effect then.
        helpers: identity of the plan's helper models, by name; a judge by another model is another
            scorer.

    Raises:
        TaskError: there is no such set, or a line of the file is wrong.
    """
    loaded = examine(
        source, folder=folder, allow_code=allow_code, find_scorer=find_scorer, helpers=helpers
    )
    if loaded.faults:
        more = loaded.n_faults - 1
        tail = f" (and {more:,} more; see them with: workbench tasks FILE)" if more else ""
        raise TaskError(f"{loaded.faults[0]}{tail}")
    return loaded.tasks


def examine(
    source: Source,
    *,
    folder: Path | None = None,
    allow_code: bool = False,
    find_scorer: FindScorer | None = None,
    helpers: Mapping[str, Mapping[str, Any]] | None = None,
) -> Loaded:
    """Load the valid items of a task set, and list the faults of the others; see `load_task`."""
    spec = _spec(source)
    path = _find(spec, folder)
    table = reading.read(path, _toml_header(path, spec))
    header = _header(path, table, spec)
    allowed = allow_code or spec.allow_code
    loading = _TaskLoader(
        path, table, header, spec, folder or path.parent, allowed=allowed, find_scorer=find_scorer
    )
    return loading.finish(helpers or {})


def _spec(source: Source) -> TaskSpec:
    if isinstance(source, TaskSpec):
        return source
    if isinstance(source, Mapping):
        name = source.get("path") or source.get("task") or "?"
        spec: TaskSpec = convert(dict(source), TaskSpec, f"the task {name!r} of the plan")
        return spec
    text = str(source)
    known = Path(text).suffix.lower() in reading.SUFFIXES
    return TaskSpec(path=text) if known else TaskSpec(task=text)


def _find(spec: TaskSpec, folder: Path | None) -> Path:
    if spec.path is None:
        names = task_names()
        if spec.task not in names:
            near = difflib.get_close_matches(spec.task or "", names, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
            raise TaskError(
                f"no task set is called {spec.task!r}; {hint} "
                f"(or give a file: {', '.join(reading.SUFFIXES)})"
            )
        return data_dir() / "tasks" / f"{spec.task}.jsonl"
    path = Path(spec.path)
    if path.suffix.lower() not in reading.SUFFIXES:
        raise TaskError(f"{path}: not a task file; it must be one of {', '.join(reading.SUFFIXES)}")
    in_folder = None if folder is None else folder / path
    return in_folder if in_folder is not None and in_folder.exists() else path


def file_of(source: Any, folder: Path | None = None) -> Path | None:
    """Return the file of a plan's task, with links resolved; None for a shipped set."""
    files = files_of(source, folder)
    return files[0].resolve() if files else None


def files_of(source: Any, folder: Path | None = None) -> list[Path]:
    """List the files that loading a plan's task reads, with links not resolved."""
    spec = _spec(source) if isinstance(source, str | Mapping) else TaskSpec(task="")
    path = None if spec.path is None else _find(spec, folder)
    if path is None or not path.exists():
        return []
    toml_path = path.with_suffix(".toml")
    return [path, toml_path] if toml_path.exists() else [path]


def with_absolute_path(source: Any, folder: Path | None = None) -> Any:
    """Return a plan's task with the absolute path of its file, if that exists."""
    path = file_of(source, folder)
    if path is None:
        return source
    absolute = str(path)
    return {**source, "path": absolute} if isinstance(source, Mapping) else absolute


def _toml_header(path: Path, spec: TaskSpec) -> Header:
    """Read the .toml file of the same name, if it exists; the plan's table takes precedence."""
    toml_path = path.with_suffix(".toml")
    raw: dict[str, Any] = {}
    if toml_path.is_file():
        try:
            raw = toml(reading.read_text(toml_path))
        except tomllib.TOMLDecodeError as error:
            raise TaskError(f"{toml_path}: not TOML: {error}") from error
    header: Header = convert(raw, Header, str(toml_path))
    return spec.over(header)


def _header(path: Path, table: reading.Table, spec: TaskSpec) -> Header:
    """Read the header from the first line if that is one, else from the .toml file."""
    first = table.rows[0] if table.rows else None
    lines = path.suffix.lower() not in {".csv", ".tsv", ".parquet", ".json"}
    if not lines or first is None or "task" not in first.cells or "input" in first.cells:
        return _toml_header(path, spec)
    if len(table.rows) > 1 and "task" in table.rows[1].cells:  # a column like any other
        return _toml_header(path, spec)
    header: Header = convert(dict(first.cells), Header, first.place)
    _check_scorers(header, first.place)
    del table.rows[0]
    table.columns[:] = dict.fromkeys(name for row in table.rows for name in row.cells)
    return spec.over(header)


def _check_scorers(header: Header, place: str) -> None:
    """Check that the scorers in the header exist."""
    for name in header.scorers:
        if not scoring.is_own(name):
            try:
                scoring.get(name)
            except TaskError as error:
                raise TaskError(f"{place}: {error}") from error


class _TaskLoader:
    """Loader of one file: columns, targets, scorers and items."""

    def __init__(
        self,
        path: Path,
        table: reading.Table,
        header: Header,
        spec: TaskSpec,
        folder: Path,
        *,
        allowed: bool,
        find_scorer: FindScorer | None,
    ) -> None:
        if not table.columns:
            raise TaskError(
                f"{path}: no item in the file; write one per line with `input` and `target`"
            )
        self.path = path
        self.table = table
        self.header = header
        self.folder = folder
        self.task_name = header.task or path.stem
        self.typed_scorers = set(spec.scorers)
        self.allowed = allowed
        self.find_scorer = find_scorer
        self.columns = mapping.assign_columns(table, header, path)
        self.notes = [*table.notes, *self.columns.notes]
        self.faults: list[str] = []
        self.n_faults = 0
        self.scorers: dict[str, Scorer] = {}
        self.seed: int | None = None  # of the order of options; None keeps that of the file

    def fault(self, message: str) -> None:
        self.n_faults += 1
        if len(self.faults) < _MAX_FAULTS:
            self.faults.append(message)

    def finish(self, helpers: Mapping[str, Mapping[str, Any]]) -> Loaded:
        rows = self._rows()
        default = self._convert_targets(rows)
        items = [] if self._lacks_target(rows, default) else self._items(rows, default)
        if not items and not self.faults:
            self.fault(f"{self.path}: no item is left")
        names = list(dict.fromkeys(n for i in items for n in i.scorers)) or [default[0]]
        header = self.header
        scorer = self.scorers.get(default[0]) or self._scorer(default[0], str(self.path))
        prompt = header.prompt or _PROMPTS.get(default[0], "Answer the question.")
        tasks = TaskSet(
            task=self._task(default, names, prompt, helpers, items),
            items=items,
            scorer=scorer or scoring.get("exact"),
            prompt=prompt,
            examples=header.examples or (),
            scorers={n: s for n, s in self.scorers.items() if n in names},
            mapping=self.columns.description(),
            notes=tuple(self.notes),
        )
        return Loaded(tasks, self.faults, self.n_faults)

    def _lacks_target(self, rows: list[cells.ItemParts], default: tuple[str, ...]) -> bool:
        """Report once, not for every row, that the scorers need a target and no column is one."""
        needed = {r.scorer or default[0] for r in rows} & {
            "exact",
            "numeric",
            "choice",
            "list",
            "date",
            "math",
        }
        if self.columns.target is not None or not needed:
            return False
        columns = self.table.columns
        self.fault(
            f"{self.path}: none of the columns ({', '.join(columns[:20])}) looks like "
            "the `target`; name it,"
            f' for example target = "{columns[-1]}", or choose a scorer that needs none'
        )
        return True

    def _rows(self) -> list[cells.ItemParts]:
        parts = []
        skipped = 0
        for row in self.table.rows:
            try:
                row_parts = cells.item_parts(row, self.columns)
            except TaskError as error:
                if self.header.skip_incomplete and isinstance(error, cells.EmptyQuestion):
                    skipped += 1
                else:
                    self.fault(str(error))
                continue
            if self.header.skip_incomplete and row_parts.shape == "none" and self.columns.target:
                skipped += 1
            else:
                parts.append(row_parts)
        if skipped:
            self.notes.append(f"{counted(skipped, 'row')} without a question or a target left out")
        return parts

    def _convert_targets(self, rows: list[cells.ItemParts]) -> tuple[str, ...]:
        """Convert the targets for the scorers; return the scorers of rows that name none."""
        truths, note = targets.final_answers([r.truths for r in rows])
        if note:
            self.notes.append(note)
        for row, truths_of_row in zip(rows, truths, strict=True):
            row.truths = truths_of_row
        default = self.header.scorers or (self._guess(rows),)
        _check_scorers(self.header, str(self.path))
        chosen = [r for r in rows if (r.scorer or default[0]) == "choice" and r.choices]
        if chosen:
            try:
                found_letters, note = targets.to_letters(
                    [r.truths for r in chosen],
                    [r.choices for r in chosen],
                    self.header.answers,
                    str(self.path),
                )
            except TaskError as error:
                self.fault(str(error))
                return default
            for row, truths_of_row in zip(chosen, found_letters, strict=True):
                row.truths = truths_of_row
            if note:
                self.notes.append(note)
            self._decide_order([r.truths for r in chosen])
        for row in rows:
            self._join_list(row, row.scorer or default[0])
        return default

    def _decide_order(self, letters: list[tuple[str, ...]]) -> None:
        """Choose a seed if the header demands shuffling, or if the first option is always right."""
        shuffle = self.header.shuffle
        if shuffle is None and not shuffling.is_always_first(letters):
            return
        if shuffle is None:
            self.notes.append(
                f"warning: the right option is the first of all {len(letters):,} items; "
                "options are shuffled, in"
                " the same order in every run (shuffle = false keeps the file's)"
            )
        self.seed = None if shuffle is False else 0 if shuffle is True else shuffle or 0

    @staticmethod
    def _join_list(row: cells.ItemParts, scorer: str) -> None:
        """Join a list to one target for the scorers `list` and `json`, which compare all of it."""
        if row.shape == "list" and scorer == "list":
            row.truths = (", ".join(row.truths),)
        elif row.shape == "list" and scorer == "json" and len(row.truths) != 1:
            row.truths = (json_text(list(row.truths)),)

    def _guess(self, rows: list[cells.ItemParts]) -> str:
        """Guess the scorer of a set from its columns and targets."""
        if all(r.scorer for r in rows):
            return rows[0].scorer or "exact" if rows else "exact"
        texts = [t for r in rows for t in r.truths]
        if "tests" in self.columns.metadata:
            guess = "unit_tests"
        elif any(r.choices for r in rows):
            guess = "choice"
        elif any(r.shape == "object" for r in rows):
            guess = "json"
        elif texts and all(scoring.is_number(t) for t in texts):
            guess = "numeric"
        else:
            guess = "exact"
            if any(_LATEX.search(t) for t in texts):
                self.notes.append(
                    'targets are LaTeX: scorer = "math" compares their values, "exact" their texts'
                )
        self.notes.append(f"scorer: {guess} (guessed)")
        return guess

    def _items(self, rows: list[cells.ItemParts], default: tuple[str, ...]) -> list[TaskItem]:
        items: dict[str, TaskItem] = {}
        repeated: list[str] = []
        options = self.header.options or {}
        for row in rows:
            try:
                item = self._item(row, default, options)
            except TaskError as error:
                self.fault(str(error))
                continue
            if item.item not in items:
                items[item.item] = item
            elif row.key is not None:
                self.fault(
                    f"{row.place}: item {item.item!r} occurs twice; give each item its own key"
                )
            else:
                repeated.append(row.place)
        if repeated:
            shown = ", ".join(p.removeprefix(str(self.path)).lstrip(":, ") for p in repeated[:5])
            self.notes.append(
                f"left out {counted(len(repeated), 'row')} equal to an earlier one (first: {shown})"
            )
        self._note_repeated_questions(list(items.values()))
        return list(items.values())

    def _note_repeated_questions(self, items: list[TaskItem]) -> None:
        questions: set[str] = set()
        twins: list[str] = []
        for item in items:
            if item.question in questions:
                twins.append(item.item)
            questions.add(item.question)
        if twins:
            n_twins = counted(len(twins), "item")
            self.notes.append(f"{n_twins} with the question of an earlier one (first: {twins[0]})")

    def _item(
        self, row: cells.ItemParts, default: tuple[str, ...], options: Mapping[str, Any]
    ) -> TaskItem:
        names = (row.scorer, *default[1:]) if row.scorer else default
        # an item without a key is identified by its content, in any row
        key = row.key or content_id(row.input, list(row.choices), list(row.truths))[:12]
        choices = row.choices
        truths = row.truths
        metadata = row.metadata
        if self.seed is not None and names[0] == "choice":
            places = shuffling.shuffled_places(self.seed, key, row.input, choices, truths)
            if places is not None:
                choices = tuple(choices[p] for p in places)
                truths = shuffling.letters_after(truths, places)
                metadata = {**metadata, "choice_order": places}
        target = truths[0] if truths else ""
        if len(truths) > 1:
            metadata = {**metadata, "accepted": list(truths[1:])}
        item = TaskItem(
            task=self.task_name,
            item=key,
            input=row.input,
            target=target,
            scorer=names[0],
            tags=row.tags,
            difficulty=row.difficulty,
            cluster=row.cluster,
            choices=choices,
            metadata=metadata,
            more_scorers=tuple(names[1:]),
            options=options,
            value_usd=row.value_usd,
            human_cost_usd=row.human_cost_usd,
        )
        for name in item.scorers:
            scorer = self._scorer(name, row.place)
            if scorer is not None:
                self._check(scorer, item, row.place)
        return item

    def _check(self, scorer: Scorer, item: TaskItem, place: str) -> None:
        """Let a scorer check an item; the message names the place in the file, not the item."""
        try:
            scorer.check(item)
        except TaskError as error:
            message = str(error).removeprefix(f"{item.place}: ")
            if message.startswith(("target", "the target")) and self.columns.target:
                message += f" (column {self.columns.target!r})"
            raise TaskError(f"{place}: {message}") from error

    def _scorer(self, name: str, place: str) -> Scorer | None:
        """Return a scorer, or None if it cannot be imported, which is reported as a fault."""
        if name not in self.scorers:
            try:
                scorer = self._find(name)
            except TaskError as error:
                self.fault(f"{place}: {error}")
                return None
            self.scorers[name] = scorer
        return self.scorers[name]

    def _find(self, name: str) -> Scorer:
        if self.find_scorer is not None and scoring.is_own(name):
            return self.find_scorer(name, self.folder)
        allowed = self.allowed or name in self.typed_scorers
        return scoring.find(name, allow_code=allowed, folder=self.folder)

    def _task(
        self,
        default: tuple[str, ...],
        names: list[str],
        prompt: str,
        helpers: Mapping[str, Mapping[str, Any]],
        items: list[TaskItem],
    ) -> Task:
        """Build the record; the user's scorers, options and judges are part of the version."""
        header = self.header
        identities = {
            n: s.identity for n in names if (s := self.scorers.get(n)) and s.identity is not None
        }
        judged = {
            j
            for i in items
            for n in i.scorers
            if n in self.scorers and isinstance(self.scorers[n], Judge)
            for j in scoring.judges(i)
        }
        identity: dict[str, Any] = {
            "scorers": identities,
            "options": header.options or {},
            "also": list(default[1:]),
            "judges": {j: dict(helpers[j]) for j in sorted(judged) if j in helpers},
        }
        identity = {name: value for name, value in identity.items() if value}
        version = header.version
        if identity:
            version = "+".join(filter(None, (version, content_id(identity)[:8])))
        about = {"licence": header.licence, "prompt": prompt, **msgspec.to_builtins(identity)}
        return Task(
            task=self.task_name,
            version=version,
            description=header.description,
            scorer=default[0],
            metadata=json_text({k: v for k, v in about.items() if v is not None}),
        )

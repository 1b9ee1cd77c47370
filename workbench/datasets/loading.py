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

_FIRST_FAULTS = 20
_PROMPTS = {
    "choice": "Answer the question with the letter of the right option.",
    "unit_tests": "Write Python code that does what is asked, in one fenced code block.",
    "json": "Answer with one JSON value.",
    "math": "Solve the problem, and put the final answer into \\boxed{}.",
}
_LATEX = re.compile(r"\\(?:frac|dfrac|sqrt|pi|text|left|begin|cup|infty|cdot)\b")
Source = str | Path | Mapping[str, Any] | TaskSpec
FindScorer = Callable[[str, Path], Scorer]  # by `module:function`, and the folder to look in first


@dataclasses.dataclass(slots=True)
class Loaded:
    """A task set as far as it could be understood.

    Attributes:
        faults: what is wrong, with file, line and column; the first ones of many.
        n_faults: how many there are.
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
    """Load a task set that ships, by name; a file of the user's; or a table of a plan (`TaskSpec`).

    Args:
        source: what to load. A file is .jsonl, .csv, .tsv, .json or .parquet.
        folder: the plan's; its files and the user's scorers are looked for here first.
        allow_code: whether a scorer `module:function` that only the file itself names may be
            imported. One that the table names has been named by the user.
        find_scorer: finds the scorers named `module:function`, whoever names them; what is said
            here and in the table of allowing code does not count then.
        helpers: what identifies the plan's helper models, by name; a judge by another model is
            another scorer.

    Raises:
        TaskError: there is no such set, or a line of the file is wrong (the message has file and
            line).
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
    """Load as much of a task set as can be understood, with what is wrong; see `load_task`."""
    spec = _spec(source)
    path = _find(spec, folder)
    table = reading.read(path, _beside(path, spec))
    header = _header(path, table, spec)
    allowed = allow_code or spec.allow_code
    loading = _Loading(
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
        raise TaskError(f"{path}: no task file; it is one of {', '.join(reading.SUFFIXES)}")
    beside = None if folder is None else folder / path
    return beside if beside is not None and beside.exists() else path


def file_of(source: Any, folder: Path | None = None) -> Path | None:
    """Find the file of a task of a plan, without links; None for a set that ships."""
    files = files_of(source, folder)
    return files[0].resolve() if files else None


def files_of(source: Any, folder: Path | None = None) -> list[Path]:
    """List the files that loading a task of a plan reads, by the names that it reads them by."""
    spec = _spec(source) if isinstance(source, str | Mapping) else TaskSpec(task="")
    path = None if spec.path is None else _find(spec, folder)
    if path is None or not path.exists():
        return []
    beside = path.with_suffix(".toml")
    return [path, beside] if beside.exists() else [path]


def located(source: Any, folder: Path | None = None) -> Any:
    """Make a plan's task independent of the working directory: an existing file's absolute path."""
    path = file_of(source, folder)
    if path is None:
        return source
    absolute = str(path)
    return {**source, "path": absolute} if isinstance(source, Mapping) else absolute


def _beside(path: Path, spec: TaskSpec) -> Header:
    """Read the .toml of the same name, if there is one, with the plan's table over it."""
    beside = path.with_suffix(".toml")
    raw: dict[str, Any] = {}
    if beside.is_file():
        try:
            raw = toml(reading.read_text(beside))
        except tomllib.TOMLDecodeError as error:
            raise TaskError(f"{beside}: not TOML: {error}") from error
    header: Header = convert(raw, Header, str(beside))
    return spec.over(header)


def _header(path: Path, table: reading.Table, spec: TaskSpec) -> Header:
    """Take the header from the first line, where that is one; else from the file beside."""
    first = table.rows[0] if table.rows else None
    lines = path.suffix.lower() not in {".csv", ".tsv", ".parquet", ".json"}
    if not lines or first is None or "task" not in first.cells or "input" in first.cells:
        return _beside(path, spec)
    if len(table.rows) > 1 and "task" in table.rows[1].cells:  # a column like any other
        return _beside(path, spec)
    header: Header = convert(dict(first.cells), Header, first.place)
    _known(header, first.place)
    del table.rows[0]
    table.columns[:] = dict.fromkeys(name for row in table.rows for name in row.cells)
    return spec.over(header)


def _known(header: Header, place: str) -> None:
    """Refuse a scorer that does not exist where the header names it."""
    for name in header.scorers:
        if not scoring.is_own(name):
            try:
                scoring.get(name)
            except TaskError as error:
                raise TaskError(f"{place}: {error}") from error


class _Loading:
    """One file on its way to a task set."""

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
        self.path, self.table, self.header, self.folder = path, table, header, folder
        self.task_name = header.task or path.stem
        self.named = set(spec.scorers)
        self.allowed, self.find_scorer = allowed, find_scorer
        self.columns = mapping.decide(table, header, path)
        self.notes = [*table.notes, *self.columns.notes]
        self.faults: list[str] = []
        self.n_faults = 0
        self.scorers: dict[str, Scorer] = {}
        self.seed: int | None = None  # of the order of options; None leaves it as the file has it

    def fault(self, message: str) -> None:
        self.n_faults += 1
        if len(self.faults) < _FIRST_FAULTS:
            self.faults.append(message)

    def finish(self, helpers: Mapping[str, Mapping[str, Any]]) -> Loaded:
        rows = self._rows()
        default = self._understand(rows)
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
            mapping=self.columns.said(),
            notes=tuple(self.notes),
        )
        return Loaded(tasks, self.faults, self.n_faults)

    def _lacks_target(self, rows: list[cells.Parts], default: tuple[str, ...]) -> bool:
        """Say once, not for every row, that no column is the target where the scorers need one."""
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
            "the `target`; say which is,"
            f' for example target = "{columns[-1]}", or choose a scorer that needs none'
        )
        return True

    def _rows(self) -> list[cells.Parts]:
        found, skipped = [], 0
        for row in self.table.rows:
            try:
                one = cells.parts(row, self.columns)
            except TaskError as error:
                if self.header.skip_incomplete and isinstance(error, cells.NoQuestion):
                    skipped += 1
                else:
                    self.fault(str(error))
                continue
            if self.header.skip_incomplete and one.shape == "none" and self.columns.target:
                skipped += 1
            else:
                found.append(one)
        if skipped:
            self.notes.append(f"{counted(skipped, 'row')} without a question or a target left out")
        return found

    def _understand(self, rows: list[cells.Parts]) -> tuple[str, ...]:
        """Bring the targets into our form; return the scorers of items that name none."""
        truths, note = targets.final_answers([r.truths for r in rows])
        if note:
            self.notes.append(note)
        for row, found in zip(rows, truths, strict=True):
            row.truths = found
        default = self.header.scorers or (self._guess(rows),)
        _known(self.header, str(self.path))
        chosen = [r for r in rows if (r.scorer or default[0]) == "choice" and r.choices]
        if chosen:
            try:
                found_letters, note = targets.letters(
                    [r.truths for r in chosen],
                    [r.choices for r in chosen],
                    self.header.answers,
                    str(self.path),
                )
            except TaskError as error:
                self.fault(str(error))
                return default
            for row, found in zip(chosen, found_letters, strict=True):
                row.truths = found
            if note:
                self.notes.append(note)
            self._decide_order([r.truths for r in chosen])
        for row in rows:
            self._as_one(row, row.scorer or default[0])
        return default

    def _decide_order(self, letters: list[tuple[str, ...]]) -> None:
        """Shuffle options where that is wanted, or where their order tells the right one."""
        told = self.header.shuffle
        if told is None and not shuffling.gives_away(letters):
            return
        if told is None:
            self.notes.append(
                f"warning: the right option is the first of all {len(letters):,} items; "
                "options are shuffled, in"
                " the same order in every run (shuffle = false keeps the file's)"
            )
        self.seed = None if told is False else 0 if told is True else told or 0

    @staticmethod
    def _as_one(row: cells.Parts, scorer: str) -> None:
        """Join a list that is one truth: for `list` and `json` its elements belong together."""
        if row.shape == "list" and scorer == "list":
            row.truths = (", ".join(row.truths),)
        elif row.shape == "list" and scorer == "json" and len(row.truths) != 1:
            row.truths = (json_text(list(row.truths)),)

    def _guess(self, rows: list[cells.Parts]) -> str:
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
                    "targets are LaTeX: "
                    'scorer = "math" compares what they mean, "exact" how they are written'
                )
        self.notes.append(f"scorer: {guess} (guessed)")
        return guess

    def _items(self, rows: list[cells.Parts], default: tuple[str, ...]) -> list[TaskItem]:
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
                    f"{row.place}: item {item.item!r} is there twice; give each item its own key"
                )
            else:
                repeated.append(row.place)
        if repeated:
            shown = ", ".join(p.removeprefix(str(self.path)).lstrip(":, ") for p in repeated[:5])
            self.notes.append(
                f"left out {counted(len(repeated), 'row')} equal to an earlier one (first: {shown})"
            )
        self._note_twins(list(items.values()))
        return list(items.values())

    def _note_twins(self, items: list[TaskItem]) -> None:
        asked: set[str] = set()
        twins = [i.item for i in items if i.question in asked or asked.add(i.question)]  # type: ignore[func-returns-value]  # None is what is wanted
        if twins:
            n_twins = counted(len(twins), "item")
            self.notes.append(f"{n_twins} with the question of an earlier one (first: {twins[0]})")

    def _item(
        self, row: cells.Parts, default: tuple[str, ...], options: Mapping[str, Any]
    ) -> TaskItem:
        names = (row.scorer, *default[1:]) if row.scorer else default
        # without a key of its own an item is known by what it says, wherever it stands
        key = row.key or content_id(row.input, list(row.choices), list(row.truths))[:12]
        choices, truths, metadata = row.choices, row.truths, row.metadata
        if self.seed is not None and names[0] == "choice":
            places = shuffling.order(self.seed, key, row.input, choices, truths)
            if places is not None:
                choices, truths = tuple(choices[p] for p in places), shuffling.moved(truths, places)
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
        """Let a scorer refuse an item; the message names the place in the file, not the item."""
        try:
            scorer.check(item)
        except TaskError as error:
            said = str(error).removeprefix(f"{item.place}: ")
            if said.startswith(("target", "the target")) and self.columns.target:
                said += f" (column {self.columns.target!r})"
            raise TaskError(f"{place}: {said}") from error

    def _scorer(self, name: str, place: str) -> Scorer | None:
        """Find a scorer once; one that cannot be had is a fault once."""
        if name not in self.scorers:
            try:
                found = self._find(name)
            except TaskError as error:
                self.fault(f"{place}: {error}")
                return None
            self.scorers[name] = found
        return self.scorers[name]

    def _find(self, name: str) -> Scorer:
        if self.find_scorer is not None and scoring.is_own(name):
            return self.find_scorer(name, self.folder)
        allowed = self.allowed or name in self.named
        return scoring.find(name, allow_code=allowed, folder=self.folder)

    def _task(
        self,
        default: tuple[str, ...],
        names: list[str],
        prompt: str,
        helpers: Mapping[str, Mapping[str, Any]],
        items: list[TaskItem],
    ) -> Task:
        """Make the record; scorers of the user's, settings and judges are part of the version."""
        header = self.header
        own = {
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
            "scorers": own,
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

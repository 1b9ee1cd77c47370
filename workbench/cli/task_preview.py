"""Preview of a task file, or of the tasks of a plan: `workbench tasks FILE`."""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench import datasets
from workbench.cli.options import print_message
from workbench.cli.output import Document, emit
from workbench.cli.tables import frame_of
from workbench.datasets.loading import FindScorer
from workbench.errors import ConfigError
from workbench.scoring import Scorer, UnimportedScorer, user_code
from workbench.toml_reader import toml

_COLUMNS = ("item", "question", "target", "scorer", "difficulty", "tags")
_N_ITEMS = 3


def preview(
    path: Path,
    set_options: Sequence[str],
    *,
    allow_code: bool,
    format_: str | None,
    output: Path | None,
) -> bool:
    """Print how a file is read as tasks; return whether `collect` would accept it."""
    if path.suffix.lower() == ".toml":
        sources, folder = _of_plan(path)
        settings = _settings(set_options)
        sources = [_table(source) | settings for source in sources] if settings else sources
    else:
        sources, folder = [{"path": str(path), **_settings(set_options)}], None
    find_scorer = _finder(_typed_scorers(set_options), allow_code=allow_code)
    shown = [_show(s, folder, find_scorer, format_, output) for s in sources]
    return all(shown)


def _typed_scorers(set_options: Sequence[str]) -> set[str]:
    """Return the names of scorers that were given with --set."""
    scorer = _settings(set_options).get("scorer", ())
    return {scorer} if isinstance(scorer, str) else set(scorer)


def _finder(typed: Collection[str], *, allow_code: bool) -> FindScorer:
    """Make a function that finds scorers outside the package; it imports them if `allow_code`.

    A scorer that was typed is searched for in the current folder first.
    """

    def find_scorer(name: str, folder: Path) -> Scorer:
        folders = [Path(), folder] if name in typed else [folder]
        scorer = user_code.locate(name, folders, is_typed=name in typed)
        return scorer.load() if allow_code else scorer

    return find_scorer


def _table(source: Any) -> dict[str, Any]:
    if isinstance(source, Mapping):
        return dict(source)
    key = "path" if Path(str(source)).suffix.lower() in datasets.SUFFIXES else "task"
    return {key: source}


def _of_plan(path: Path) -> tuple[list[Any], Path]:
    try:
        plan = toml(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    sources = plan.get("tasks")
    if not isinstance(sources, list) or not sources:
        raise ConfigError(
            f"{path} has no list `tasks`; give a plan with one, or a task file"
            f" ({', '.join(datasets.SUFFIXES)})"
        )
    return sources, path.parent


def _settings(set_options: Sequence[str]) -> dict[str, Any]:
    """Parse NAME=VALUE options; a value is TOML if it parses as TOML, else text."""
    settings: dict[str, Any] = {}
    for text in set_options:
        name, mark, value = text.partition("=")
        if not mark:
            raise ConfigError(
                f"--set {text!r} is not NAME=VALUE; for example: --set input=question"
            )
        try:
            settings[name.strip()] = toml(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            settings[name.strip()] = value.strip()
    return settings


def _show(
    source: Any,
    folder: Path | None,
    find_scorer: FindScorer,
    format_: str | None,
    output: Path | None,
) -> bool:
    loaded = datasets.examine(source, folder=folder, find_scorer=find_scorer)
    tasks = loaded.tasks
    code = [
        f"the scorer {s.name!r} is code of {s.code.place!r}; --allow-code imports it"
        for s in tasks.scorers.values()
        if isinstance(s, UnimportedScorer)
    ]
    first = [_row(item) for item in tasks.items[:_N_ITEMS]]
    mapping = [{"field": f, "read from": s} for f, s in tasks.mapping.items()]
    about = {
        "task": tasks.name,
        "version": tasks.task.version,
        "n_items": len(tasks.items),
        "scorer": ", ".join(tasks.scorers) or None,
        "prompt": tasks.prompt,
        "n_problems": loaded.n_faults,
    }
    facts = [{"about": n, "value": str(v)} for n, v in about.items() if v is not None]
    document = Document(
        name="task",
        frame=frame_of(first, _COLUMNS),
        notes=(*tasks.notes, *code),
        more={
            "read from": frame_of(mapping, ("field", "read from")),
            "about": frame_of(facts, ("about", "value")),
        },
        provenance=about,
    )
    emit(document, format_, output)
    for fault in loaded.faults:
        print_message(f"problem: {fault}")
    if loaded.n_faults > len(loaded.faults):
        print_message(
            f"problem: {loaded.n_faults - len(loaded.faults):,} more problems are not listed"
        )
    return not loaded.faults


def _row(item: datasets.TaskItem) -> dict[str, Any]:
    return {
        "item": item.item,
        "question": item.question,
        "target": " | ".join(item.targets) or None,
        "scorer": ", ".join(item.scorers),
        "difficulty": item.difficulty,
        "tags": ", ".join(item.tags) or None,
    }

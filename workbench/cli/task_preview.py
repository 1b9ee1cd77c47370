"""`workbench tasks FILE`: what a file of the user's, or the tasks of a plan, would be as task sets."""

import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench import datasets
from workbench.cli.options import talk
from workbench.cli.output import Document, emit
from workbench.cli.tables import frame_of
from workbench.datasets.loading import FindScorer
from workbench.decoding import toml
from workbench.errors import ConfigError
from workbench.scoring import Scorer, UnimportedScorer, user_code

_SHOWN = ("item", "question", "target", "scorer", "difficulty", "tags")
_N_SHOWN = 3


def preview(
    path: Path, told: Sequence[str], *, allow_code: bool, format_: str | None, output: Path | None
) -> bool:
    """Show how a file is understood; return whether it could be collected."""
    if path.suffix.lower() == ".toml":
        sources, folder = _of_plan(path)
        settings = _settings(told)
        sources = [_table(source) | settings for source in sources] if settings else sources
    else:
        sources, folder = [{"path": str(path), **_settings(told)}], None
    find_scorer = _finder(_named(told), allow_code=allow_code)
    shown = [_show(s, folder, find_scorer, format_, output) for s in sources]
    return all(shown)


def _named(told: Sequence[str]) -> set[str]:
    """Name the scorers that were typed with --set."""
    scorer = _settings(told).get("scorer", ())
    return {scorer} if isinstance(scorer, str) else set(scorer)


def _finder(typed: Collection[str], *, allow_code: bool) -> FindScorer:
    """Make what finds scorers of the user's: it imports them only where --allow-code was given.

    Those that were typed are looked for where the command runs first.
    """

    def find(name: str, folder: Path) -> Scorer:
        folders = [Path(), folder] if name in typed else [folder]
        scorer = user_code.locate(name, folders, is_typed=name in typed)
        return scorer.load() if allow_code else scorer

    return find


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
            f"{path} is no plan with `tasks`; give a plan, or a task file:"
            f" {', '.join(datasets.SUFFIXES)}"
        )
    return sources, path.parent


def _settings(told: Sequence[str]) -> dict[str, Any]:
    """Read `name=value`; a value that TOML knows is that, every other one is text."""
    found: dict[str, Any] = {}
    for text in told:
        name, mark, value = text.partition("=")
        if not mark:
            raise ConfigError(f"--set {text!r}: write it as name=value, for example input=question")
        try:
            found[name.strip()] = toml(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[name.strip()] = value.strip()
    return found


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
        f"the scorer {s.name!r} is code of {s.code.place!r}; it is not imported here"
        for s in tasks.scorers.values()
        if isinstance(s, UnimportedScorer)
    ]
    first = [_row(item) for item in tasks.items[:_N_SHOWN]]
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
        frame=frame_of(first, _SHOWN),
        notes=(*tasks.notes, *code),
        more={
            "read from": frame_of(mapping, ("field", "read from")),
            "about": frame_of(facts, ("about", "value")),
        },
        provenance=about,
    )
    emit(document, format_, output)
    for fault in loaded.faults:
        talk(f"problem: {fault}")
    if loaded.n_faults > len(loaded.faults):
        talk(f"problem: and {loaded.n_faults - len(loaded.faults):,} more")
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

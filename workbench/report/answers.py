"""From a result to its place in a report: with its command and its chart, or the reason why it has none."""

import dataclasses
import datetime as dt
import shlex
from collections.abc import Iterable

from workbench import __version__, analysis
from workbench.analysis import Result
from workbench.analysis.core.entry_columns import flags_set_by_metrics
from workbench.errors import WorkbenchError
from workbench.report.contents import Answered, Looked, Report, Unanswered, is_blank, why_blank


def of(
    results: Iterable[Result],
    looked: Looked = Looked(),  # noqa: B008 (frozen)
    *,
    made_at: dt.datetime,
    title: str = "Answers",
    seed: int = 0,
    draw: bool = True,
    most: int = 40,
) -> Report:
    """Put results together to a report.

    Args:
        results: in any order; they are read family by family.
        looked: what they were asked of.
        made_at: when (UTC).
        title: the headline.
        seed: of what was random in them.
        draw: whether to draw charts; only a page shows them.
        most: rows of a table.
    """
    found: list[Answered | Unanswered] = []
    seen: dict[str, int] = {}
    for result in results:
        n = seen[result.name] = seen.get(result.name, 0) + 1
        mark = result.name if n == 1 else f"{result.name}-{n}"
        found.append(
            answer(result, store=looked.store, where=looked.where, seed=seed, draw=draw, mark=mark)
        )
    by = next((f.result.by for f in found if isinstance(f, Answered)), ("configuration",))
    return Report(
        title,
        looked,
        tuple(f for f in found if isinstance(f, Answered)),
        tuple(f for f in found if isinstance(f, Unanswered)),
        made_at,
        __version__,
        by=by,
        seed=seed,
        most=most,
    )


def answer(
    result: Result,
    *,
    store: str = "",
    where: str = "",
    seed: int = 0,
    draw: bool = True,
    mark: str = "",
) -> Answered | Unanswered:
    """Give a result its place: among the answers, with its chart, or among what has none."""
    declared = analysis.get(result.name)
    if is_blank(result):
        return Unanswered(declared, why_blank(result))
    said = command(result, store, where, seed)
    found = Answered(declared, result, said, mark=mark or result.name)
    return drawn(found) if draw else found


def drawn(found: Answered) -> Answered:
    """Add the chart of an answer, or why there is none."""
    from workbench.report.pictures import picture

    try:
        return dataclasses.replace(found, picture=picture(found.result, found.mark))
    except Exception as error:  # noqa: BLE001 (the table stands without its chart)
        return dataclasses.replace(found, fault=words_of(error))


def words_of(error: Exception) -> str:
    """Say what went wrong; of a fault that is none of ours, also its kind."""
    if isinstance(error, WorkbenchError):
        return str(error)
    return f"{type(error).__name__}: {error}".rstrip(": ")


def command(result: Result, store: str = "", where: str = "", seed: int = 0) -> str:
    """Write the command that gives a result again, all rows of it; options at their default are left out."""
    declared = analysis.get(result.name)
    turned = flags_set_by_metrics(result.options)
    words = ["workbench", "analyze", result.name]
    words += ["--where", where] if where else []
    words += ["--by", ",".join(result.by)] if result.by != ("configuration",) else []
    for option in declared.options:
        value, flag = result.options.get(option.name, option.default), option.name.replace("_", "-")
        if value == option.default and option.name not in turned:
            continue
        if option.type == "flag":
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            said = str(value).removesuffix(".0") if isinstance(value, float) else str(value)
            words += [f"--{flag}", said]
    words += ["--seed", str(seed)] if seed else []
    words += ["--store", store] if store else []
    return shlex.join(words)

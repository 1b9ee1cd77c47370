"""Answers of a report: a result with its command and chart, or the reason why there is none."""

import dataclasses
import datetime as dt
import shlex
from collections.abc import Iterable

from workbench import analysis
from workbench.analysis import Result
from workbench.analysis.core.entry_columns import flags_set_by_metrics
from workbench.errors import WorkbenchError
from workbench.report.contents import Answered, Looked, Report, Unanswered, is_blank, why_blank
from workbench.version import __version__


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
    """Make a report of results.

    Args:
        results: results in any order; the report sorts them by family.
        looked: the store and slice that the results are from.
        made_at: time of the report (UTC).
        title: the headline.
        seed: seed that the results were computed with.
        draw: whether to draw charts; only HTML shows them.
        most: rows of a table, at most.
    """
    answers: list[Answered | Unanswered] = []
    n_results: dict[str, int] = {}
    for result in results:
        n = n_results[result.name] = n_results.get(result.name, 0) + 1
        mark = result.name if n == 1 else f"{result.name}-{n}"
        answers.append(
            answer(result, store=looked.store, where=looked.where, seed=seed, draw=draw, mark=mark)
        )
    by = next((a.result.by for a in answers if isinstance(a, Answered)), ("configuration",))
    return Report(
        title,
        looked,
        tuple(a for a in answers if isinstance(a, Answered)),
        tuple(a for a in answers if isinstance(a, Unanswered)),
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
    """Make the entry of a result: an answer with its chart, or the reason why it has no figure."""
    declared = analysis.get(result.name)
    if is_blank(result):
        return Unanswered(declared, why_blank(result))
    repeat = command(result, store, where, seed)
    entry = Answered(declared, result, repeat, mark=mark or result.name)
    return with_chart(entry) if draw else entry


def with_chart(entry: Answered) -> Answered:
    """Add the chart of an answer, or the error that kept it from being drawn."""
    from workbench.report.pictures import picture

    try:
        return dataclasses.replace(entry, picture=picture(entry.result, entry.mark))
    except Exception as error:  # noqa: BLE001 (the table is shown without its chart)
        return dataclasses.replace(entry, fault=message_of(error))


def message_of(error: Exception) -> str:
    """Return the message of an error; for an error outside our hierarchy with its class."""
    if isinstance(error, WorkbenchError):
        return str(error)
    return f"{type(error).__name__}: {error}".rstrip(": ")


def command(result: Result, store: str = "", where: str = "", seed: int = 0) -> str:
    """Write the command that repeats a result with all its rows; default options are omitted."""
    declared = analysis.get(result.name)
    set_by_metrics = flags_set_by_metrics(result.options)
    words = ["workbench", "analyze", result.name]
    words += ["--where", where] if where else []
    words += ["--by", ",".join(result.by)] if result.by != ("configuration",) else []
    for option in declared.options:
        value = result.options.get(option.name, option.default)
        flag = option.name.replace("_", "-")
        if value == option.default and option.name not in set_by_metrics:
            continue
        if option.type == "flag":
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            text = str(value).removesuffix(".0") if isinstance(value, float) else str(value)
            words += [f"--{flag}", text]
    words += ["--seed", str(seed)] if seed else []
    words += ["--store", store] if store else []
    return shlex.join(words)

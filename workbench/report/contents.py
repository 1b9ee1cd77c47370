"""Contents of a report as records: facts about the slice, answers, and analyses without one."""

import dataclasses
import datetime as dt
from collections.abc import Sequence

import polars as pl

from workbench.analysis import Analysis, Result
from workbench.analysis.catalogue.registry import FAMILIES
from workbench.formats import count, is_unknown


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """A name in the traces of the slice, None if unknown, and the number of traces with it."""

    name: str | None
    n: int


@dataclasses.dataclass(frozen=True, slots=True)
class Looked:
    """Facts about the slice that a report is made from.

    Attributes:
        store: the store's file name, without its folder, because a report is given to others.
        where: the slice as text; "" is everything.
        n_traces: traces of the slice.
        n_all: traces of the store.
        models: the models of the slice, the most frequent first; likewise tasks, strategies and
            configurations.
        runs: rows of the table `runs` of the slice, with the number of its traces in `n_traces`.
        first_at: start of the first attempt (UTC); None if unknown.
        last_at: start of the last attempt (UTC); None if unknown.
        prices: rows of the table `prices` in force for the traces.
        n_unpriced: traces without a price row; None if unknown.
        methods: methods of the joules: measured, apportioned, estimated, reported; () if there are
            none.
        most: length of a list of names, at most; a list of that length may be cut.
    """

    store: str = ""
    where: str = ""
    n_traces: int | None = None
    n_all: int | None = None
    models: tuple[Value, ...] = ()
    tasks: tuple[Value, ...] = ()
    strategies: tuple[Value, ...] = ()
    configurations: tuple[Value, ...] = ()
    runs: pl.DataFrame = dataclasses.field(default_factory=pl.DataFrame)
    first_at: dt.datetime | None = None
    last_at: dt.datetime | None = None
    prices: pl.DataFrame = dataclasses.field(default_factory=pl.DataFrame)
    n_unpriced: int | None = None
    methods: tuple[str, ...] = ()
    most: int = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """An analysis with its answer.

    Attributes:
        declared: the analysis.
        result: its result.
        command: the command that repeats the result with all its rows.
        picture: the chart as SVG; "" if none was drawn.
        fault: why the chart could not be drawn; "" if it was, or was not requested.
        mark: anchor within the report: the analysis' name, numbered from its second result on.
    """

    declared: Analysis
    result: Result
    command: str
    picture: str = ""
    fault: str = ""
    mark: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Unanswered:
    """An analysis without an answer, and why.

    Attributes:
        declared: the analysis.
        reason: the reason as a sentence.
        failed: whether it raised an error; else the traces lack what it needs.
    """

    declared: Analysis
    reason: str
    failed: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """A report, ready to be written.

    Attributes:
        title: the headline.
        looked: facts about the slice.
        answers: the answers in reading order.
        unanswered: the analyses without an answer.
        others: names of the analyses that were not run.
        by: the columns that name a group.
        seed: seed of the random numbers.
        made_at: time of the report (UTC).
        version: version of workbench.
        most: rows shown of a main table, at most.
        fewer: rows shown of a further table, at most.
        changed: whether the store changed while it was being read.
    """

    title: str
    looked: Looked
    answers: tuple[Answered, ...]
    unanswered: tuple[Unanswered, ...]
    made_at: dt.datetime
    version: str
    others: tuple[str, ...] = ()
    by: tuple[str, ...] = ("configuration",)
    seed: int = 0
    most: int = 40
    fewer: int = 10
    changed: bool = False

    def families(self) -> dict[str, list[Answered]]:
        """Group the answers by the titles of their families, in the order of the catalogue."""
        by_title: dict[str, list[Answered]] = {title: [] for title in FAMILIES.values()}
        for answer in self.answers:
            by_title[FAMILIES[answer.declared.family]].append(answer)
        return {title: answers for title, answers in by_title.items() if answers}


def is_blank(result: Result) -> bool:
    """Whether a result has no figure: no rows, or no known value of a figure with an interval."""
    frame = result.frame
    figures = [c for c in frame.columns if {f"{c}_low", f"{c}_high"} <= set(frame.columns)]
    return frame.is_empty() or (
        bool(figures) and all(is_unknown(v) for c in figures for v in frame[c].to_list())
    )


def why_blank(result: Result) -> str:
    """Explain why a result has no figure, by its notes and its dropped rows."""
    dropped = ", ".join(left_out(result))
    return "; ".join((*result.notes, *([f"left out: {dropped}"] if dropped else []))) or "no rows"


def left_out(result: Result) -> Sequence[str]:
    """Write the dropped rows of a result by reason: "12 failed traces"."""
    return [f"{count(n)} {reason}" for reason, n in result.dropped.items()]

"""What a report holds, before it is written: what was looked at, the answers, and what has none."""

import dataclasses
import datetime as dt
from collections.abc import Sequence

import polars as pl

from workbench.analysis import Analysis, Result
from workbench.analysis.catalogue.registry import FAMILIES
from workbench.formats import count, is_unknown


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """A name that occurs in the traces looked at, and in how many of them; None where it is unknown."""

    name: str | None
    n: int


@dataclasses.dataclass(frozen=True, slots=True)
class Looked:
    """What was looked at.

    Attributes:
        store: the store's file name, without its folder: a report goes to others.
        where: the slice as text; "" is everything.
        n_traces: traces of the slice.
        n_all: traces of the store.
        models: the models of the slice, the commonest first; likewise tasks, strategies and
            configurations.
        runs: rows of the table `runs` that the slice has traces of, with `n_traces`, those of the
            slice.
        first_at: when the first attempt began (UTC); None if not known.
        last_at: when the last one began.
        prices: rows of the table `prices` in force for the traces.
        n_unpriced: traces without a price row; None if not known.
        methods: how joules were found: measured, apportioned, estimated, reported; () where none
            are known.
        most: of how many names a list has at most; a list as long may be cut.
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
        result: its answer.
        command: what gives it again, all rows of it.
        picture: the chart as SVG; "" where none was drawn.
        fault: why no chart could be drawn; "" where one was, or none was wanted.
        mark: its name within the report: that of the analysis, numbered where it comes again.
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
        reason: in words.
        failed: whether it ended in an error, in place of finding nothing to answer from.
    """

    declared: Analysis
    reason: str
    failed: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """A report, ready to be written.

    Attributes:
        title: its headline.
        looked: what was looked at.
        answers: in the order in which they are read.
        unanswered: the analyses that had nothing to answer from, or failed.
        others: names of the analyses that were not asked.
        by: the columns that name a group.
        seed: of what is random.
        made_at: when it was made (UTC).
        version: of workbench.
        most: rows shown of a main table; of a further one, `fewer`.
        changed: whether the store changed while it was being looked at.
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
        """Sort the answers under the titles of their families, in the order of the catalogue."""
        found: dict[str, list[Answered]] = {title: [] for title in FAMILIES.values()}
        for answer in self.answers:
            found[FAMILIES[answer.declared.family]].append(answer)
        return {title: answers for title, answers in found.items() if answers}


def is_blank(result: Result) -> bool:
    """Whether an answer holds no figure: no rows, or none of its figures with an interval is known in any row."""
    frame = result.frame
    figures = [c for c in frame.columns if {f"{c}_low", f"{c}_high"} <= set(frame.columns)]
    return frame.is_empty() or (
        bool(figures) and all(is_unknown(v) for c in figures for v in frame[c].to_list())
    )


def why_blank(result: Result) -> str:
    """Say why an answer holds no figure: what it notes, and what was left out."""
    left = ", ".join(left_out(result))
    return "; ".join((*result.notes, *([f"left out: {left}"] if left else []))) or "no rows"


def left_out(result: Result) -> Sequence[str]:
    """Say what an answer leaves out: "12 failed traces"."""
    return [f"{count(n)} {reason}" for reason, n in result.dropped.items()]

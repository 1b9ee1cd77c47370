"""The catalogue of analyses: a declaration and a function per file, found by walking the families.

A family is a folder here, an analysis a file in it whose name is the analysis' with underscores.
Adding the file is all it takes; every face reads the declaration.
"""

import dataclasses
import difflib
import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from workbench.errors import AnalysisError
from workbench.schema import Column, columns_by_name

if TYPE_CHECKING:
    import narwhals as nw
    import numpy as np

    from workbench.analysis.result import Answer, Result

_PACKAGE = "workbench.analysis"
# families in the order in which they are read, and what a menu calls them
FAMILIES = {
    "worth": "Who is worth it", "money": "Money", "time": "Time", "joules": "Energy",
    "compute": "Compute", "tries": "Many tries", "budgets": "Budgets", "routers": "Routing",
    "evidence": "Is it real", "agents": "Agents", "laws": "Laws",
}  # fmt: skip
SCORES = ("pass_rate", "score")  # axes that are means of an outcome, not of a measure


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """One setting of an analysis, from which the CLI makes a flag and the TUI a field.

    Attributes:
        type: int, float, flag, text, choice; measure (a numeric column, or a metric of a results
            frame); group (a value of the grouping).
        default: used where nothing is given; None means that it may be left open.
        help: one line.
        choices: the accepted values of a choice, the suggested ones of a measure.
        low, high: inclusive bounds of a number.
    """

    name: str
    type: Literal["int", "float", "flag", "text", "choice", "measure", "group"]
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    def parse(self, value: Any) -> Any:
        """Turn typed or textual input into the option's value; AnalysisError says what is wrong."""
        if value is None or value == "":
            return self.default
        try:
            parsed = _PARSERS[self.type](value)
        except (TypeError, ValueError) as error:
            reason = f"option {self.name}: {value!r} is not a {self.type}"
            raise AnalysisError(reason) from error
        if self.type == "choice" and parsed not in self.choices:
            raise AnalysisError(unknown(f"value of option {self.name}", parsed, self.choices))
        if self.low is not None and parsed < self.low:
            raise AnalysisError(f"option {self.name}: {parsed} is below {self.low:g}")
        if self.high is not None and parsed > self.high:
            raise AnalysisError(f"option {self.name}: {parsed} is above {self.high:g}")
        return parsed


def _integer(value: Any) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)


def _finite(value: Any) -> float:
    number = float(value)
    if not abs(number) < float("inf"):
        raise ValueError(value)
    return number


def _flag(value: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}
    if str(value).lower() not in words:
        raise ValueError(value)
    return words[str(value).lower()]


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "int": _integer, "float": _finite, "flag": _flag,
    "text": str, "choice": str, "measure": str, "group": str,
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class ChartSpec:
    """The default drawing: which module of `charts`, the columns on its axes, and what is drawn beside them."""

    kind: str
    x: str = ""
    y: str = ""
    also: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Settles:
    """Which figure with an interval decides the question, and what leaves it open; see `outlook`.

    Attributes:
        column: the figure; if open, one called gain, difference or change, else the first of the chart's axes.
        neutral: what the figure is held against: a number, an option, or a column of the row. If None,
            0 for a gain, a difference or a change, and groups are held against each other for other figures.
        better: which group is held against the others, that with more of the figure or with less; if open,
            less of money, time, energy, tokens and arithmetic, more of anything else.
        table: the table of the result that has it; "" is the main one.
        where: (column, value) of the rows that count.
        groups: columns that name the groups a row compares, where it is not of one group.
        unit: what shrinks the interval if there is more of it.
        n: the column that counts them.
        unless: an option under which nothing is said.
    """

    column: str = ""
    neutral: float | str | None = None
    better: Literal["more", "less"] | None = None
    table: str = ""
    where: tuple[str, Any] | None = None
    groups: tuple[str, ...] = ("a", "b")
    unit: str = "items"
    n: str = "n_items"
    unless: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Analysis:
    """The declaration of an analysis.

    Attributes:
        name: as typed: "cost-of-pass".
        family: the folder it lives in.
        title: what a menu shows.
        question: the question that it answers, in one sentence.
        needs: columns without which it cannot answer.
        options: its settings.
        columns: what the result's columns mean, those of further tables included.
        measures: columns whose means it takes; a measure option's value is added to them.
        require: columns that a trace must have a value in to count.
        scored: whether only scored traces count.
        chart: the default drawing.
        source: the paper and the equation.
        rows: the view whose rows it takes; a slice names traces, and gives what belongs to them.
        example: options, `by` and `where` of the worked example on its page.
        settles: what decides its question; None where no further items would, or it says so itself.
        doc: the function's docstring.
    """

    name: str
    family: str
    title: str
    question: str
    needs: tuple[str, ...]
    options: tuple[Option, ...]
    columns: tuple[Column, ...]
    measures: tuple[str, ...]
    require: tuple[str, ...]
    scored: bool
    chart: ChartSpec
    source: str
    rows: str
    example: Mapping[str, Any]
    settles: Settles | None
    doc: str
    function: Callable[..., "Answer"]

    def parse(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in defaults and check names, types and bounds."""
        known = {o.name: o for o in self.options}
        for name in options:
            if name not in known:
                raise AnalysisError(unknown(f"option of {self.name}", name, known))
        return {name: o.parse(options.get(name)) for name, o in known.items()}

    def reduction(self, options: Mapping[str, Any]) -> "Reduction":
        """Say what it reduces under options: measures, what a trace must have, which outcome."""
        asked = (options[o.name] for o in self.options if o.type == "measure")
        axes = [axis for axis in asked if axis is not None]
        chosen = tuple(axis for axis in axes if axis not in SCORES)
        by_score = "score" in (*axes, options.get("outcome"))
        scored = len(chosen) < len(axes) if axes else self.scored
        measures = tuple(dict.fromkeys((*self.measures, *chosen)))
        return Reduction(
            measures, (*self.require, *chosen), "score" if by_score else "passed", scored
        )


class Reduction(NamedTuple):
    """What the reduce stage of an analysis is asked for; see `reduce.reduce_items`."""

    measures: tuple[str, ...]
    require: tuple[str, ...]
    outcome: Literal["passed", "score"]
    scored: bool


def analysis(
    *,
    name: str,
    title: str,
    question: str,
    source: str,
    chart: ChartSpec,
    columns: Iterable[Column],
    options: Iterable[Option] = (),
    needs: Iterable[str] = (),
    measures: Iterable[str] = (),
    require: Iterable[str] = (),
    scored: bool = True,
    rows: str = "trace_facts",
    example: Mapping[str, Any] | None = None,
    settles: Settles | None = Settles(),
) -> Callable[[Callable[..., "Answer"]], Analysis]:
    """Declare a function `(frame, *, by, rng, **options) -> Answer` as an analysis."""

    def declare(function: Callable[..., "Answer"]) -> Analysis:
        family = function.__module__.removeprefix(_PACKAGE + ".").split(".")[0]
        doc = (function.__doc__ or "").strip()
        return Analysis(
            name, family, title, question, tuple(needs), tuple(options), tuple(columns),
            tuple(measures), tuple(require), scored, chart, source,
            rows, dict(example or {}), settles, doc, function,
        )  # fmt: skip

    return declare


@functools.cache
def _homes() -> dict[str, str]:
    """Map every analysis' name to its module, by file name alone; nothing is imported."""
    root = importlib.import_module(_PACKAGE)
    homes: dict[str, str] = {}
    for family in pkgutil.iter_modules(root.__path__):
        if family.ispkg:
            paths = [f"{path}/{family.name}" for path in root.__path__]
            for module in pkgutil.iter_modules(paths):
                name = module.name.replace("_", "-")
                homes[name] = f"{_PACKAGE}.{family.name}.{module.name}"
    return dict(sorted(homes.items()))


def names() -> tuple[str, ...]:
    """List the analyses without importing any of them."""
    return tuple(_homes())


def get(name: str) -> Analysis:
    """Import one analysis; AnalysisError offers the nearest names."""
    name = name.replace("_", "-")
    homes = _homes()
    if name not in homes:
        raise AnalysisError(unknown("analysis", name, homes))
    module = importlib.import_module(homes[name])
    found = [value for value in vars(module).values() if isinstance(value, Analysis)]
    if [a.name for a in found] != [name]:
        raise AnalysisError(f"{homes[name]} must declare the analysis {name!r}, and only that one")
    return found[0]


def catalogue() -> dict[str, Analysis]:
    """Import every analysis; declarations by name."""
    return {name: get(name) for name in names()}


def by_family() -> dict[str, list[Analysis]]:
    """Import every analysis; declarations by the title of their family, in the order of `FAMILIES`."""
    found: dict[str, list[Analysis]] = {title: [] for title in FAMILIES.values()}
    for declared in catalogue().values():
        found[FAMILIES[declared.family]].append(declared)
    return found


def run(
    name: str,
    frame: Any,
    *,
    by: str | Sequence[str] = ("configuration",),
    rng: "np.random.Generator | None" = None,
    **options: Any,
) -> "Result":
    """Answer one question about traces.

    Args:
        name: an analysis of the catalogue.
        frame: the traces with the columns of `trace_facts`: a Polars frame (lazy or not), a DuckDB
            relation or a narwhals frame. An engine does the grouping; only its result is fetched.
        by: the columns that name a group. With "task" among them everything is done per task.
        rng: the source of randomness; a generator with seed 0 where None.
        options: see the declaration.

    Raises:
        AnalysisError: an unknown name, option, column or group, or a value out of bounds.
    """
    import narwhals as nw
    import numpy as np

    from workbench.analysis import outlook

    declared = get(name)
    chosen = declared.parse(options)
    lazy: nw.LazyFrame[Any] = nw.from_native(frame).lazy()
    keys = (by,) if isinstance(by, str) else tuple(by)
    _check_columns(declared, lazy, keys)
    rng = np.random.default_rng(0) if rng is None else rng
    answer = declared.function(lazy, by=keys, rng=rng, **chosen)
    result = _result(declared, answer, chosen, keys)
    told = outlook.said(declared, result, lazy)
    return dataclasses.replace(result, notes=(*result.notes, *told))


def _result(
    declared: Analysis, answer: "Answer", options: dict[str, Any], by: tuple[str, ...]
) -> "Result":
    """Say what every column of the answer means."""
    from workbench.analysis.result import Result

    schema = columns_by_name()
    meaning = {c.name: c for c in (*declared.columns, *answer.columns)}
    tables = (answer.frame, *answer.more.values())
    shown = dict.fromkeys(c for table in tables for c in table.columns)
    return Result(
        name=declared.name,
        frame=answer.frame,
        columns=tuple(meaning.get(c) or schema.get(c) or Column(c, "text") for c in shown),
        dropped={reason: n for reason, n in answer.dropped.items() if n},
        notes=answer.notes,
        options=options,
        by=by,
        more=dict(answer.more),
        source=declared.source,
    )


def _check_columns(declared: Analysis, lazy: "nw.LazyFrame[Any]", by: Sequence[str]) -> None:
    present = lazy.collect_schema().names()
    if not by:
        raise AnalysisError("by: name at least one column to group by, for example configuration")
    if len(set(by)) < len(by):
        raise AnalysisError(f"by: a column is named twice in {', '.join(by)}")
    from workbench.analysis.reduce import MEASURES

    for column in by:
        if column not in present:
            raise AnalysisError(unknown("column to group by", column, present))
        if column in {"score", *MEASURES}:
            raise AnalysisError(f"by: {column} is measured, not a name; filter by it in the slice")
    if {"metric", "value"} <= set(present):
        return  # aggregates: the analysis looks its metrics up itself
    for column in declared.needs:
        if column not in present:
            reason = f"{declared.name} needs the column {column!r}, which the frame does not have"
            raise AnalysisError(f"{reason}; give it rows of {declared.rows}")


def unknown(what: str, value: str, valid: Iterable[str]) -> str:
    """Say that a name is not known, with the nearest ones, or all where they are few."""
    valid = sorted(valid)
    near = difflib.get_close_matches(value, valid, n=3, cutoff=0.5) or valid[:8]
    return f"unknown {what}: {value!r}; " + (f"try {', '.join(near)}" if near else "there is none")

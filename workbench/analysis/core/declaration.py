"""Declaration of an analysis: its name, question, options, columns, chart and deciding figure."""

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from workbench.errors import AnalysisError
from workbench.schema import Column

if TYPE_CHECKING:
    from workbench.analysis.core.result import Answer

_FAMILIES = "workbench.analysis.families."  # where the families' folders are
METRIC = "metrics.NAME"  # among the choices of an option that takes the metric of any scorer
SCORES = ("pass_rate", "score")  # axes that are means of an outcome, not of a measure


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """One setting of an analysis, from which the CLI makes a flag and the TUI a field.

    Attributes:
        type: int, float, flag, text, choice; measure (a numeric column, or a metric of a results
            frame); group (a value of the grouping).
        default: the value if none is given; None means that the option is optional.
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
        """Convert typed or textual input to the option's value.

        Raises:
            AnalysisError: it has another type, is no choice of the option, or is out of bounds.
        """
        if value is None or value == "":
            return self.default
        try:
            parsed = _PARSERS[self.type](value)
        except (TypeError, ValueError) as error:
            reason = f"option {self.name}: {value!r} is not a {self.type}"
            raise AnalysisError(reason) from error
        is_metric = METRIC in self.choices and str(parsed).startswith("metrics.")
        if self.type == "choice" and parsed not in self.choices and not is_metric:
            raise AnalysisError(unknown_name(f"value of option {self.name}", parsed, self.choices))
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
    "int": _integer,
    "float": _finite,
    "flag": _flag,
    "text": str,
    "choice": str,
    "measure": str,
    "group": str,
}


@dataclasses.dataclass(frozen=True, slots=True)
class ChartSpec:
    """Default chart of an analysis.

    Attributes:
        kind: the module of `charts` that draws it.
        x, y: the columns on the axes.
        also: further columns that the chart uses.
    """

    kind: str
    x: str = ""
    y: str = ""
    also: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Settles:
    """The figure whose interval decides the question; see `catalogue.what_would_it_take`.

    Attributes:
        column: the figure; by default one called gain, difference or change, else the first of the
            chart's axes.
        neutral: what the figure is compared with: a number, an option, or a column of the row. If
            None, 0 for a gain, a difference or a change; for other figures groups are compared with
            each other.
        better: which group is compared with the others, that with more of the figure or with less;
            by default less of money, time, energy, tokens and arithmetic, more of anything else.
        table: the table of the result that has it; "" is the main one.
        where: (column, value) of the rows that count.
        groups: columns that name the groups a row compares, where it is not of one group.
        unit: what narrows the interval if there is more of it.
        n: the column that counts them.
        unless: an option that, if set, suppresses the note.
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
        also_rows: further views whose rows it takes as they are.
        aggregates: whether it takes published figures (rows of `result_facts`) as well.
        example: options, `by` and `where` of the worked example on its page.
        by_hand: the same for an example on the rows made by hand (`datasets.by_hand_dir`), where
            the sample traces cannot show it; `worked` explains its figures.
        own_scale: whether a metric that is the outcome is taken as it is, not as a share of its
            scale.
        within: columns, or options that name columns, by which it separates the traces of a group.
        settles: the figure that decides its question; None where no further items would decide it,
            or the analysis writes that note itself.
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
    also_rows: tuple[str, ...]
    aggregates: bool
    example: Mapping[str, Any]
    by_hand: Mapping[str, Any] | None
    settles: Settles | None
    own_scale: bool
    within: tuple[str, ...]
    doc: str
    function: Callable[..., "Answer"]

    def parse(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in defaults and check names, types and bounds."""
        known = {o.name: o for o in self.options}
        for name in options:
            if name not in known:
                raise AnalysisError(unknown_name(f"option of {self.name}", name, known))
        parsed = {name: o.parse(options.get(name)) for name, o in known.items()}
        if parsed.get("y") == SCORES[0] and parsed.get("outcome", "passed") != "passed":
            parsed |= {"y": parsed["outcome"], "outcome": "passed"}  # its mean is the axis
        return parsed

    def reduction(self, options: Mapping[str, Any]) -> "Reduction":
        """Derive from the options what the reduce stage computes."""
        option_values = (options[o.name] for o in self.options if o.type == "measure")
        axes = [axis for axis in option_values if axis is not None]
        chosen = tuple(axis for axis in axes if axis not in SCORES)
        outcome = str(options.get("outcome"))  # a metric takes the place of the score
        by_score = "score" in (*axes, outcome) or outcome.startswith("metrics.")
        scored = len(chosen) < len(axes) if axes else self.scored
        measures = tuple(dict.fromkeys((*self.measures, *chosen)))
        return Reduction(
            measures, (*self.require, *chosen), "score" if by_score else "passed", scored
        )


class Reduction(NamedTuple):
    """Arguments of the reduce stage of an analysis; see `reduce.reduce_items`."""

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
    also_rows: Iterable[str] = (),
    aggregates: bool = False,
    example: Mapping[str, Any] | None = None,
    by_hand: Mapping[str, Any] | None = None,
    settles: Settles | None = Settles(),
    own_scale: bool = False,
    within: Iterable[str] = (),
) -> Callable[[Callable[..., "Answer"]], Analysis]:
    """Declare a function `(frame, *, by, rng, **options) -> Answer` as an analysis."""

    def declare(function: Callable[..., "Answer"]) -> Analysis:
        family = function.__module__.removeprefix(_FAMILIES).split(".")[0]
        doc = (function.__doc__ or "").strip()
        return Analysis(
            name,
            family,
            title,
            question,
            tuple(needs),
            tuple(options),
            tuple(columns),
            tuple(measures),
            tuple(require),
            scored,
            chart,
            source,
            rows,
            tuple(also_rows),
            aggregates,
            dict(example or {}),
            by_hand,
            settles,
            own_scale,
            tuple(within),
            doc,
            function,
        )

    return declare


def unknown_name(kind: str, value: str, valid: Iterable[str]) -> str:
    """Write an error message for an unknown name, with the nearest valid names."""
    valid = sorted(valid)
    near = difflib.get_close_matches(value, valid, n=3, cutoff=0.5)
    if near or not valid:
        return f"unknown {kind}: {value!r}; " + (
            f"try {', '.join(near)}" if near else "there is none"
        )
    return f"unknown {kind}: {value!r}; there are {', '.join(valid)}"

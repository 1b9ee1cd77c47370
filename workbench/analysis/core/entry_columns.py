"""Entry columns in analyses: parameters, settings and metrics of one store.

`params.docs`, `settings.batch_size` and `metrics.rubric` are not columns of the views; the code
that opens the rows for an analysis adds those that its options name. As an axis such a column is
used unchanged. As an outcome a metric replaces the score: as the share of its scale from the worst
end to the best, so that everything that holds for scores holds for it; only analyses that declare
`own_scale` use it unchanged.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from workbench.analysis.core.declaration import Analysis
from workbench.errors import AnalysisError
from workbench.schema import Column, known_columns
from workbench.slice import names
from workbench.slice.names import METRICS, written

if TYPE_CHECKING:
    import narwhals as nw

    from workbench.analysis.core.result import Result

_PLAIN = "__own_"
# numbers of a configuration that are columns of the views
SETTINGS = ("temperature", "top_p", "max_tokens", "thinking_budget_tokens")
# axis → the flag that reverses it, and the metric's direction that needs it reversed
_AXIS_FLAGS = {
    "x": ("maximise_x", "higher"),
    "y": ("minimise_y", "lower"),
    "z": ("maximise_z", "higher"),
}


def is_entry_column(column: str) -> bool:
    """Whether a column is an entry column, by its name or by its alias in an analysis."""
    return names.is_entry(column) or column.startswith(_PLAIN)


def orient_axes(
    declared: Analysis, given: Mapping[str, Any], chosen: dict[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Set the axis flags from the directions that scorers declare, unless a flag was given.

    Returns:
        The options, and a note for each axis that is a metric.
    """
    notes = []
    flags = {option.name for option in declared.options}
    for axis, (flag, reversed_direction) in _AXIS_FLAGS.items():
        name = chosen.get(axis)
        if flag not in flags or flag in given or not _is_metric(name):
            continue
        assert isinstance(name, str)
        direction = _column_of(name).direction
        chosen = chosen | {flag: direction == reversed_direction}
        if not direction:
            way = "higher" if axis == "y" else "lower"
            notes.append(
                f"it is not known which values of {name} are better; {way} ones are assumed to "
                f"be better ({flag})"
            )
        else:
            notes.append(f"{direction} values of {name} are better")
    return chosen, tuple(notes)


def flags_set_by_metrics(options: Mapping[str, Any]) -> frozenset[str]:
    """Name the flags that a metric's direction sets when they are left out."""
    return frozenset(
        flag for axis, (flag, _) in _AXIS_FLAGS.items() if _is_metric(options.get(axis))
    )


def _is_metric(name: Any) -> bool:
    return isinstance(name, str) and name.startswith(f"{METRICS}.")


def _column_of(name: str) -> Column:
    return known_columns().get(name) or Column(name, "float")


def metric_as_score(
    declared: Analysis, lazy: "nw.LazyFrame[Any]", chosen: dict[str, Any]
) -> tuple["nw.LazyFrame[Any]", dict[str, Any], tuple[str, ...]]:
    """Replace the score by the metric that is the outcome.

    Returns:
        The rows; the options for the function, whose outcome is then the score; notes.

    Raises:
        AnalysisError: the scale has no two ends, or is not known for this frame.
    """
    import narwhals as nw

    name = chosen.get("outcome")
    if not _is_metric(name):
        return lazy, chosen, ()
    assert isinstance(name, str)
    if name not in lazy.collect_schema().names():
        raise AnalysisError(missing_column(name))
    value = nw.col(name).cast(nw.Float64)
    chosen = chosen | {"outcome": "score"}
    column = _column_of(name)
    if declared.own_scale:
        if chosen.get("errors_as_wrong"):
            raise AnalysisError(f"errors_as_wrong: a failed trace has no {name}; leave it out")
        return lazy.with_columns(score=value), chosen | {"interval": "t"}, ()
    low, high, less = scale_of(name, column)
    share = (high - value) / (high - low) if less else (value - low) / (high - low)
    worst, best = (high, low) if less else (low, high)
    note = f"the outcome is {name} as a share of its scale: {worst:g} is 0, {best:g} is 1"
    direction_unknown = "; that higher is better is not said by its scorer" * (not column.direction)
    return lazy.with_columns(score=share), chosen, (note + direction_unknown,)


def scale_of(name: str, column: Column | None) -> tuple[float, float, bool]:
    """Return the ends of a metric's scale, and whether its lower end is the better.

    Raises:
        AnalysisError: it has no two ends, or they are not known here.
    """
    low, high = (None, None) if column is None else column.scale
    if column is None or low is None or high is None or high <= low:
        raise AnalysisError(
            f"outcome {name}: its scale has no two known ends, so that it is no share of "
            "it; summary takes it "
            f"as it is, and so do frontier and tradeoff as an axis (y={written(name)})"
        )
    return low, high, column.direction == "lower"


@dataclasses.dataclass(frozen=True)
class Aliases:
    """Aliases of entry columns while an analysis runs.

    Engines would parse a dot or a quote in a name as their own syntax.

    Attributes:
        names: column → its alias.
        axes: column that is both a group and an axis → the alias of its copy for the axis.
    """

    names: Mapping[str, str]
    axes: Mapping[str, str]
    _measures: tuple[str, ...] = ()

    @classmethod
    def of(cls, declared: Analysis, by: Sequence[str], options: Mapping[str, Any]) -> "Aliases":
        """Choose aliases for the entry columns among groups and options."""
        entries = names.own_fields(by, options)
        measures = tuple(o.name for o in declared.options if o.type == "measure")
        axes = {options.get(name) for name in measures}
        grouped_axes = [c for c in by if c in axes and (c in entries or c in SETTINGS)]
        return cls(
            {column: f"{_PLAIN}{n:03d}__" for n, column in enumerate(entries)},
            {column: f"{_PLAIN}axis_{n:03d}__" for n, column in enumerate(grouped_axes)},
            measures,
        )

    @property
    def _all(self) -> list[tuple[str, str]]:
        return [*self.names.items(), *self.axes.items()]

    def rows(self, lazy: "nw.LazyFrame[Any]") -> "nw.LazyFrame[Any]":
        """Rename the columns of rows, and copy those that are a group and an axis."""
        import narwhals as nw

        if self.axes:
            lazy = lazy.with_columns(**{copy: nw.col(c) for c, copy in self.axes.items()})
        return lazy.rename(dict(self.names)) if self.names else lazy

    def keys(self, by: Sequence[str]) -> tuple[str, ...]:
        """Rename groups."""
        return tuple(self.names.get(column, column) for column in by)

    def options(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Rename the columns that options name, one by one or in a list."""

        def renamed(value: Any) -> Any:
            if not isinstance(value, str) or value in self.names:
                return self.names.get(value, value)
            listed = names.columns(value)
            return ",".join(self.keys(listed)) if set(listed) & self.names.keys() else value

        axes = {name for name in self._measures if chosen.get(name) in self.axes}
        return {n: self.axes[v] if n in axes else renamed(v) for n, v in chosen.items()}

    def declarations(self) -> dict[str, Column]:
        """Return the declarations of the aliased columns."""
        known = known_columns()
        return {
            alias: dataclasses.replace(
                known.get(column, Column(column, "float")), name=alias, title=column
            )
            for column, alias in self._all
        }

    @contextlib.contextmanager
    def original_names_in_errors(self) -> Iterator[None]:
        """Replace aliases by the columns' names in the errors of the block."""
        try:
            yield
        except AnalysisError as error:
            raise AnalysisError(self.text(str(error))) from error

    def text(self, text: str) -> str:
        """Replace aliases by the columns' names in a text."""
        for column, alias in self._all:
            text = text.replace(alias, column)
        return text

    def result(self, result: "Result") -> "Result":
        """Replace aliases by the columns' names throughout a result."""
        if not self._all:
            return result
        columns = [
            dataclasses.replace(
                c, name=self.text(c.name), title=self.text(c.title), doc=self.text(c.doc)
            )
            for c in result.columns
        ]
        return dataclasses.replace(
            result,
            frame=self._table(result.frame),
            columns=tuple(columns),
            dropped={self.text(reason): n for reason, n in result.dropped.items()},
            notes=tuple(map(self.text, result.notes)),
            more={name: self._table(table) for name, table in result.more.items()},
            outlook=tuple(map(self.text, result.outlook)),
        )

    def _table(self, table: pl.DataFrame) -> pl.DataFrame:
        duplicates = [
            copy
            for c, copy in self.axes.items()
            if self.names.get(c, c) in table.columns and copy in table.columns
        ]
        table = table.drop(duplicates).rename(self.text)
        if any(alias in value for _, alias in self._all for value in _texts(table)):
            texts = pl.col(pl.String)
            for column, alias in self._all:
                texts = texts.str.replace_all(alias, column, literal=True)
            table = table.with_columns(texts)
        return table


def _texts(table: pl.DataFrame) -> Iterator[str]:
    for column in table.select(pl.col(pl.String)).iter_columns():
        yield from column.unique().drop_nulls()


def on_own_scale(declared: Analysis, result: "Result", outcome: Any) -> "Result":
    """Rename the score to a metric that was used unchanged, and sort the better groups first."""
    if not declared.own_scale or not _is_metric(outcome):
        return result
    column = _column_of(outcome)
    ends = {f"score{end}": f"{outcome}{end}" for end in ("", "_low", "_high")}
    frame = result.frame.rename({k: v for k, v in ends.items() if k in result.frame.columns})
    low, high = column.scale  # a mean is nowhere else, nor is an end of its interval
    frame = frame.with_columns(pl.col(f"{outcome}_low", f"{outcome}_high").clip(low, high))
    if column.direction == "lower":
        sort_keys = ["task"] if "task" in result.by else []
        frame = frame.sort(*sort_keys, pl.col(outcome), *result.by, nulls_last=True)
    renamed = {
        "score": dataclasses.replace(
            column, null="no trace has it", doc=f"Mean over items of {outcome}."
        )
    }
    for end, word in (("low", "Lower"), ("high", "Upper")):
        renamed[f"score_{end}"] = Column(
            f"{outcome}_{end}",
            "float",
            column.unit,
            f"{word} end of its interval.",
            "a single item",
            f"{outcome}, {end}",
        )
    columns = tuple(renamed.get(c.name, c) for c in result.columns)
    return dataclasses.replace(result, frame=frame, columns=columns)


def missing_column(name: str) -> str:
    """Write an error message for a missing entry column, with how to open rows that have it."""
    return (
        f"the rows have no column {name}: it is of the store's own; open them with "
        f"store.facts(where, fields=[{name!r}]), or take them from store.traces()"
    )

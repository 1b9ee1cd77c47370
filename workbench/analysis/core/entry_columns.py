"""Columns of a store's own in analyses: which are asked for, on which scale, and which way is better.

`params.docs`, `settings.batch_size` and `metrics.rubric` are no columns of the views; whoever opens
the rows for an analysis adds those that it names. As an axis such a column is taken as it is. As an
outcome a metric takes the place of the score: as the share of its scale from the worst end to the
best, so that everything that holds for scores holds for it; only analyses that say so (`own_scale`)
take it as it is.
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
# axis → the flag that turns it, and the direction that needs it turned
_TURNED = {
    "x": ("maximise_x", "higher"),
    "y": ("minimise_y", "lower"),
    "z": ("maximise_z", "higher"),
}


def is_own(column: str) -> bool:
    """Whether a column is of the store's own, by its name or by the plain one that stands for it here."""
    return names.is_entry(column) or column.startswith(_PLAIN)


def directed(
    declared: Analysis, given: Mapping[str, Any], chosen: dict[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Turn the axes on which a scorer says that the other way is better, unless the flag was given."""
    notes = []
    flags = {option.name for option in declared.options}
    for axis, (flag, turned) in _TURNED.items():
        name = chosen.get(axis)
        if flag not in flags or flag in given or not _is_metric(name):
            continue
        assert isinstance(name, str)
        direction = _described(name).direction
        chosen = chosen | {flag: direction == turned}
        if not direction:
            way = "higher" if axis == "y" else "lower"
            notes.append(
                f"which values of {name} are better is not known; {way} ones are taken for "
                f"it ({flag})"
            )
        else:
            notes.append(f"{direction} values of {name} are better")
    return chosen, tuple(notes)


def turned_by_metric(options: Mapping[str, Any]) -> frozenset[str]:
    """Name the flags that are no default where they are off: left out, a metric's direction sets them."""
    return frozenset(flag for axis, (flag, _) in _TURNED.items() if _is_metric(options.get(axis)))


def _is_metric(name: Any) -> bool:
    return isinstance(name, str) and name.startswith(f"{METRICS}.")


def _described(name: str) -> Column:
    return known_columns().get(name) or Column(name, "float")


def scored(
    declared: Analysis, lazy: "nw.LazyFrame[Any]", chosen: dict[str, Any]
) -> tuple["nw.LazyFrame[Any]", dict[str, Any], tuple[str, ...]]:
    """Put the metric that is the outcome in the place of the score.

    Returns:
        The rows; the options for the function, whose outcome is the score then; notes.

    Raises:
        AnalysisError: the scale has no two ends, or is not known for this frame.
    """
    import narwhals as nw

    name = chosen.get("outcome")
    if not _is_metric(name):
        return lazy, chosen, ()
    assert isinstance(name, str)
    if name not in lazy.collect_schema().names():
        raise AnalysisError(absent(name))
    value = nw.col(name).cast(nw.Float64)
    chosen = chosen | {"outcome": "score"}
    column = _described(name)
    if declared.own_scale:
        if chosen.get("errors_as_wrong"):
            raise AnalysisError(f"errors_as_wrong: a failed trace has no {name}; leave it out")
        return lazy.with_columns(score=value), chosen | {"interval": "t"}, ()
    low, high, less = share_of(name, column)
    share = (high - value) / (high - low) if less else (value - low) / (high - low)
    worst, best = (high, low) if less else (low, high)
    note = f"the outcome is {name} as a share of its scale: {worst:g} is 0, {best:g} is 1"
    unsaid = "; that higher is better is not said by its scorer" * (not column.direction)
    return lazy.with_columns(score=share), chosen, (note + unsaid,)


def share_of(name: str, column: Column | None) -> tuple[float, float, bool]:
    """Give the ends of a metric's scale, and whether its lower end is the better.

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
    """Plain names for the time of an analysis: engines read a dot, or a quote, in a name as their own syntax.

    Attributes:
        names: column → its plain name.
        axes: column that is a group and an axis at once → the name of its copy for the axis.
    """

    names: Mapping[str, str]
    axes: Mapping[str, str]
    _measures: tuple[str, ...] = ()

    @classmethod
    def of(cls, declared: Analysis, by: Sequence[str], options: Mapping[str, Any]) -> "Aliases":
        """Name the columns that groups and options name; a name is no part of any other text."""
        own = names.own_fields(by, options)
        measures = tuple(o.name for o in declared.options if o.type == "measure")
        axes = {options.get(name) for name in measures}
        both = [c for c in by if c in axes and (c in own or c in SETTINGS)]
        return cls(
            {column: f"{_PLAIN}{n:03d}__" for n, column in enumerate(own)},
            {column: f"{_PLAIN}axis_{n:03d}__" for n, column in enumerate(both)},
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

    def described(self) -> dict[str, Column]:
        """Say what the plain names mean."""
        known = known_columns()
        return {
            alias: dataclasses.replace(
                known.get(column, Column(column, "float")), name=alias, title=column
            )
            for column, alias in self._all
        }

    @contextlib.contextmanager
    def spelled(self) -> Iterator[None]:
        """Write the columns' own names into the errors of the block."""
        try:
            yield
        except AnalysisError as error:
            raise AnalysisError(self.text(str(error))) from error

    def text(self, text: str) -> str:
        """Write the columns' own names into a text."""
        for column, alias in self._all:
            text = text.replace(alias, column)
        return text

    def result(self, result: "Result") -> "Result":
        """Write the columns' own names into everything that a result says."""
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
        twice = [
            copy
            for c, copy in self.axes.items()
            if self.names.get(c, c) in table.columns and copy in table.columns
        ]
        table = table.drop(twice).rename(self.text)
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
    """Call the score by the metric's name where it was taken as it is, the better groups first."""
    if not declared.own_scale or not _is_metric(outcome):
        return result
    column = _described(outcome)
    ends = {f"score{end}": f"{outcome}{end}" for end in ("", "_low", "_high")}
    frame = result.frame.rename({k: v for k, v in ends.items() if k in result.frame.columns})
    low, high = column.scale  # a mean is nowhere else, nor is an end of its interval
    frame = frame.with_columns(pl.col(f"{outcome}_low", f"{outcome}_high").clip(low, high))
    if column.direction == "lower":
        first = ["task"] if "task" in result.by else []
        frame = frame.sort(*first, pl.col(outcome), *result.by, nulls_last=True)
    meant = {
        "score": dataclasses.replace(
            column, null="no trace has it", doc=f"Mean over items of {outcome}."
        )
    }
    for end, word in (("low", "Lower"), ("high", "Upper")):
        meant[f"score_{end}"] = Column(
            f"{outcome}_{end}",
            "float",
            column.unit,
            f"{word} end of its interval.",
            "a single item",
            f"{outcome}, {end}",
        )
    columns = tuple(meant.get(c.name, c) for c in result.columns)
    return dataclasses.replace(result, frame=frame, columns=columns)


def absent(name: str) -> str:
    """Say how to get rows with a column of the store's own."""
    return (
        f"the rows have no column {name}: it is of the store's own; open them with "
        f"store.facts(where, fields=[{name!r}]), or take them from store.traces()"
    )

"""Facets: lists of a field's values with their counts, to select from."""

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import narwhals as nw
import polars as pl
import traitlets

from workbench.schema import columns_by_name
from workbench.slice import Slice
from workbench.store import Store

MAX_VALUES = 200  # values listed, at most; rarer ones need a filter in the slice
UNKNOWN = "—"
_LABEL = 60  # characters of a label

Value = str | None


def counts(store: Store, where: Slice, fields: Sequence[str]) -> pl.DataFrame:
    """Count the traces of a slice by every combination of the fields' values that occurs.

    Returns:
        One row per combination: the fields (text, null is unknown) and n (traces).
    """
    # names without dots, which the engine reads as struct access
    plain = {field: f"field_{n}" for n, field in enumerate(fields)}
    with store.facts(where, fields=fields) as traces:
        counted: pl.DataFrame = (
            traces.select(**{name: nw.col(f).cast(nw.String) for f, name in plain.items()})
            .group_by(*plain.values())
            .agg(nw.len().cast(nw.Int64).alias("n"))
            .collect("polars")
            .to_native()
        )
    return counted.rename({name: field for field, name in plain.items()})


def under(cube: pl.DataFrame, field: str, chosen: Mapping[str, Sequence[Value]]) -> pl.DataFrame:
    """Count a field's values among traces that match the other facets, the most frequent first."""
    others = [
        pl.col(name).is_in(list(values), nulls_equal=True)
        for name, values in chosen.items()
        if values and name != field
    ]
    return (
        cube.filter(*others)
        .group_by(field)
        .agg(pl.col("n").sum())
        .sort("n", field, descending=[True, False], nulls_last=True)
    )


class Facet(traitlets.HasTraits):
    """One field as a list of its values.

    Attributes:
        chosen: the values selected; () selects all.
        panel: the widget to display.
    """

    chosen = traitlets.Tuple()

    def __init__(self, field: str) -> None:
        """Make the facet of a text column of `trace_facts`."""
        super().__init__()
        self.field = field
        self._is_updating = False
        self._note = ipywidgets.HTML()
        self._list = ipywidgets.SelectMultiple(
            rows=5,
            layout={"width": "auto"},
            tooltip="Ctrl or Shift adds to the selection; no selection is all",
        )
        self.panel = ipywidgets.VBox([self._note, self._list], layout={"flex": "1 1 180px"})
        self._list.observe(self._on_list, "value")

    def show(self, values: pl.DataFrame) -> None:
        """List values with their counts; a selected value stays, with 0 if it has no traces."""
        listed: dict[Value, int] = dict(values.head(MAX_VALUES).iter_rows())
        for value in self.chosen:
            listed.setdefault(value, 0)
        more = values.height - MAX_VALUES
        column = columns_by_name().get(self.field)
        title = (column.title if column else "") or self.field
        rest = f" · {more:,} rarer ones: use the slice" if more > 0 else ""
        self._is_updating = True
        try:
            self._note.value = f"<b>{title}</b>{rest}"
            self._list.options = [(_label(v, n), v) for v, n in listed.items()]
            self._list.value = self.chosen
        finally:
            self._is_updating = False

    def _on_list(self, change: Mapping[str, Any]) -> None:
        if not self._is_updating:
            self.chosen = tuple(change["new"])

    @traitlets.observe("chosen")
    def _on_chosen(self, _: object) -> None:
        listed = {value for _, value in self._list.options}
        if set(self.chosen) <= listed:
            self._list.value = self.chosen


def _label(value: Value, n: int) -> str:
    text = UNKNOWN if value is None else " ".join(value.split())
    return f"{text if len(text) <= _LABEL else text[: _LABEL - 1] + '…'}  ({n:,})"

"""Facets: the values of a field with their counts, some of them chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import narwhals as nw
import polars as pl
import traitlets

from workbench.schema import columns_by_name
from workbench.slice import Slice
from workbench.store import Store

SHOWN = 200  # values listed; rarer ones are reached through the slice
UNKNOWN = "—"
_LABEL = 60  # characters of a label

Value = str | None


def counts(store: Store, where: Slice, fields: Sequence[str]) -> pl.DataFrame:
    """Count the traces of a slice by every combination of the fields' values that occurs.

    Returns:
        One row per combination: the fields (text, null is unknown) and n (traces).
    """
    plain = {field: f"field_{place}" for place, field in enumerate(fields)}  # dots are syntax there
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
    """Count a field's values under what is chosen in the other fields, the commonest first."""
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
        chosen: the values chosen; none of them chosen asks for all.
        panel: what is shown.
    """

    chosen = traitlets.Tuple()

    def __init__(self, field: str) -> None:
        """Make the facet of a text column of `trace_facts`."""
        super().__init__()
        self.field = field
        self._showing = False
        self._note = ipywidgets.HTML()
        self._list = ipywidgets.SelectMultiple(
            rows=5, layout={"width": "auto"}, tooltip="Ctrl or Shift adds; none chosen is all"
        )
        self.panel = ipywidgets.VBox([self._note, self._list], layout={"flex": "1 1 180px"})
        self._list.observe(self._on_list, "value")

    def show(self, values: pl.DataFrame) -> None:
        """List values with their counts; what is chosen stays listed, with 0 where it is gone."""
        listed: dict[Value, int] = dict(values.head(SHOWN).iter_rows())
        for value in self.chosen:
            listed.setdefault(value, 0)
        more = values.height - SHOWN
        column = columns_by_name().get(self.field)
        title = (column.title if column else "") or self.field
        rest = f" · {more:,} rarer ones: use the slice" if more > 0 else ""
        self._showing = True
        try:
            self._note.value = f"<b>{title}</b>{rest}"
            self._list.options = [(_label(v, n), v) for v, n in listed.items()]
            self._list.value = self.chosen
        finally:
            self._showing = False

    def _on_list(self, change: Mapping[str, Any]) -> None:
        if not self._showing:
            self.chosen = tuple(change["new"])

    @traitlets.observe("chosen")
    def _on_chosen(self, _: object) -> None:
        listed = {value for _, value in self._list.options}
        if set(self.chosen) <= listed:
            self._list.value = self.chosen


def _label(value: Value, n: int) -> str:
    text = UNKNOWN if value is None else " ".join(value.split())
    return f"{text if len(text) <= _LABEL else text[: _LABEL - 1] + '…'}  ({n:,})"

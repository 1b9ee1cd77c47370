"""Overview of the first screen: its queries for configurations, frontier and facets.

The functions run in threads: they touch no widget, and every figure is computed by an analysis. All
parts of a view are read from one snapshot of the store, so that they describe the same traces.
"""

import dataclasses
from collections.abc import Generator
from typing import Any

from workbench import analysis
from workbench.slice import Slice
from workbench.store import Cancel, Overview, Store
from workbench.tui import slice_edits
from workbench.tui.configurations import Row
from workbench.tui.widgets.facets import Facet

FIELDS = ("task", "model", "strategy")
MOST_FACETS = 40


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """Question of the first screen: a slice, and the axes of the frontier."""

    text: str
    x: str
    y: str


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A part of the view, with the snapshot that it was read from; None is not in this part.

    Attributes:
        whole: overview of the store.
        n: number of traces in the slice.
        unmatched: sentences on names in the slice that match nothing, if it selects no trace.
        total: number of traces in the store.
        rows: one row per configuration.
        frontier: figures of the frontier by configuration, its axes under the names x and y.
        costs: cost per correct answer by configuration.
        facets: values of each field with their counts under the rest of the slice, and the selected
            values.
    """

    question: Question
    moment: str
    whole: Overview | None = None
    n: int | None = None
    unmatched: tuple[str, ...] = ()
    total: int | None = None
    rows: list[Row] | None = None
    frontier: dict[str, Row] | None = None
    costs: dict[str, Row] | None = None
    facets: tuple[list[Facet], dict[str, set[str | None]]] | None = None


def at_a_glance(store: Store) -> tuple[str, Overview]:
    """Return the moment of a snapshot, and the overview of the store in it."""
    with store.snapshot() as snapshot:
        return snapshot.moment, snapshot.overview()


def view(
    store: Store, question: Question, cancel: Cancel, *, known: str, with_facets: bool
) -> Generator[Part, None, None]:
    """Read all parts of the view, the fastest first.

    Args:
        store: the store.
        question: slice and axes.
        cancel: handle that cancels the queries.
        known: moment of the overview that is shown; it is read again at another moment.
        with_facets: whether the facets are in view.
    """
    with store.snapshot(cancel=cancel) as snapshot:
        where = slice_edits.read(question.text)
        rows = analysis_rows(snapshot, where, "summary", cancel)
        n = snapshot.count(where, cancel=cancel)
        yield Part(
            question,
            snapshot.moment,
            whole=None if snapshot.moment == known else snapshot.overview(),
            n=n,
            unmatched=() if n else tuple(snapshot.unmatched(where)),
            total=snapshot.count(cancel=cancel),
            rows=rows,
        )
        yield Part(question, snapshot.moment, frontier=_frontier(snapshot, where, question, cancel))
        costs = _by_name(analysis_rows(snapshot, where, "cost-of-pass", cancel))
        yield Part(question, snapshot.moment, costs=costs)
        if with_facets:
            yield Part(question, snapshot.moment, facets=_facets(snapshot, question.text, cancel))


def frontier(store: Store, question: Question, cancel: Cancel) -> Part:
    """Read the frontier only, for other axes."""
    with store.snapshot(cancel=cancel) as snapshot:
        figures = _frontier(snapshot, slice_edits.read(question.text), question, cancel)
        return Part(question, snapshot.moment, frontier=figures)


def facets(store: Store, question: Question, cancel: Cancel) -> Part:
    """Read the facets only, when they are in view again."""
    with store.snapshot(cancel=cancel) as snapshot:
        return Part(question, snapshot.moment, facets=_facets(snapshot, question.text, cancel))


def analysis_rows(
    store: Store, where: Slice, name: str, cancel: Cancel, **options: Any
) -> list[dict[str, Any]]:
    """Run an analysis by configuration and return its rows."""
    with store.facts(where, cancel=cancel) as facts:
        return analysis.run(name, facts, **options).frame.rows(named=True)


def _frontier(store: Store, where: Slice, question: Question, cancel: Cancel) -> dict[str, Row]:
    x, y = question.x, question.y
    rows = analysis_rows(store, where, "frontier", cancel, x=x, y=y)
    for row in rows:
        row |= {"x": row[x], "y": row[y]}
        row |= {"y_low": row[f"{y}_low"], "y_high": row[f"{y}_high"]}
    keep = ("x", "y", "y_low", "y_high", "on_frontier", "p_on_frontier", "dominated_by")
    return {name: {k: row[k] for k in keep} for name, row in _by_name(rows).items()}


def _by_name(rows: list[dict[str, Any]]) -> dict[str, Row]:
    return {str(row["configuration"]): row for row in rows}


def _facets(
    store: Store, text: str, cancel: Cancel
) -> tuple[list[Facet], dict[str, set[str | None]]]:
    values: list[Facet] = []
    chosen: dict[str, set[str | None]] = {}
    for field in FIELDS:
        chosen[field] = slice_edits.chosen(text, field)
        rows = store.facet(field, slice_edits.without(text, field), cancel=cancel).rows()
        rows.sort(key=lambda row: row[0] not in chosen[field])
        values += [Facet(field, *row) for row in rows[:MOST_FACETS]]
    return values, chosen

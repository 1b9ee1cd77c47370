"""What the first screen asks the core, in one place: rows by configuration, frontier, facets.

Runs in threads; nothing here touches a widget, and nothing here computes what an analysis can say.
All parts of a view are read from one snapshot of the store, so that they speak of the same traces.
"""

import dataclasses
from collections.abc import Generator
from typing import Any

from workbench import analysis
from workbench.slice import Slice
from workbench.store import Cancel, Overview, Store
from workbench.tui import slices
from workbench.tui.configurations import Row
from workbench.tui.widgets.facets import Facet

FIELDS = ("task", "model", "strategy")
MOST_FACETS = 40


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """What the first screen asks: a slice, and the axes of the frontier."""

    text: str
    x: str
    y: str


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A part of the view, with the moment of the store that it was read at; None is no part of it.

    Attributes:
        whole: the store at a glance.
        n: traces that the slice selects.
        unmatched: what the slice asks for by name that nothing has, in sentences, where it selects
            none.
        total: traces of the store.
        rows: one per configuration.
        frontier: figures of the frontier by configuration, its axes under the names x and y.
        costs: cost of a right answer by configuration.
        facets: values of each field with what the rest of the slice leaves of them, and those
            chosen.
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
    """Return the whole store in figures, and the moment that they are of."""
    with store.snapshot() as held:
        return held.moment, held.overview()


def view(
    store: Store, question: Question, cancel: Cancel, *, known: str, with_facets: bool
) -> Generator[Part, None, None]:
    """Read everything, the quickest first.

    Args:
        store: where.
        question: what.
        cancel: stops it.
        known: the moment at which the whole store was looked at last; at another one it is looked
            at anew.
        with_facets: whether there is room for them.
    """
    with store.snapshot(cancel=cancel) as held:
        where = slices.read(question.text)
        rows = analysis_rows(held, where, "summary", cancel)
        n = held.count(where, cancel=cancel)
        yield Part(
            question,
            held.moment,
            whole=None if held.moment == known else held.overview(),
            n=n,
            unmatched=() if n else tuple(held.unmatched(where)),
            total=held.count(cancel=cancel),
            rows=rows,
        )
        yield Part(question, held.moment, frontier=_frontier(held, where, question, cancel))
        costs = _by_name(analysis_rows(held, where, "cost-of-pass", cancel))
        yield Part(question, held.moment, costs=costs)
        if with_facets:
            yield Part(question, held.moment, facets=_facets(held, question.text, cancel))


def frontier(store: Store, question: Question, cancel: Cancel) -> Part:
    """Read the frontier alone, for other axes."""
    with store.snapshot(cancel=cancel) as held:
        found = _frontier(held, slices.read(question.text), question, cancel)
        return Part(question, held.moment, frontier=found)


def facets(store: Store, question: Question, cancel: Cancel) -> Part:
    """Read the facets alone, when there is room for them again."""
    with store.snapshot(cancel=cancel) as held:
        return Part(question, held.moment, facets=_facets(held, question.text, cancel))


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
    found: list[Facet] = []
    chosen: dict[str, set[str | None]] = {}
    for field in FIELDS:
        chosen[field] = slices.chosen(text, field)
        rows = store.facet(field, slices.without(text, field), cancel=cancel).rows()
        rows.sort(key=lambda row: row[0] not in chosen[field])
        found += [Facet(field, *row) for row in rows[:MOST_FACETS]]
    return found, chosen

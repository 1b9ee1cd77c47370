"""What the first screen asks the core, in one place: rows by configuration, frontier, facets.

Runs in threads; nothing here touches a widget, and nothing here computes what an analysis can say.
"""

from typing import Any

from workbench import analysis
from workbench.store import Cancel, Store
from workbench.tui import slices
from workbench.tui.configurations import Measure, Row
from workbench.tui.widgets.facets import Facet

FIELDS = ("task", "model", "strategy")
MOST_FACETS = 40


def configurations(store: Store, text: str, cancel: Cancel) -> tuple[int, list[Row]]:
    """Return how many traces a slice selects, and a row per configuration."""
    n = store.count(text, cancel=cancel)
    with store.facts(text, cancel=cancel) as facts:
        result = analysis.run("summary", facts)
    return n, result.frame.rows(named=True)


def costs_of_pass(store: Store, text: str, cancel: Cancel) -> dict[str, Row]:
    """Return the cost of a right answer by configuration."""
    with store.facts(text, cancel=cancel) as facts:
        result = analysis.run("cost-of-pass", facts)
    return _by_name(result.frame.rows(named=True))


def frontier(store: Store, text: str, x: Measure, y: Measure, cancel: Cancel) -> dict[str, Row]:
    """Return the frontier analysis by configuration, its axes under the names x and y."""
    with store.facts(text, cancel=cancel) as facts:
        result = analysis.run("frontier", facts, x=x.name, y=y.name)
    rows = result.frame.rows(named=True)
    for row in rows:
        row |= {"x": row[x.name], "y": row[y.name]}
        row |= {"y_low": row[f"{y.name}_low"], "y_high": row[f"{y.name}_high"]}
    keep = ("x", "y", "y_low", "y_high", "on_frontier", "p_on_frontier", "dominated_by")
    return {name: {k: row[k] for k in keep} for name, row in _by_name(rows).items()}


def _by_name(rows: list[dict[str, Any]]) -> dict[str, Row]:
    return {str(row["configuration"]): row for row in rows}


def facets(
    store: Store, text: str, cancel: Cancel
) -> tuple[list[Facet], dict[str, set[str | None]]]:
    """Return the values of each field with what the rest of the slice leaves of them."""
    found: list[Facet] = []
    chosen: dict[str, set[str | None]] = {}
    for field in FIELDS:
        chosen[field] = slices.chosen(text, field)
        rows = store.facet(field, slices.without(text, field), cancel=cancel).rows()
        rows.sort(key=lambda row: row[0] not in chosen[field])
        found += [Facet(field, *row) for row in rows[:MOST_FACETS]]
    return found, chosen

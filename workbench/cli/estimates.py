"""Preflight estimates of a plan: made from the store's history, printed as a table or as rows."""

import datetime as dt
import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click
import polars as pl

from workbench.cli.options import is_terminal, print_message
from workbench.cli.output import Document
from workbench.cli.tables import frame_of, lines
from workbench.formats import UNKNOWN, clock, counted, decimal, si, usd
from workbench.schema import Column

if TYPE_CHECKING:
    from workbench.records import Call, Configuration, Price
    from workbench.runner import Work
    from workbench.runner.planning.plan_budget import Spent
    from workbench.runner.planning.preflight import Cell, Estimate, Preflight
    from workbench.store import Store

SEED = 0  # of the bootstrap: the same store and plan give the same interval

_UNITS = {
    "cost_usd": "USD",
    "input_tokens": "tokens",
    "output_tokens": "tokens",
    "time_s": "s",
    "energy_j": "J",
}
_HEADS = {
    "cost_usd": "cost",
    "input_tokens": "tokens in",
    "output_tokens": "tokens out",
    "time_s": "latencies",
    "energy_j": "energy",
}
_ENDS = ("low", "high", "unknown_because")


def spent_of(store: "Store", work: "Work") -> "Spent":
    """Add up what the plan's attempts used so far, in the spool and in the store."""
    from workbench.runner.planning.plan_budget import Spending, has_code

    recorded = _configurations(store) if has_code(work) else ()
    price = pricer(store, dt.datetime.now(dt.UTC))
    # the spool is read first: rows ingested meanwhile are then counted in the store
    spending = Spending(work, store.spool_dir, price, recorded)
    with (
        store.facts("", "call_facts") as calls,
        store.facts("", "runs") as runs,
        store.facts("", "energy_balances") as balances,
    ):
        return spending.with_store(calls, runs, balances)


def estimate_of(
    store: "Store", work: "Work", limits: "Mapping[str, float] | None" = None
) -> "Preflight":
    """Estimate the cost, tokens, time and energy of a plan's missing attempts.

    Args:
        store: the store; its history and spool are read.
        work: the attempts of the plan.
        limits: budgets of this launch alone, by name.
    """
    import numpy as np

    from workbench.runner.planning import history, preflight
    from workbench.runner.planning.plan_budget import budgets_of
    from workbench.runner.planning.resume import read_leftovers

    with store.facts() as facts:
        past, settled = history.history_of(facts, work), history.settled_of(facts, work)
    return preflight.estimate(
        work,
        history=past,
        settled=settled,
        waiting=read_leftovers(store.spool_dir).settled,
        price=pricer(store, dt.datetime.now(dt.UTC)),
        rng=np.random.default_rng(SEED),
        spent=spent_of(store, work) if budgets_of(work.plan) else None,
        limits=limits,
    )


def pricer(store: "Store", at: dt.datetime) -> "Callable[[Call], float | None]":
    """Return a function from a call to its cost in USD at the prices in force at `at`."""
    from workbench import prices

    book = prices.PriceBook(_price_rows(store))
    return lambda call: book.cost(call, at)


def _configurations(store: "Store") -> "list[Configuration]":
    """Read the store's configurations as records."""
    import msgspec

    from workbench.records import Configuration

    with store.facts("", "configurations") as frame:
        rows = frame.collect("polars").to_native()
    return [msgspec.convert(row, Configuration) for row in rows.iter_rows(named=True)]


def _price_rows(store: "Store") -> "list[Price]":
    """Read the store's price rows as records; times in the store are UTC."""
    import msgspec

    from workbench.records import Price

    with store.facts("", "prices") as frame:
        rows = frame.collect("polars").to_native()
    for column in ("starts_at", "ends_at"):
        rows = rows.with_columns(rows[column].dt.replace_time_zone("UTC"))
    return [msgspec.convert(row, Price) for row in rows.iter_rows(named=True)]


def count_text(n: int | None) -> str:
    """Write a count of attempts; a dash if it is unknown."""
    return UNKNOWN if n is None else f"{n:,}"


def show(preflight: "Preflight", *, on_stderr: bool = False) -> None:
    """Print the table on stdout or, with `on_stderr`, on stderr; the notes go to stderr."""
    width = shutil.get_terminal_size().columns if is_terminal() else None
    for line in table(preflight, width):
        click.echo(line, err=on_stderr)
    for sentence in sentences(preflight):
        print_message(f"note: {sentence}")


def _columns(measure: str) -> tuple[str, ...]:
    return (measure, *(f"{measure}_{end}" for end in _ENDS))


def _values(measure: str, estimate: "Estimate") -> dict[str, object]:
    values = (estimate.mean, estimate.low, estimate.high, estimate.why)
    return dict(zip(_columns(measure), values, strict=True))


def document(preflight: "Preflight", **provenance: object) -> Document:
    """Make a document of a preflight: a row per configuration and task, and a table of totals."""
    about = ["configuration", "task", "planned", "there", "missing", "basis", "n_items", "n_traces"]
    rows = []
    for cell in preflight.cells:
        row: dict[str, object] = {name: getattr(cell, name) for name in about}
        for measure, estimate in cell.estimates.items():
            row |= _values(measure, estimate)
        rows.append(row)
    names = [c for m in _UNITS for c in _columns(m)]
    total: dict[str, object] = {"planned": preflight.planned, "missing": preflight.missing}
    for measure, estimate in (*preflight.total.items(), ("elapsed_s", preflight.elapsed_s)):
        total |= _values(measure, estimate)
    columns = {
        c: Column(c, "float", unit)
        for m, unit in (*_UNITS.items(), ("elapsed_s", "s"))
        for c in _columns(m)[:3]
    }
    columns |= {
        c: Column(c, "int", "count") for c in ("planned", "there", "missing", "n_items", "n_traces")
    }
    return Document(
        "preflight",
        frame_of(rows, [*about, *names]),
        columns,
        notes=sentences(preflight),
        more={"total": frame_of([total], list(total))},
        provenance=provenance,
    )


def sentences(preflight: "Preflight") -> list[str]:
    """Write warnings of budgets, the elapsed time, unknown totals and notes as sentences."""
    elapsed: list[str] = []
    if preflight.missing != 0 and preflight.elapsed_s.mean is not None:
        elapsed = [f"elapsed about {_span(preflight.elapsed_s, 'elapsed_s')}"]
    reasons: dict[str, list[str]] = {}
    for measure, estimate in preflight.total.items():
        if estimate.mean is None:
            reasons.setdefault(estimate.why or "", []).append(_HEADS[measure])
    unknown = [
        f"the total {', '.join(heads)} {'are' if heads[1:] else 'is'} not known: {why}"
        for why, heads in reasons.items()
    ]
    return [*preflight.warnings, *elapsed, *unknown, *preflight.notes]


def table(preflight: "Preflight", width: int | None = None) -> list[str]:
    """Write a preflight as lines of text: mean (low–high), or a dash and the reason if unknown.

    A measure that is unknown in every row has no column; `sentences` gives the reason.
    """
    rows = [_row(cell) for cell in preflight.cells]
    missing = preflight.missing
    rows.append(
        {
            "configuration": "total",
            "planned": preflight.planned,
            "missing": missing,
            "there": None if missing is None else preflight.planned - missing,
            **{
                _HEADS[m]: UNKNOWN
                if estimate.mean is None
                else _span(estimate, m)  # the notes say why
                for m, estimate in preflight.total.items()
            },
        }
    )
    known = [
        head
        for measure, head in _HEADS.items()
        if any(c.missing and c.estimates[measure].mean is not None for c in preflight.cells)
    ]
    names = ["configuration", "task", "planned", "there", "missing", *known, "estimated from"]
    whole = {c: Column(c, "int", "count") for c in ("planned", "there", "missing")}
    frame = frame_of(rows, names).with_columns(pl.col(pl.String).fill_null(""))
    return list(lines(frame, whole, width=width))


def _row(cell: "Cell") -> dict[str, object]:
    basis = "nothing like it" if cell.missing else ""
    if cell.missing is None:
        basis = "nothing: its code is not imported"
    if cell.basis is not None:
        items = counted(cell.n_items, "item")
        basis = f"{items}, {cell.basis}"
    about = ("configuration", "task", "planned", "there", "missing")
    return {
        **{name: getattr(cell, name) for name in about},
        **{_HEADS[m]: _span(found, m) for m, found in cell.estimates.items()},
        "estimated from": basis,
    }


def _span(estimate: "Estimate", measure: str) -> str:
    if estimate.mean is None:
        return f"{UNKNOWN} {estimate.why or ''}".rstrip()
    ends = (
        _text(estimate.mean, measure),
        _text(estimate.low, measure),
        _text(estimate.high, measure),
    )
    if estimate.low is None or ends[1] == ends[2]:
        return ends[0]
    return f"{ends[0]} ({ends[1]}–{ends[2]})"


def _text(value: float | None, measure: str) -> str:
    if measure == "cost_usd":
        return usd(value)
    if measure.endswith("_s"):
        return f"{decimal(value)}s" if value is not None and value < 100 else clock(value)
    return si(value, "J" if measure == "energy_j" else "").rstrip().replace(" ", "")

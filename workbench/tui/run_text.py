"""Text of a run: its row in the list of runs, and the page about it."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workbench import formats
from workbench.safe import one_line, safe
from workbench.tui.widgets.grid import Cell, GridColumn
from workbench.tui.widgets.rows import Row

if TYPE_CHECKING:
    from workbench.runner.control.protocol import RunState
    from workbench.runner.limits.progress import ModelState

Facts = Mapping[str, Any]
SILENT_S = 5.0  # a live run writes its state about once a second
WIDE = 100  # terminal cells needed to show the last error as well
MAX_ATTEMPTS = 12  # in flight, listed
TONES = {
    "running": "good",
    "paused": "warn",
    "asking": "warn",
    "stopping": "warn",
    "cancelled": "warn",
    "failed": "bad",
    "interrupted": "bad",
}
COLOURS = {"good": "success", "warn": "warning", "bad": "error", "dim": ""}


# -- the list
# ----------------------------------------------------------------------------------------


def live_row(state: "RunState") -> Row:
    """Return the row of a live run; planned counts the attempts of this launch."""
    return {
        "run_id": state.run_id,
        "status": state.status,
        "source": "runner",
        "origin": None,  # made here
        "n_planned": state.done + state.left,
        "n_made": state.done,
        "n_failed": state.failed,
        "left": state.left,
        "rate_per_s": state.rate_per_s,
        "eta_s": state.eta_s,
        "cost_usd": state.spent_usd,
        "energy_j": state.spent_j,
        "started_at": state.started_at,
        "state": state,
    }


def ended_row(state: "RunState") -> Row:
    """Return the row of a run that has ended and is not in the store yet."""
    known = live_row(state)
    return {**known, "left": None, "rate_per_s": None, "eta_s": None, "state": None}


def stored_row(summary: Facts) -> Row:
    """Return the row of a stored run, from its row of `run_summary`."""
    return {
        **summary,
        "n_made": summary["n_traces"],
        "n_failed": summary["n_errors"],
        "left": None,
        "rate_per_s": None,
        "eta_s": None,
        "state": None,
    }


def _status(row: Row) -> Cell:
    status = one_line(row["status"] or formats.UNKNOWN, 14)
    sign = "  " if row["state"] is None else "● "
    return [(sign + status, TONES.get(status, "dim"))]


def _count(key: str) -> Any:
    return lambda row: "" if key == "left" and row["state"] is None else formats.count(row[key])


def _rate(row: Row) -> Cell:
    return "" if row["rate_per_s"] is None else formats.decimal(row["rate_per_s"])


def _eta(row: Row) -> Cell:
    return "" if row["state"] is None else formats.clock(row["eta_s"])


COLUMNS = (
    GridColumn(
        "run_id", "run", lambda row: one_line(row["run_id"], 40), wide=True, most=40, sortable=False
    ),
    GridColumn("status", "  status", _status, sortable=False),
    GridColumn("n_planned", "planned", _count("n_planned"), right=True, rank=4, sortable=False),
    GridColumn("n_made", "made", _count("n_made"), right=True, sortable=False),
    GridColumn("n_failed", "failed", _count("n_failed"), right=True, sortable=False),
    GridColumn("left", "left", _count("left"), right=True, rank=1, sortable=False),
    GridColumn("rate_per_s", "per s", _rate, right=True, rank=5, sortable=False),
    GridColumn("eta_s", "to go", _eta, right=True, sortable=False),
    GridColumn(
        "cost_usd", "$", lambda row: formats.usd(row["cost_usd"]), right=True, sortable=False
    ),
    GridColumn(
        "energy_j",
        "energy",
        lambda row: formats.si(row["energy_j"], "J"),
        right=True,
        rank=6,
        sortable=False,
    ),
    GridColumn(
        "started_at",
        "began (UTC)",
        lambda row: formats.when(row["started_at"]),
        rank=2,
        sortable=False,
    ),
    GridColumn("source", "source", lambda row: one_line(row["source"], 16), rank=7, sortable=False),
    GridColumn(
        "origin",
        "file",
        lambda row: one_line(row["origin"] or "", 40),
        most=40,
        rank=8,
        sortable=False,
    ),
)


# -- the page about a run that is being collected
# ----------------------------------------------------


def live_page(
    state: "RunState", now: dt.datetime, colours: Mapping[str, str], width: int
) -> RenderableType:
    """Write the progress, budgets, models and attempts of a live run."""
    parts: list[RenderableType] = [_progress(state, colours, width)]
    parts += [Text(safe(trouble), colours["warning"]) for trouble in _troubles(state, now)]
    parts += [Text(), _budgets(state, colours)]
    if state.models:
        parts += [Text(), _models(state.models, now, width)]
    if len(state.configurations) > 1:
        parts += [Text(), _configurations(state)]
    if state.attempts:
        parts += [Text(), _attempts(state)]
    parts += [Text(), Text(_about(state), "dim")]
    if state.taken:
        last = state.taken[-1]
        parts.append(Text(safe(f"last command: {last.command}, {last.status}: {last.said}"), "dim"))
    parts += [Text(safe(note), "dim") for note in state.notes]
    return Group(*parts)


def _progress(state: "RunState", colours: Mapping[str, str], width: int) -> Text:
    done = state.before + state.done
    line = Text()
    tone = COLOURS[TONES.get(state.status, "dim")]
    line.append(f"{safe(state.status)}  ", f"bold {colours.get(tone, '')}".strip())
    share = done / state.planned if state.planned else None
    line.append(formats.bar(share, 20 if width >= WIDE else 12), colours["primary"])
    texts = [f"  {formats.count(done)} of {formats.count(state.planned)}"]
    texts += [f"{formats.count(state.failed)} failed"] if state.failed else []
    texts.append(f"{formats.count(state.in_flight)} in flight")
    texts += [] if state.rate_per_s is None else [f"{formats.decimal(state.rate_per_s)} per s"]
    texts += [] if state.eta_s is None else [f"{formats.clock(state.eta_s)} to go"]
    return line.append(" · ".join(texts))


def _troubles(state: "RunState", now: dt.datetime) -> Iterable[str]:
    silent_s = (now - state.at).total_seconds()
    if silent_s > SILENT_S:
        yield f"no news for {formats.clock(silent_s)}; this page shows the last state received"
    if state.paused_since is not None:
        paused_s = (now - state.paused_since).total_seconds()
        yield f"paused for {formats.clock(paused_s)}; p resumes it"
    if state.status == "asking":
        yield "the pilot is finished: answer the question in the terminal where the run was started"
    if trouble := state.trouble(now):
        yield trouble


def _table(*heads: str, n_text_columns: int = 1) -> Table:
    """Make a table with dim heads; the first `n_text_columns` are text, the others figures."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(
            head,
            justify="left" if place < n_text_columns else "right",
            no_wrap=True,
            overflow="ellipsis",
        )
    return table


def _budgets(state: "RunState", colours: Mapping[str, str]) -> Table:
    table = _table("", "spent", "of", "")
    table.columns[-1].justify = "left"
    unpriced = (
        f"{formats.count(state.n_unpriced)} calls without a price" if state.n_unpriced else ""
    )
    for name, spent, limit, written, note in (
        ("dollars", state.spent_usd, state.budget_usd, formats.usd, unpriced),
        ("tokens", state.spent_tokens, state.budget_tokens, formats.count, ""),
        ("energy", state.spent_j, state.budget_j, lambda value: formats.si(value, "J"), ""),
        ("time", state.elapsed_s, state.budget_time_s, formats.clock, ""),
    ):
        share = None if not limit or spent is None else spent / limit
        bar = Text("" if share is None else formats.bar(share, 20), colours["primary"])
        of = "no budget" if limit is None else written(limit)
        table.add_row(name, written(spent), of, bar.append(note, "dim"))
    return table


def _models(models: "Sequence[ModelState]", now: dt.datetime, width: int) -> Table:
    heads = ["model", "in flight", "waiting", "retrying", "refused", "tried again"]
    is_wide = width >= WIDE
    table = _table(*heads, *(["last error"] if is_wide else []))
    for m in models:
        waits = m.paused_until is not None and m.paused_until > now
        window = "none for now" if waits else f"{m.in_flight} of {m.limit} (cap {m.cap})"
        counts = (m.waiting, m.retrying, m.n_overloads, m.n_retries)
        ago = (
            f", {formats.clock((now - m.last_error_at).total_seconds())} ago"
            if m.last_error_at
            else ""
        )
        error = one_line(f"{m.last_error}{ago}" if m.last_error else "", 34)
        table.add_row(
            one_line(m.model, 40 if is_wide else 20),
            window,
            *map(formats.count, counts),
            *([error] if is_wide else []),
        )
    return table


def _configurations(state: "RunState") -> Table:
    table = _table("configuration", "made", "of", "in flight", "failed")
    for c in state.configurations:
        table.add_row(
            one_line(c.configuration, 44),
            formats.count(c.before + c.done),
            formats.count(c.planned),
            formats.count(c.in_flight),
            formats.count(c.failed),
        )
    return table


def _attempts(state: "RunState") -> Table:
    table = _table("in flight", "configuration", "s", "calls", n_text_columns=2)
    for a in state.attempts[:MAX_ATTEMPTS]:
        what = one_line(f"{a.task}/{a.item} trial {a.trial}", 34)
        table.add_row(what, one_line(a.configuration, 30), f"{a.elapsed_s:.1f}", str(a.n_calls))
    if state.in_flight > MAX_ATTEMPTS:
        table.add_row(f"and {state.in_flight - MAX_ATTEMPTS} more", "", "", "")
    return table


def _about(state: "RunState") -> str:
    return safe(
        f"began {formats.when(state.started_at)} UTC · process {state.pid} on {state.host} ·"
        f" {formats.count(state.n_items)} items ·"
        f" {state.concurrency} of {state.concurrency_cap} at once ·"
        f" {state.retries} retries · {state.timeout_s:g} s per request"
    )


# -- the page about a run that is over
# ---------------------------------------------------------------


def stored_page(
    summary: Facts, record: Facts, balances: Sequence[Facts], plan: Sequence[tuple[str, str]]
) -> RenderableType:
    """Write the results, cost and energy of a stored run, and the settings of its plan.

    Args:
        summary: its row of `run_summary`.
        record: its row of `runs`.
        balances: its rows of `energy_balances`.
        plan: names and values of the plan's settings, if known.
    """
    parts: list[RenderableType] = [_facts(summary, record)]
    if balances:
        parts += [Text(), _energy(balances)]
    if plan:
        table = _table("plan", "", n_text_columns=2)
        table.columns[-1].no_wrap, table.columns[-1].overflow = False, "fold"  # names stay whole
        for name, value in plan:
            table.add_row(one_line(name, 30), one_line(value, 400))
        parts += [Text(), table]
        if record.get("kind") == "collect":  # settings of another tool are not a plan
            hint = f"to repeat the run: workbench runs show {record['run_id']} > plan.toml"
            parts += [Text(), Text(safe(hint), "dim")]
    return Group(*parts)


def _facts(summary: Facts, record: Facts) -> Table:
    count = formats.count
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    planned = "" if summary["n_planned"] is None else f"{count(summary['n_planned'])} planned, "
    counts = f"{formats.counted(summary['n_traces'], 'trace')}, {count(summary['n_errors'])} failed"
    right = f"{count(summary['n_passed'])} right of {count(summary['n_scored'])} scored"
    table.add_row("made", f"{planned}{counts}, {right}")
    of = (("n_configurations", "configuration"), ("n_items", "item"), ("n_calls", "call"))
    table.add_row("of", ", ".join(formats.counted(summary[name], noun) for name, noun in of))
    began, ended = summary["started_at"], summary["ended_at"]
    took = None if began is None or ended is None else (ended - began).total_seconds()
    table.add_row("time", f"{formats.clock(took)} from {formats.when(began)} UTC")
    unpriced = (
        f", {formats.counted(summary['n_unpriced'], 'trace')} without a price"
        if summary["n_unpriced"]
        else ""
    )
    billed = summary["billed_cost_usd"]
    bill = "" if billed is None else f", {formats.usd(billed)} billed"
    table.add_row("cost", f"{formats.usd(summary['cost_usd'])}{unpriced}{bill}")
    table.add_row(
        "tokens",
        f"{count(summary['input_tokens'])} in, {count(summary['output_tokens'])} out,"
        f" {count(summary['reasoning_tokens'])} thinking",
    )
    table.add_row("energy", formats.si(summary["energy_j"], "J"))
    where = (record["host"], record["accelerator"], record["origin"])
    if any(where):
        table.add_row("where", safe(" · ".join(str(w) for w in where if w)))
    if record["error_message"]:
        table.add_row("fault", safe(record["error_message"]))
    return table


def _energy(balances: Sequence[Facts]) -> Table:
    table = _table("energy of", "metered", "calls", "idle", "other", "balance", "")
    for b in balances:
        balance = {
            True: "holds",
            False: f"off by {formats.percent(b['mismatch'])} %",
            None: "not measured",
        }
        table.add_row(
            one_line(b["device"], 20),
            *(
                formats.si(b[name], "J")
                for name in ("meter_j", "calls_j", "idle_j", "unattributed_j")
            ),
            balance[b["is_conserved"]],
            one_line(b["note"], 60),
        )
    return table

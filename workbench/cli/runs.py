"""`workbench runs`: finished and live runs, and commands that control live ones."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from workbench.cli.examples import examples
from workbench.cli.options import (
    amount,
    open_store,
    output_options,
    print_message,
    settings,
    store_option,
)
from workbench.errors import ConfigError

if TYPE_CHECKING:
    import polars as pl

    from workbench.cli.output import Document
    from workbench.runner.control.protocol import AnyCommand, RunState
    from workbench.store import Store

WATCH_EVERY_S = 1.0
_STATE_COLUMNS = {
    "run_id": ("text", ""),
    "status": ("text", ""),
    "planned": ("int", "count"),
    "before": ("int", "count"),
    "done": ("int", "count"),
    "failed": ("int", "count"),
    "in_flight": ("int", "count"),
    "left": ("int", "count"),
    "rate_per_s": ("float", ""),
    "eta_s": ("float", "s"),
    "spent_usd": ("float", "USD"),
    "spent_tokens": ("int", "tokens"),
    "spent_j": ("float", "J"),
    "budget_usd": ("float", "USD"),
    "concurrency": ("int", "count"),
    "concurrency_cap": ("int", "count"),
    "retrying": ("int", "count"),
    "host": ("text", ""),
    "pid": ("int", ""),
    "started_at": ("time", ""),
}
_TABLE_COLUMNS = (
    "run_id",
    "status",
    "in_flight",
    "done",
    "failed",
    "left",
    "rate_per_s",
    "eta_s",
    "spent_usd",
    "concurrency",
)


@click.group(
    invoke_without_command=True,
    epilog=examples(
        "workbench runs",
        "workbench runs --format json",
    ),
)
@store_option
@output_options
@click.pass_context
def runs(
    ctx: click.Context, store_path: str | None, format_: str | None, output: Path | None
) -> None:
    """List the runs that you collected or imported.

    A second table shows the progress of live runs. You can control a live run from any terminal:
    pause, resume, stop, set, cancel and requeue take RUN, which is the beginning of a run's id, or
    "latest".
    """
    ctx.obj = {"store": _store_of(ctx, store_path)}
    if ctx.invoked_subcommand is not None:
        return
    from workbench.cli.output import check_output, emit

    check_output(output)
    store = open_store(store_path)
    as_table = output is None and (format_ or settings().format) in {"table", "md"}
    emit(_listing(store, _TABLE_COLUMNS if as_table else tuple(_STATE_COLUMNS)), format_, output)


def _store_of(ctx: click.Context, store_path: str | None) -> str | None:
    """Return the `--store` of the subcommand, of `runs`, or of `workbench`."""
    typed = (ctx.find_object(dict) or {}).get("store")
    return store_path if store_path is not None else typed


def _listing(store: "Store", live_columns: tuple[str, ...]) -> "Document":
    import dataclasses

    from workbench.cli.output import Document
    from workbench.cli.tables import frame_of
    from workbench.runner.control.protocol import live_runs
    from workbench.schema import Column

    document = Document.of_frame("runs", _summary(store), store=str(store.path))
    live = live_runs(store.spool_dir)
    if not live:
        return document
    rows = [{name: getattr(state, name) for name in live_columns} for state in live]
    described = {n: Column(n, kind, unit) for n, (kind, unit) in _STATE_COLUMNS.items()}
    return dataclasses.replace(
        document,
        more={"live": frame_of(rows, live_columns)},
        columns={**described, **document.columns},
    )


def _summary(store: "Store") -> "pl.DataFrame":
    with store.facts("", "run_summary") as frame:
        rows: pl.DataFrame = frame.collect("polars").to_native()
    return rows.sort("started_at", "run_id", nulls_last=True)


@runs.command(
    epilog=examples(
        "workbench runs show latest",
        "workbench runs show latest --format json",
    ),
)
@click.argument("run")
@store_option
@output_options
def show(run: str, store_path: str | None, format_: str | None, output: Path | None) -> None:
    """Print a run's plan as TOML that you can collect again.

    With --format or --output you get the run's row of the table of runs.
    """
    from workbench.cli.output import Document, emit

    store = open_store(store_path)
    with store.facts("", "runs") as frame:
        rows = frame.collect("polars").to_native()
    row = _find_run(rows, run)
    if format_ is not None or output is not None:
        import polars as pl

        emit(
            Document.of_frame("run", rows.filter(pl.col("run_id") == row["run_id"])),
            format_,
            output,
        )
        return
    if not row["plan"]:
        raise ConfigError(
            f"the run {row['run_id']} has no plan: it was imported, not collected; for its row:"
            f" workbench runs show {row['run_id']} --format json"
        )
    click.echo(_plan_text(row), nl=False)
    _print_state(store, row["run_id"])


def _find_run(rows: "pl.DataFrame", text: str) -> Mapping[str, Any]:
    """Return the row of the run whose id begins with `text`, or of the latest run."""
    rows = rows.sort("started_at", "run_id", nulls_last=False)
    if text == "latest":
        rows = rows.tail(1)
    else:
        exact = rows.filter(rows["run_id"] == text)
        rows = exact if exact.height else rows.filter(rows["run_id"].str.starts_with(text))
    if rows.height == 1:
        return rows.row(0, named=True)
    if not rows.height:
        raise ConfigError(f"there is no run {text!r} in the store; to list them: workbench runs")
    names = ", ".join(rows["run_id"].head(5))
    raise ConfigError(f"several runs begin with {text!r}: {names}; type more of the id")


def _plan_text(row: Mapping[str, Any]) -> str:
    """Write a plan without its defaults, under a comment with the run's status and times."""
    from workbench.cli.toml_text import toml_text
    from workbench.formats import when
    from workbench.runner import Plan
    from workbench.safe import safe

    times = f"{when(row['started_at'])} to {when(row['ended_at'])}"
    about = f"run {row['run_id']}: {row['status']}, {times}"
    return f"# {safe(about)}\n{toml_text(Plan.special(row['plan']))}"


def _print_state(store: "Store", run_id: str) -> None:
    """Print the state of a live run to stderr, because stdout has the plan."""
    from workbench.cli.progress import with_trouble
    from workbench.runner.control.protocol import live_runs

    for state in live_runs(store.spool_dir):
        if state.run_id != run_id:
            continue
        print_message(with_trouble(state))
        for c in state.configurations:
            print_message(
                f"  {c.configuration}: {c.before + c.done:,} of {c.planned:,},"
                f" {c.in_flight} in flight, {c.failed} failed"
            )
        for a in state.attempts[:20]:
            print_message(
                f"  {a.task}/{a.item} trial {a.trial} {a.configuration}:"
                f" {a.elapsed_s:.1f} s, {a.n_calls} calls"
            )
        if state.in_flight > 20:
            print_message(f"  and {state.in_flight - 20} more in flight")


def _send(store_path: str | None, run: str, command: "AnyCommand") -> None:
    """Send a command to a live run; exit with status 1 if it was not carried out."""
    from workbench.runner.control import protocol

    store = open_store(store_path, take_in=False)
    state = protocol.find(store.spool_dir, run)
    reply = protocol.send(store.spool_dir, state.run_id, command)
    status = "" if reply.status == "done" else f"{reply.status}: "
    print_message(f"{state.run_id}: {status}{reply.said}")
    if reply.status != "done":
        click.get_current_context().exit(1)


def _run_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument RUN and the option `--store`."""
    return click.argument("run")(store_option(command))


@runs.command(
    epilog=examples(
        "workbench runs pause latest",
        "workbench runs pause 20261201T09",
    ),
)
@_run_argument
def pause(run: str, store_path: str | None) -> None:
    """Start no new attempts; those in flight continue."""
    from workbench.runner.control.protocol import Pause

    _send(store_path, run, Pause())


@runs.command(
    epilog=examples(
        "workbench runs resume latest",
        "workbench runs resume 20261201T09",
    ),
)
@_run_argument
def resume(run: str, store_path: str | None) -> None:
    """Start new attempts again after a pause."""
    from workbench.runner.control.protocol import Resume

    _send(store_path, run, Resume())


@runs.command(
    epilog=examples(
        "workbench runs stop latest",
        "workbench runs stop latest --now",
    ),
)
@_run_argument
@click.option("--now", is_flag=True, help="Cancel the attempts in flight; do not wait for them.")
def stop(run: str, store_path: str | None, now: bool) -> None:
    """End a run when the attempts in flight are finished, as Ctrl-C does."""
    from workbench.runner.control.protocol import Stop

    _send(store_path, run, Stop(now=now))


@runs.command(
    "set",
    epilog=examples(
        "workbench runs set latest --concurrency 16",
        "workbench runs set latest --budget-usd none --timeout-s 120",
    ),
)
@_run_argument
@click.option("--concurrency", type=int, help="Attempts and calls in flight at once.")
@click.option(
    "--budget-usd",
    type=amount("USD", lifts=True),
    metavar="N|none",
    help="Budget of this launch in dollars, or none.",
)
@click.option(
    "--budget-tokens",
    type=amount("tokens", lifts=True),
    metavar="N|none",
    help="Budget of this launch in tokens, or none.",
)
@click.option(
    "--budget-j",
    type=amount("J", lifts=True),
    metavar="N|none",
    help="Budget of this launch in joules, or none.",
)
@click.option(
    "--budget-time-s",
    type=amount("s", lifts=True),
    metavar="N|none",
    help="Budget of this launch in seconds, or none.",
)
@click.option("--retries", type=int, help="Retries of a failed request.")
@click.option("--timeout-s", type=float, help="Timeout of one request in seconds.")
def set_(run: str, store_path: str | None, **changes: Any) -> None:
    """Change the concurrency, budgets, retries or timeout of a run."""
    import msgspec

    from workbench.decoding import describe
    from workbench.runner.control.protocol import BUDGETS, Retune

    lifted = [name for name in BUDGETS if changes[name] == -1.0]
    given = {n: v for n, v in changes.items() if v is not None and n not in lifted}
    if not given and not lifted:
        raise click.UsageError("no setting was given; for the options: workbench runs set --help")
    try:
        command = msgspec.convert({"command": "set", "lift": lifted, **given}, Retune)
    except msgspec.ValidationError as error:
        raise click.UsageError(describe(error, given, Retune.__struct_fields__)) from None
    _send(store_path, run, command)


def _item_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments and options that select attempts: RUN, ITEM, trial, configuration."""
    command = click.option("--configuration", help="Select one configuration, by name or id.")(
        command
    )
    command = click.option(
        "--trial", type=click.IntRange(min=0), help="Select one repeat, counted from 0."
    )(command)
    return click.argument("run")(click.argument("item")(store_option(command)))


@runs.command(
    epilog=examples(
        "workbench runs cancel latest arithmetic/a7",
        "workbench runs cancel latest a7 --trial 0 --configuration smollm2",
    ),
)
@_item_options
def cancel(
    run: str, item: str, trial: int | None, configuration: str | None, store_path: str | None
) -> None:
    """Cancel an item's attempts in flight, and skip those that wait.

    ITEM is the item's name, task/name, or id. The next launch of the same plan makes the attempts.
    """
    from workbench.runner.control.protocol import Cancel

    _send(store_path, run, Cancel(item, trial, configuration))


@runs.command(
    epilog=examples(
        "workbench runs requeue latest arithmetic/a7",
        "workbench runs requeue latest a7 --configuration smollm2",
    ),
)
@_item_options
def requeue(
    run: str, item: str, trial: int | None, configuration: str | None, store_path: str | None
) -> None:
    """Repeat an item's failed or cancelled attempts in the same run.

    ITEM is the item's name, task/name, or id.
    """
    from workbench.runner.control.protocol import Requeue

    _send(store_path, run, Requeue(item, trial, configuration))


@runs.command(
    epilog=examples(
        "workbench runs watch latest",
        "workbench runs watch 20261201T09",
    ),
)
@_run_argument
def watch(run: str, store_path: str | None) -> None:
    """Print a line a second until a run ends."""
    from workbench.runner.control import protocol

    store = open_store(store_path, take_in=False)
    run_id = protocol.find(store.spool_dir, run).run_id
    folder = protocol.control_dir(store.spool_dir) / run_id
    while True:
        is_live = protocol.is_live(folder)  # read first: the last state is written before the end
        state = protocol.state_of(store.spool_dir, run_id)
        if state is None:  # a later collection removed the folder of this run
            print_message(f"{run_id} has ended; for its result: workbench runs")
            return
        click.echo(_watched(state))
        if state.ended or not is_live:
            break
        time.sleep(WATCH_EVERY_S)
    if not state.ended:
        print_message(
            f"the process of {run_id} has gone; to continue it, run the same collect command"
        )
    click.get_current_context().exit(0 if state.status == "done" else 1)


def _watched(state: "RunState") -> str:
    from workbench.cli.progress import with_trouble
    from workbench.safe import safe

    return safe(with_trouble(state))
